"""Accuracy against sparsity and bytes, masks, weights, norms and times: literal small cases."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.text import Text

from adamwprune.base.errors import UserError
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import FROZEN, STALE, RunResult
from adamwprune.report import figures, style
from adamwprune.report.figures import (
    FIGURES,
    draw_all,
    draw_comparison,
    draw_training,
    masks,
    memory,
    models,
    optimizers,
    panels,
    scales,
    sparsity,
    steps,
    times,
)
from adamwprune.report.figures.parts import INTERVAL, Drawing, NotDrawn
from adamwprune.report.figures.sweeps import courses
from adamwprune.report.groups import Setting, settings
from adamwprune.report.statistics import reach
from adamwprune.report.sweeps import sweeps
from tests.support.records import PRUNABLE, Make, aged, elsewhere, expand, marked

HALF = {2: 12.706205, 3: 4.302653}  # Student's t at 97.5%, 1 and 2 degrees of freedom (tables)


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn does not depend on the resolution."""
    monkeypatch.setitem(style.SHEET, "figure.dpi", 50)


def only(draw: Callable[[Setting], object], records: Sequence[RunResult], specs=None):
    """What ``draw`` makes of these records, and of nothing else."""
    with style.sheet():
        (setting,) = settings(specs or [r.spec for r in records], records)
        (found,) = draw(setting)
    return found


def figure_of(draw, records: Sequence[RunResult], specs=None) -> Figure:
    found = only(draw, records, specs)
    assert isinstance(found, Drawing)
    return found.figure


def accurate(record: RunResult, percent: float, total: int = 1024) -> RunResult:
    """The same run with another final accuracy, and so many bytes in all."""
    memory = {**record.memory, "total": total}
    return replace(record, final={**record.final, "test_accuracy": percent / 100}, memory=memory)


def lines(axes: Axes, label: str = "") -> list[list[list[float]]]:
    """The points of the lines whose label starts so."""
    found = [each for each in axes.lines if str(each.get_label()).startswith(label)]
    return [np.asarray(each.get_xydata()).tolist() for each in found]


def bands(axes: Axes) -> list[np.ndarray]:
    found = [each for each in axes.collections if isinstance(each, PolyCollection)]
    return [np.asarray(each.get_paths()[0].vertices) for each in found]


def small_print(figure: Figure) -> str:
    return " ".join(figure.get_supxlabel().split())


@pytest.fixture(scope="module")
def seeds() -> list[RunSpec]:
    """adamw, dense and by magnitude at two sparsities, three seeds each."""
    return [
        spec
        for spec in expand("memory-comparison", SEED="0 1 2")
        if spec["OPTIMIZER"] == "adamw"
        and spec["PRUNING_METHOD"] != "movement"
        and spec.sparsity in (0.0, 0.5, 0.9)
    ]


def by_seed(make: Make, specs: Sequence[RunSpec], middle: float = 99.0) -> list[RunResult]:
    """Accuracies of ``middle`` − 10 · sparsity, and a tenth more or less by seed."""
    return [
        accurate(make(s), middle - 10 * s.sparsity + (s["SEED"] - 1) / 10, 1024 * (2 + s["SEED"]))
        for s in specs
    ]


# -- accuracy against sparsity and bytes ---------------------------------------


def test_reach_is_student_over_the_root_of_n():
    for n, quantile in HALF.items():
        assert reach(n) == pytest.approx(quantile / math.sqrt(n), rel=1e-6)


def test_accuracy_at_each_sparsity_with_its_interval(seeds, make):
    figure = figure_of(sparsity.accuracy_against_sparsity, by_seed(make, seeds))
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == "Magnitude"
    mean_line = lines(axes, "_child")[0]
    assert mean_line == [[0, pytest.approx(99)], [50, pytest.approx(94)], [90, pytest.approx(90)]]
    assert lines(axes, "adamw dense")[0] == [[0, pytest.approx(99)], [1, pytest.approx(99)]]
    whiskers = [c for c in axes.containers if c.has_yerr]
    half = HALF[3] * 0.1 / math.sqrt(3)
    (segment,) = whiskers[1].lines[2][0].get_segments()
    assert segment.tolist() == [[50, pytest.approx(94 - half)], [50, pytest.approx(94 + half)]]
    assert not bands(axes), "one mark an interval"
    assert [float(tick) for tick in axes.get_xticks()] == [0, 50, 90]
    assert "n = 3 runs, means; whiskers: 95%" in small_print(figure)


def test_one_seed_has_no_interval(seeds, make):
    records = [r for r in by_seed(make, seeds) if r.spec["SEED"] == 0]
    axes = figure_of(sparsity.accuracy_against_sparsity, records).axes[0]
    assert not bands(axes)
    assert not any(c.has_yerr for c in axes.containers)


def test_a_few_low_accuracies_do_not_squeeze_the_others(seeds, make):
    records = by_seed(make, [s for s in seeds if s["SEED"] == 0])
    assert len(figure_of(sparsity.accuracy_against_sparsity, records).axes) == 1
    specs = [s for s in expand("memory-comparison") if s["OPTIMIZER"] in ("adamw", "sgd")]
    low = [accurate(make(s), 60 if s.slug.startswith("lenet5-mnist-sgd-movement") else 98.5)
           for s in specs]  # fmt: skip
    low[0] = accurate(low[0], 99.0)
    axes = figure_of(sparsity.accuracy_against_sparsity, low).axes[0]
    assert axes.get_ylabel() == "test accuracy (%; log scale of the error)"
    bottom, far, near, best, top = axes.transData.transform(
        [(0, y) for y in (axes.get_ylim()[0], 60, 98.5, 99, axes.get_ylim()[1])]
    )[:, 1]
    assert bottom < far < near < best < top
    assert (best - near) / (top - bottom) == pytest.approx(
        math.log(1.5) / math.log(scales.MARGIN**2 * 40), rel=1e-6
    ), "the errors 1.5 and 1 lie as far apart as their ratio says"
    assert list(axes.get_yticks()) == [99, 98, 95, 90, 80, 50]


def test_intervals_lie_within_a_logarithmic_axis_but_none_squeezes_it(seeds, make):
    """Means 99 and 90, with deviations of 0.1 and 1.5; then one interval that goes below zero."""
    for wide, lowest in ((1.5, 90 - HALF[3] * 1.5 / math.sqrt(3)), (40.0, 100 - 3 * 10)):
        apart = {0.0: 0.1, 0.5: 0.1, 0.9: wide}
        records = [
            accurate(make(s), 99 - 10 * s.sparsity + apart[s.sparsity] * (s["SEED"] - 1))
            for s in seeds
        ]
        axes = figure_of(sparsity.accuracy_against_sparsity, records).axes[0]
        assert axes.get_yscale() == "function"
        assert 100 - axes.get_ylim()[0] == pytest.approx(scales.MARGIN * (100 - lowest))


def test_a_stale_run_is_hollow_and_named(seeds, make):
    records = by_seed(make, seeds)
    records = [marked(r, STALE) if r.spec.sparsity == 0.5 else r for r in records]
    figure = figure_of(sparsity.accuracy_against_sparsity, records)
    faces = [c.lines[0].get_markerfacecolor() for c in figure.axes[0].containers]
    assert [face == "white" for face in faces] == [False, True, False]
    assert "Stale (hollow): adamw magnitude 50%." in small_print(figure)
    assert "Stale (3 of 9 runs): other code produced the run" in small_print(figure)


def test_failed_and_missing_runs_are_named_and_not_drawn(seeds, make):
    records = [
        make(r.spec, status="failed") if r.spec.sparsity == 0.9 else r
        for r in by_seed(make, seeds)
        if r.spec.sparsity
    ]
    for draw in (sparsity.accuracy_against_sparsity, sparsity.pareto):
        figure = figure_of(draw, records, seeds)
        text = "Not drawn: adamw dense (missing); adamw magnitude 90% (failed)."
        assert text in small_print(figure)
        assert len(figure.axes[0].containers) == 1


def test_runs_that_hide_each_other_are_named(make):
    specs = [
        s
        for s in expand("memory-comparison")
        if s["OPTIMIZER"] in ("adamwspam", "adamwprune") and s["PRUNING_METHOD"] == "magnitude"
    ]
    twins = {s.sparsity: make(s) for s in specs}
    records = [replace(make(s), history=twins[s.sparsity].history) for s in specs]
    figure = figure_of(sparsity.accuracy_against_sparsity, records)
    told = "drawn once: adamwspam = adamwprune magnitude 50%, magnitude 70%, magnitude 90%."
    assert told in small_print(figure)
    assert len(figure.axes[0].containers) == 3
    figure = figure_of(sparsity.accuracy_against_sparsity, [make(s) for s in specs])
    assert "drawn once" not in small_print(figure)
    assert len(figure.axes[0].containers) == 6


def test_runs_of_other_seeds_hide_each_other_too(make):
    """Two seeds of the one and three of the other, equal where both are there."""
    specs = [
        s
        for s in expand("memory-comparison", SEED="0 1 2", TARGET_SPARSITY="0.5")
        if s["OPTIMIZER"] in ("adamwspam", "adamwprune") and s["PRUNING_METHOD"] == "magnitude"
    ]
    courses = {s["SEED"]: make(s).history for s in specs}
    records = [replace(make(s), history=courses[s["SEED"]]) for s in specs]
    fewer = [r for r in records if (r.spec["OPTIMIZER"], r.spec["SEED"]) != ("adamwspam", 1)]
    told = "drawn once: adamwspam = adamwprune magnitude 50%."
    for draw in (sparsity.accuracy_against_sparsity, masks.layer_density):
        figure = figure_of(draw, fewer)
        assert told in small_print(figure)
        assert not lines(figure.axes[0], "adamwprune magnitude 50%")
    other = replace(fewer[-1], history=make(fewer[-1].spec).history[:-1])
    assert told not in small_print(figure_of(masks.layer_density, [*fewer[:-1], other]))


def test_a_row_names_all_whose_runs_are_the_same(make):
    specs = [s for s in expand("memory-comparison") if s.sparsity == 0.5]
    spam = next(make(s) for s in specs if s.slug.startswith("lenet5-mnist-adamwspam-mag"))
    records = [
        replace(make(s), history=spam.history)
        if s.slug.startswith("lenet5-mnist-adamwprune-mag")
        else make(s)
        for s in specs
    ]
    with style.sheet():
        (setting,) = settings(specs, records)
        (found,) = optimizers.at_each_sparsity(setting)
    curves, _, dots = found.figure.axes
    rows = [label.get_text() for label in dots.get_yticklabels()]
    assert "adamwspam = adamwprune  magnitude" in rows
    assert len(rows) == 11
    assert len(lines(curves)) - len(lines(curves, "_child")) == 5


def test_the_frontier():
    points = [(3.0, 5.0), (1.0, 1.0), (2.0, 4.0), (2.0, 3.0), (4.0, 5.0), (5.0, 2.0), (6.0, 6.0)]
    assert sparsity.frontier(points) == [(1, 1), (2, 4), (3, 5), (6, 6)]
    assert sparsity.frontier([]) == []


def test_bytes_are_the_ledgers_and_the_frontier_is_marked(seeds, make):
    chosen = [s for s in seeds if s["SEED"] == 0]
    worth = {0.0: (98.0, 4096), 0.5: (99.0, 3072), 0.9: (97.0, 2048)}
    records = [accurate(make(s), *worth[s.sparsity]) for s in chosen]
    figure = figure_of(sparsity.pareto, records)
    half, most = figure.axes[:2]
    assert half.get_title(loc="left") == "50% sparsity, and dense"
    assert [c.get_label() for c in half.containers] == ["adamw dense", "adamw magnitude 50%"]
    assert lines(half, "frontier") == [[[3.0, pytest.approx(99)]]]
    assert lines(most, "frontier") == [[[2.0, pytest.approx(97)], [4.0, pytest.approx(98)]]]
    assert [np.ravel(c.lines[0].get_xydata()).tolist() for c in most.containers] == [
        [4.0, pytest.approx(98)],
        [2.0, pytest.approx(97)],
    ]


# -- masks and weights -----------------------------------------------------------


def test_density_of_each_layer(seeds, make):
    records = [make(s) for s in seeds if s.sparsity]
    layers = [{"name": "a.weight", "numel": 10, "zeros": 5}, {"name": "b", "numel": 4, "zeros": 4}]
    records = [
        replace(r, pruning={**r.pruning, "layers": [{**layers[0], "zeros": 5 + n % 3}, layers[1]]})
        for n, r in enumerate(records)
    ]
    figure = figure_of(masks.layer_density, records)
    found = lines(figure.axes[0], "adamw magnitude 50%")
    assert found == [[[0, pytest.approx(40)], [1, 0]]]
    assert lines(figure.axes[0], "all layers")[0] == [[0, 50], [1, 50]]
    band = bands(figure.axes[0])[0]
    half = HALF[3] * 10 / math.sqrt(3)
    assert band[0].tolist() == [0, pytest.approx(40 - half)]
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == ["a", "b"]
    assert "Weights of the layers, from left to right: 10, 4." in small_print(figure)


def test_changes_of_the_mask_count_what_returns_twice():
    """90 pruned, then 20 more of which 5 stand for 5 that came back: 25 + 5 of 1,000."""
    updates = [
        {"step": 10, "target": 0.09, "zeros": 90, "returned": 0},
        {"step": 20, "target": 0.11, "zeros": 110, "returned": 5},
    ]
    (spec,) = expand("adamw-magnitude-90")
    record = RunResult(spec.run_id, "done", spec, pruning={"prunable": 1000, "updates": updates})
    assert masks.changes(record) == [9.0, pytest.approx(3.0)]
    old = [{k: v for k, v in each.items() if k != "returned"} for each in updates]
    pruning = {"prunable": 1000, "updates": old, "returned": 5}
    assert masks.changes(replace(record, pruning=pruning)) is None, "which update it was is lost"
    assert masks.changes(replace(record, pruning={**pruning, "returned": 0})) == [9.0, 2.0]
    assert masks.changes(replace(record, pruning={**pruning, "updates": []})) is None


def test_changes_are_drawn_over_the_steps(make):
    specs = [s for s in expand("memory-comparison") if s["OPTIMIZER"] == "adamw" and s.sparsity]
    records = [make(s) for s in specs]
    figure = figure_of(masks.mask_change, records)
    assert {a.get_title(loc="left") for a in figure.axes} == {"Movement", ""}, "magnitude: none"
    (curve,) = lines(figure.axes[0], "adamw movement 50%")
    record = next(r for r in records if "adamw-movement-50" in r.run_id)
    assert [point[0] for point in curve] == [u["step"] for u in record.pruning["updates"]]
    first, second = record.pruning["updates"][:2]
    assert curve[1][1] == pytest.approx(100 * (second["zeros"] - first["zeros"] + 2 * 7) / PRUNABLE)
    old = [aged(r) for r in records]
    assert isinstance(only(masks.mask_change, old), NotDrawn)
    mixed = [aged(r) if r.spec.sparsity == 0.5 else r for r in records]
    told = small_print(figure_of(masks.mask_change, mixed))
    assert "Not drawn: adamw movement 50% (no returns of each update in the records)" in told
    found = only(masks.mask_change, [r for r in old if "-movement-" in r.run_id])
    assert isinstance(found, NotDrawn)


def test_weights_before_and_after(seeds, make):
    figure = figure_of(masks.weight_histogram, [make(s) for s in seeds if s.sparsity])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Before the first update", "Magnitude"]
    before, after = (
        (patch.get_data().values.tolist(), patch.get_data().edges.tolist())
        for axes in figure.axes
        for patch in axes.patches
        if isinstance(patch, StepPatch)
    )
    k = math.floor(0.9 * PRUNABLE + 0.5)
    assert before == ([20_000, 41_470], [-0.25, 0.0, 0.25])
    assert after == ([PRUNABLE - k - 100, 60], before[1])
    assert f"beyond ±0.25, after training {100 * 40 / (PRUNABLE - k):.2g}% of" in small_print(
        figure
    )
    assert figure.get_suptitle() == "Weights before and after pruning to 90%"


# -- norms -----------------------------------------------------------------------


def test_norms_spikes_and_rates(make):
    specs = [
        s
        for s in expand("memory-comparison", SEED="0 1 2")
        if s["OPTIMIZER"] in ("adamw", "adamwspam") and not s.sparsity
    ]
    figure = figure_of(steps.gradient_norms, [make(s) for s in specs])
    norms_of, rates = figure.axes
    at = [295, 590, 885, 1180]
    (norms,) = lines(norms_of, "adamw dense")
    geometric = [math.cbrt(1 * 2 * 3) * n for n in (4, 3, 2, 1)]  # of seeds 0, 1 and 2
    assert norms == [[x, pytest.approx(y)] for x, y in zip(at, geometric, strict=True)]
    (spikes,) = lines(norms_of, "adamwspam: 4 spikes")
    assert [point[0] for point in spikes] == [590, 1180]
    assert lines(rates, "adamw, adamwspam") == [  # the same, drawn once
        [[x, pytest.approx(0.008 / n)] for x, n in zip(at, (1, 2, 3, 4), strict=True)]
    ]
    first = [y for x, y in bands(norms_of)[0].tolist() if x == 295]
    half = HALF[3] / math.sqrt(3) * np.std(np.log([4, 8, 12]), ddof=1)
    assert min(first) == pytest.approx(geometric[0] * math.exp(-half), rel=1e-5)
    assert max(first) == pytest.approx(geometric[0] * math.exp(half), rel=1e-5)


def test_rates_that_all_methods_share_are_drawn_once(make):
    specs = [s for s in expand("memory-comparison") if s["OPTIMIZER"] == "adamw"]
    figure = figure_of(steps.gradient_norms, [make(s) for s in specs])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Dense", "Magnitude", "Movement", ""]
    assert len(lines(figure.axes[-1], "adamw")) == 1


def test_resets_are_marked_where_the_record_has_them(make):
    specs = expand("adamw", SPAM_MODE="paper", SPAM_INTERVAL="500")
    figure = figure_of(steps.gradient_norms, [make(s) for s in specs])
    norms, rates = figure.axes
    for axes in (norms, rates):
        assert [points[0][0] for points in lines(axes, "moments reset")] == [501, 1001]


# -- times -----------------------------------------------------------------------


def bars(axes: Axes) -> list[float]:
    return [p.get_width() for c in axes.containers for p in c if isinstance(p, Rectangle)]


def test_times_of_shared_machines_are_withheld_until_they_are_measured(seeds, make):
    for word in (False, None, "yes"):
        records = [elsewhere(make(s), alone=word) for s in seeds]
        found = only(times.time_per_run, records)
        assert found == NotDrawn("time_per_run", times.NOT_ALONE)
    assert "make measure" in found.why


def test_times_of_runs_that_were_alone_are_bars(seeds, make):
    records = [elsewhere(make(s), alone=True) for s in seeds if s["SEED"] == 0]
    (axes,) = figure_of(times.time_per_run, records).axes
    assert bars(axes) == [pytest.approx(n) for n in (12.0, 1.2, 1.0)] * 3


def test_only_runs_that_were_alone_are_timed(seeds, make):
    records = [elsewhere(make(s), alone=s["SEED"] < 2 and s.sparsity != 0.9) for s in seeds]
    records[0] = replace(records[0], seconds={**records[0].seconds, "total": 16.2, "train": 14.0})
    records = [r for r in records if r.spec.sparsity != 0.5 or r.spec["SEED"] == 1]
    found = only(times.time_per_run, records, seeds)
    assert found.figure.get_suptitle() == "Time per run"
    (axes,) = found.figure.axes
    assert [each.get_text() for each in axes.texts] == [
        "15.2 ± 1.4 s  n = 2 of 3",
        "14.2 s  n = 1 of 3",
        "only runs that shared the machine",
    ]
    assert bars(axes)[:3] == [pytest.approx(n) for n in (13.0, 1.2, 1.0)]
    assert {r.spec["SEED"] for r in found.records} == {0, 1}
    assert "may have shared" not in small_print(found.figure)


def test_a_row_says_which_runs_lack_a_time(seeds, make):
    where = {0.0: {"alone": True}, 0.5: {"alone": True, "threads": 1}, 0.9: {"alone": False}}
    records = [elsewhere(make(s), **where[s.sparsity]) for s in seeds]
    (axes,) = figure_of(times.time_per_run, records).axes
    assert [each.get_text() for each in axes.texts][1:] == [
        "only runs elsewhere",
        "only runs that shared the machine",
    ]


def test_missing_and_failed_runs_have_no_time(seeds, make):
    chosen = [s for s in seeds if s["SEED"] == 0]
    records = [elsewhere(make(chosen[0]), alone=True), make(chosen[1], status="failed")]
    (axes,) = figure_of(times.time_per_run, records, chosen).axes
    assert [str(p.get_gid()) for p in axes.patches if p.get_gid()] == [
        "absent-failed",
        "absent-missing",
    ]


# -- one evaluation, one update ------------------------------------------------------


@pytest.fixture
def brief(make: Make) -> list[RunResult]:
    """adamw and adamwprune after one epoch, each mask updated once."""
    lr = {"LR": "0.001 0.01", "PRUNING_WARMUP": "10"}
    specs = expand("quickstart", EPOCHS="1", TARGET_SPARSITY="0.9", **lr)
    return [once_updated(make(spec)) for spec in specs]


def once_updated(record: RunResult) -> RunResult:
    return replace(record, pruning={**record.pruning, "updates": record.pruning["updates"][-1:]})


def test_a_curve_over_the_epochs_needs_two_evaluations(brief, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "write", lambda drawing, stem, formats, data: [stem])
    told: list[str] = []
    paths = draw_all([r.spec for r in brief], brief, tmp_path, tell=told.append)
    names = {path.name for path in paths}
    assert not {n for n in names if n.endswith(("evolution", "training_plot", "mask_change"))}
    assert {"sweep", "lr_0.01-model_comparison", "lr_0.01-optimizer_comparison_baseline"} < names
    assert told[:2] == [
        "sweep_evolution, lr_0.001-adamw-with-magnitude-accuracy_evolution, "
        "lr_0.001-adamw-with-movement-accuracy_evolution and 10 more are not drawn: a curve needs "
        "two evaluations: more EPOCHS, or an EVALUATION_INTERVAL",
        "lr_0.001-magnitude_agreement, lr_0.01-magnitude_agreement and mask_change are not drawn: "
        "a line needs two mask updates: more EPOCHS, or a smaller PRUNING_INTERVAL",
    ]


def test_panels_of_curves_are_left_out_where_there_was_one_evaluation(brief):
    chosen = [r for r in brief if r.spec["LR"] == 0.01]
    with style.sheet():
        (setting,) = settings([r.spec for r in chosen], chosen)
        panels_of = {
            drawing.name: [axes.get_title(loc="left") for axes in drawing.figure.axes]
            for draw in (optimizers.baseline, optimizers.at_each_sparsity, models.selection)
            for drawing in draw(setting)
            if isinstance(drawing, Drawing)
        }
    assert panels_of == {
        "optimizer_comparison_baseline": ["After the last epoch"],
        "optimizer_comparison_90_pruning": ["After the last epoch"],
        "model_comparison": [
            *("Sparsity (markers: zeros counted)", "Density of each layer after pruning"),
            *("Accuracy after the last epoch", "Change from dense, paired"),
        ],
    }


def test_one_evaluation_of_one_run_cannot_be_drawn(brief, tmp_path):
    with pytest.raises(UserError, match="a curve needs two evaluations"):
        draw_training(brief[0], tmp_path)
    told: list[str] = []
    (path,) = draw_comparison(brief[:2], tmp_path, tell=told.append)
    assert path.name == "model_comparison.png"
    assert told[0].startswith("accuracy_evolution is not drawn: a curve needs two evaluations")


def test_runs_of_two_lengths_have_the_panels_that_have_curves(make):
    specs = [s for n in "12" for s in expand("sgd", EPOCHS=n, LR="0.1 0.2 0.3")]
    (sweep,) = sweeps(settings(specs, [make(spec) for spec in specs]))
    with style.sheet():
        (drawing,) = courses(sweep)
        titles = [axes.get_title(loc="left") for axes in drawing.figure.axes if axes.axison]
    assert titles == ["sgd dense, epochs 2"]


# -- the small print ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "shown"),
    [
        (sparsity.accuracy_against_sparsity, ", means; whiskers: "),
        (sparsity.pareto, ", means; whiskers: "),
        (masks.layer_density, ", means; bands: "),
        (masks.weight_histogram, ", means; bands: "),
        (steps.gradient_norms, ", means; bands: "),
        (times.time_per_run, ", mean ± standard deviation; whiskers: "),
        (memory.summary, " cpu"),
    ],
)
def test_only_what_is_drawn_of_spread_is_explained(draw, shown, seeds, make):
    records = [elsewhere(make(s), alone=True) for s in seeds]
    told = small_print(figure_of(draw, records)).replace("device: ", "")
    interval = " ".join(INTERVAL.split()) if ":" in shown else ""
    _, _, spread = told.partition(" · n = 3 runs")
    assert spread.startswith(shown + interval)
    single = small_print(figure_of(draw, [r for r in records if r.spec["SEED"] == 0]))
    assert not any(word in single for word in ("bands", "whiskers", "± standard", "means;"))


@pytest.fixture
def here_and_there(make: Make) -> list[RunResult]:
    """adamw and adamwprune; adamwprune's by state elsewhere, half of the dense ones frozen."""
    specs = [s for s in expand("memory-comparison") if s["OPTIMIZER"] in ("adamw", "adamwprune")]
    found = [
        elsewhere(make(s, gpu=True), **({"threads": 1} if s["PRUNING_METHOD"] == "state" else {}))
        for s in specs
    ]
    return [marked(r, FROZEN) if r.run_id.startswith("lenet5-mnist-adamw-n") else r for r in found]


@pytest.mark.slow
def test_what_the_small_print_explains_is_found_on_the_figure(here_and_there):
    explained = {"†": [], "frozen": []}
    with style.sheet():
        (setting,) = settings([r.spec for r in here_and_there], here_and_there)
        for each in (drawing for draw in FIGURES for drawing in draw(setting)):
            figure = each.figure
            printed = figure.get_supxlabel().splitlines()
            texts = {text.get_text() for text in figure.findobj(Text)} - {figure.get_supxlabel()}
            for sign, start in (("†", "† "), ("frozen", "Frozen (")):
                if not any(line.startswith(start) for line in printed):
                    continue
                explained[sign].append(each.name)
                named = any(line.lower().startswith(f"{sign}: ") for line in printed)
                assert named or any(sign in text for text in texts), (each.name, sign)
    assert {"accuracy_against_sparsity", "mask_change", "layer_density"} <= set(explained["†"])
    assert {"pareto_accuracy_bytes", "gradient_norms"} <= set(explained["frozen"])


def test_lines_of_other_places_are_named_below(here_and_there):
    for draw in (sparsity.accuracy_against_sparsity, masks.layer_density, masks.mask_change):
        text = " †: adamwprune state (precond) 50%, 70%, 90%. "
        assert text in small_print(figure_of(draw, here_and_there))
    told = small_print(figure_of(sparsity.pareto, here_and_there))
    assert "Frozen: adamw dense. †: adamwprune state (precond) 50%, 70%, 90%. " in told
    for draw in (masks.weight_histogram, steps.gradient_norms):
        assert " †: adamwprune state (precond) 90%. " in small_print(
            figure_of(draw, here_and_there)
        )
    everywhere = [
        elsewhere(r, threads=1 + (r.spec["SEED"] > 0)) for r in here_and_there if r.spec.sparsity
    ]
    assert "†" not in small_print(figure_of(masks.layer_density, everywhere))


def test_a_place_of_some_runs_of_each_group_is_told(seeds, make):
    records = [elsewhere(make(s), threads=1 + min(s["SEED"], 1)) for s in seeds]
    assert "†: some runs of each. " in small_print(figure_of(sparsity.pareto, records))


# -- records from before ------------------------------------------------------------


@pytest.mark.slow
def test_what_old_records_do_not_hold_is_said_and_not_drawn(tmp_path, quick, make, monkeypatch):
    """Which figures are written counts, not how they look."""
    monkeypatch.setattr(figures, "write", lambda drawing, stem, formats, data: [stem])
    told: list[str] = []
    paths = draw_all(quick, [aged(make(s)) for s in quick], tmp_path, tell=told.append)
    names = {path.stem for path in paths}
    assert not names & {"weight_histogram", "gradient_norms", "magnitude_agreement"}
    assert told == [
        "accuracy_against_speed_up is not drawn: no record counts its multiply-adds; new runs do",
        "magnitude_agreement is not drawn: no record compares its masks; new runs do",
        "weight_histogram is not drawn: no record counts its weights in bins; new runs do",
        "gradient_norms is not drawn: no record has a trace of its steps; new runs do",
        f"time_per_run is not drawn: {times.NOT_ALONE}",
    ]


def test_some_old_records_are_named_below(make):
    specs = [s for s in expand("memory-comparison") if s["OPTIMIZER"] in ("adamw", "sgd")]
    records = [aged(make(s)) if s["OPTIMIZER"] == "sgd" else make(s) for s in specs]
    norms, weights = (
        figure_of(draw, records) for draw in (steps.gradient_norms, masks.weight_histogram)
    )
    text = "sgd magnitude 90%, sgd movement 90% (no trace in the records)."
    assert f"Not drawn: sgd dense, {text}" in small_print(norms)
    assert "sgd movement 90% (no histogram in the records)." in small_print(weights)
    steps_of = [[p for p in a.patches if isinstance(p, StepPatch)] for a in weights.axes]
    assert [len(each) for each in steps_of] == [1, 1, 1]


def test_a_grid_with_gaps_names_its_outermost_panels():
    """A row that begins with a gap has its scale at the next panel, a column that ends so above."""
    figure = Figure()
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    panels.no_panel(axes[1, 0], [])
    panels.name_lowest(axes, "step")
    for row in axes:
        panels.name_leftmost(row, "norm")
    assert [panel.get_xlabel() for panel in axes.flat] == ["step", "", "", "step"]
    assert [panel.get_ylabel() for panel in axes.flat] == ["norm", "", "", "norm"]
    assert not axes[1, 0].axison
