"""What pruning saves of memory, drawn from records whose bytes are known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adamwprune.plan.spec import RunSpec
from adamwprune.report import style
from adamwprune.report.figures import draw_savings, savings
from adamwprune.report.groups import settings
from tests.support.records import WEIGHTS, elsewhere, expand, synthetic

PARTS = ("study-memory", "study-memory-packed", "study-memory-released", "study-memory-sparse")
WAYS = [
    "dense",
    "magnitude 90%, mask of bytes",
    "movement 90%, mask of bytes",
    "state 90%, mask implied",
    "state 90%, states packed",
    "dense, gradients released",
    "state 90%, states packed, gradients released",
    "state 90%, states packed, gradients released, from 50% on",
]


def record(spec):
    """Packed states take a tenth from step 10 on."""
    found = synthetic(spec)
    memory = dict(found.memory)
    if spec["RELEASE_GRADIENTS"]:
        memory["gradients"] = 192_000
    start = end = memory["gradients"] + WEIGHTS + 192 + sum(memory["optimizer"].values())
    if spec.values.get("MASK_STORAGE") == "packed":
        memory["optimizer"] = {"exp_avg": 24_700, "exp_avg_sq": 24_700, "step": 56}
        memory["pruner"] = {"masks": 24_588}
        end = memory["gradients"] + WEIGHTS + 192 + 49_456 + 24_588
        start = start - 200_000 if spec["INITIAL_SPARSITY"] else start
    else:
        start = end = start + sum(memory["pruner"].values())
    course = {"step": [1, 10], "total": [start, end]}
    return replace(found, memory={**memory, "total": end, "peak": start, "course": course})


@pytest.fixture(scope="module")
def records():
    return [record(spec) for part in PARTS for spec in expand(part, SEED="0")]


@pytest.fixture(scope="module")
def figures(records):
    with style.sheet():
        return {each.name: each.figure for each in savings.of_study(records)}


def test_each_way_is_a_bar_with_its_owners_total_and_peak(records, figures):
    axes = figures["memory_efficiency_summary"].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == WAYS
    dense = records[0].memory["total"]
    shares = {savings.way(each.spec): each.memory["total"] / dense for each in records}
    ends = dict.fromkeys(range(len(WAYS)), 0.0)
    for bar in axes.patches:
        row = round(bar.get_y() + bar.get_height() / 2)
        ends[row] = max(ends[row], bar.get_x() + bar.get_width())
    assert list(ends.values()) == pytest.approx([shares[way] for way in WAYS])
    peaks = [line.get_xdata()[0] for line in axes.lines]
    expected = {savings.way(each.spec): each.memory["peak"] / dense for each in records}
    assert peaks == pytest.approx([expected[way] for way in WAYS])
    assert "0.99 MB, 100%; peak 100%" in [text.get_text() for text in axes.texts]


def test_each_way_is_a_course_over_the_steps(records, figures):
    axes = figures["memory_over_steps"].axes[0]
    assert len(axes.lines) == len(WAYS)
    dense = records[0].memory["total"]
    by_way = {savings.way(each.spec): each.memory["course"]["total"] for each in records}
    for way, line in zip(WAYS, axes.lines, strict=True):
        start, end = (total / dense for total in by_way[way])
        assert list(line.get_ydata()) == pytest.approx([start, end, end])
        assert line.get_drawstyle() == "steps-post"
    assert axes.get_ylim()[0] == 0


def test_networks_have_their_rows_in_one_order_and_a_sign_where_it_is_explained(records):
    """Of the second network the last two ways take more bytes in the other order."""
    other = [replace(r, spec=RunSpec({**r.spec.values, "MODEL": "resnet8"})) for r in records]
    other = [elsewhere(replace(r, run_id=r.spec.run_id), threads=1) for r in reversed(other)]
    sizes = {way: 10_000 + 1_000 * n for n, way in enumerate(WAYS)}
    other = [replace(r, memory={**r.memory, "total": sizes[savings.way(r.spec)]}) for r in other]
    with style.sheet():
        summary, over_steps = (each.figure for each in savings.of_study([*records, *other]))
    first, second = ([t.get_text() for t in axes.get_yticklabels()] for axes in summary.axes)
    assert first == WAYS
    assert second == [f"{way} †" for way in WAYS]
    titles = [axes.get_title(loc="left") for axes in over_steps.axes]
    assert titles == ["lenet5 on mnist, adamw", "resnet8 on mnist, adamw †"]
    assert all("† cpu" in figure.get_supxlabel() for figure in (summary, over_steps))


def test_files_are_written_with_what_they_plot(records, tmp_path):
    found = {path.relative_to(tmp_path).as_posix() for path in draw_savings(records, tmp_path)}
    names = ("memory_efficiency_summary", "memory_over_steps")
    assert found == {
        path for name in names for path in (f"{name}.png", f"{name}.svg", f"data/{name}.json")
    }


def test_without_dense_training_there_is_nothing_to_compare(records):
    assert not list(savings.of_study(records[1:]))


def test_a_matrix_with_packed_states_has_its_course_drawn(records):
    packed = [each for each in records if each.spec.values.get("MASK_STORAGE") == "packed"]
    for each, count in ((packed[:1], 1), (records[:4], 0)):
        (setting,) = settings([one.spec for one in each], each)[:1]
        with style.sheet():
            assert len(list(savings.of_setting(setting))) == count
