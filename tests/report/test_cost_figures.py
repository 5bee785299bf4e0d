"""Multiply-adds, agreement with magnitude, deep networks and a GPU's driver: small cases."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from adamwprune.records.record import RunResult
from adamwprune.report import style
from adamwprune.report.figures import masks, operations, optimizers, parts, sensors, sparsity
from adamwprune.report.figures.parts import NotDrawn
from adamwprune.report.groups import settings
from tests.report.test_course_figures import accurate, figure_of, lines, only, small_print
from tests.support.records import Make, aged, expand


@pytest.fixture(scope="module")
def adamw(make: Make) -> list[RunResult]:
    """adamw dense, and by magnitude and movement at three sparsities."""
    return [make(s) for s in expand("memory-comparison") if s["OPTIMIZER"] == "adamw"]


def left(record: RunResult, multiply_adds: int) -> RunResult:
    operations = {**record.operations, "multiply_adds": 1000, "multiply_adds_left": multiply_adds}
    return replace(record, operations=operations)


def test_accuracy_against_multiply_adds(adamw):
    """1,000 of them: of 500, 400 and 100 left the speed-up is 2, 2.5 and 10."""
    lefts = {0.0: 1000, 0.5: 500, 0.7: 400, 0.9: 100}
    records = [accurate(left(r, lefts[r.spec.sparsity]), 99 - r.spec.sparsity) for r in adamw]
    figure = figure_of(operations.accuracy_against_speed_up, records)
    assert [axes.get_title(loc="left") for axes in figure.axes[:2]] == ["Magnitude", "Movement"]
    curve = lines(figure.axes[0], "_child")[0]
    assert curve == [pytest.approx(p) for p in ([1, 99], [2, 98.5], [2.5, 98.3], [10, 98.1])]
    assert figure.axes[0].get_xscale() == "log"
    assert "one forward pass, 0.001 million in the dense network" in small_print(figure)


@pytest.mark.parametrize("left_of_1000", [950, 700, 300])
def test_the_dense_network_has_a_tick_on_the_axis_of_speed_ups(adamw, left_of_1000):
    records = [left(r, left_of_1000 if r.spec.sparsity else 1000) for r in adamw]
    axes = figure_of(operations.accuracy_against_speed_up, records).axes[0]
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert ticks[0] == 1
    assert 2 <= len(ticks) <= 6


def test_runs_without_multiply_adds_are_named(adamw):
    old = [aged(r) if "movement-90" in r.run_id else r for r in adamw]
    figure = figure_of(operations.accuracy_against_speed_up, old)
    expected = "Not drawn: adamw movement 90% (no multiply-adds in the records)."
    assert expected in small_print(figure)
    assert len(lines(figure.axes[1], "_child")[0]) == 3
    found = only(operations.accuracy_against_speed_up, [aged(r) for r in adamw])
    assert found == NotDrawn(
        "accuracy_against_speed_up", "no record counts its multiply-adds; new runs do"
    )


def test_a_network_of_which_nothing_is_left_has_no_speed_up(adamw):
    records = [left(r, 0 if r.spec.sparsity == 0.9 else 500) for r in adamw]
    figure = figure_of(operations.accuracy_against_speed_up, records)
    assert "adamw magnitude 90%" in small_print(figure)


def test_agreement_is_drawn_at_the_steps_where_it_was_measured(adamw):
    def some(record):
        updates = [
            {k: v for k, v in each.items() if k != "magnitude_agreement" or place % 2}
            for place, each in enumerate(record.pruning["updates"])
        ]
        return replace(record, pruning={**record.pruning, "updates": updates})

    records = [some(r) for r in adamw]
    figure = figure_of(masks.magnitude_agreement, records)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Movement", "", ""], "under magnitude it is 1"
    (curve,) = lines(figure.axes[0], "adamw movement 50%")
    (record,) = (r for r in records if "adamw-movement-50" in r.run_id)
    steps = [each["step"] for each in record.pruning["updates"]][1::2]
    assert curve == [[step, pytest.approx(0.4)] for step in steps]
    old = [aged(r) if r.spec.sparsity == 0.9 else r for r in records]
    told = "Not drawn: adamw movement 90% (no agreement in the records)."
    assert told in small_print(figure_of(masks.magnitude_agreement, old))
    assert isinstance(only(masks.magnitude_agreement, [aged(r) for r in adamw]), NotDrawn)


def test_nothing_is_said_of_agreement_where_magnitude_decides(adamw):
    records = [r for r in adamw if r.spec["PRUNING_METHOD"] in ("none", "magnitude")]
    (setting,) = settings([r.spec for r in records], records)
    assert not list(masks.magnitude_agreement(setting))


def test_layers_of_a_deep_network_are_named_at_even_distances(adamw):
    layers = [
        {"name": f"block{n}.weight", "numel": 100 + n, "zeros": 90 + n // 10} for n in range(54)
    ]
    records = [
        replace(r, pruning={**r.pruning, "layers": layers}) for r in adamw if r.spec.sparsity
    ]
    figure = figure_of(masks.layer_density, records)
    lowest = figure.axes[-1]
    names = [label.get_text() for label in lowest.get_xticklabels()]
    assert names == [f"block{n} ({n + 1})" for n in (0, 9, 18, 26, 35, 44, 53)]
    assert lowest.get_ylim()[1] < 40, "as high as the densest layer, not 100%"
    assert len(lines(lowest, "adamw movement")[0]) == 54
    assert "54 layers in the order of the network, of 100 to 153 weights" in small_print(figure)


def test_a_gpu_over_time(adamw, make):
    def reported(record, **columns):
        sensors = {"step": [10, 20], "seconds": [1.0, 2.0], **columns}
        return replace(record, memory={**record.memory, "device": {"sensors": sensors}})

    records = [reported(r, power=[300.0, 320.0], utilization=[0.5, 0.75]) for r in adamw]
    figure = figure_of(sensors.gpu_over_time, records)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Utilisation", "Power"]
    assert lines(figure.axes[0], "adamw dense") == [[[1, 50], [2, 75]]]
    assert lines(figure.axes[1], "adamw movement 90%") == [[[1, 300], [2, 320]]]
    assert len(figure.axes[1].lines) == 3, "dense, and the highest sparsity of two methods"
    (setting,) = settings([r.spec for r in adamw], adamw)
    assert not list(sensors.gpu_over_time(setting)), "no driver reported anything"


@pytest.mark.parametrize("draw", [optimizers.at_each_sparsity, sparsity.accuracy_against_sparsity])
def test_panels_of_many_methods_stand_in_rows_of_three(make, draw):
    specs = [s for s in expand("study-scores") if s["SEED"] == 0 and s.sparsity in (0, 0.9)]
    with style.sheet(specs):
        (setting,) = settings(specs, [make(s) for s in specs])
        (drawing,) = draw(setting)
        methods = [parts.panel_title(tag, []) for tag in setting.tags]
        panels = [a for a in drawing.figure.axes if a.get_title(loc="left") in methods]
    assert len(panels) == len(methods) > 3
    columns = {axes.get_subplotspec().colspan.start for axes in panels}
    assert columns == {0, 1, 2}
    assert drawing.figure.get_figwidth() < 20, "inches"
    assert len({axes.get_ylim() for axes in panels}) == 1
    named = [axes for axes in panels if axes.get_ylabel()]
    assert len(named) == -(-len(methods) // 3)


def test_methods_side_by_side(make):
    specs = [s for s in expand("study-scores") if s["SEED"] == 0]
    records = [make(s) for s in specs]
    figure = figure_of(operations.methods, records)
    (setting,) = settings(specs, records)
    names = list(dict.fromkeys(group.method for group in setting.pruned()))
    assert len(names) >= 3
    against_sparsity, against_speed_up = figure.axes[:2]
    assert against_speed_up.get_xscale() == "log"
    assert len(lines(against_sparsity, "_child")) >= len(names)
    (key,) = figure.legends
    assert [text.get_text() for text in key.get_texts()] == [*names, "dense, mean"]
    dense = [c.lines[0] for c in against_speed_up.containers if c.get_label().endswith("dense")]
    assert dense[-1].get_color() == style.INK
    assert dense[-1].get_xydata().tolist() == [[1, pytest.approx(records[0].score)]]
    value = against_sparsity.transData.transform((90, 0))[0]
    dots = [c.lines[0] for c in against_sparsity.containers if c.get_label().endswith("90%")]
    beside = [line.get_transform().transform((90, 0))[0] - value for line in dots]
    steps = {round(72 / figure.dpi * (b - a), 6) for a, b in itertools.pairwise(sorted(beside))}
    assert steps == {2.2}, "points from each method's interval to the next one's"
    few = [r for r in records if r.spec["PRUNING_METHOD"] in ("none", "magnitude")]
    (setting,) = settings([r.spec for r in few], few)
    assert not list(operations.methods(setting))
