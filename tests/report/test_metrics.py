"""Runs that are judged by another metric than accuracy: lower is better, and only seeds tell how
much of it is noise. Whatever is said of accuracy is said of them, mirrored.
"""

import csv
import io
import re
from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from adamwprune.base.metrics import ACCURACY, LOSS, Metric
from adamwprune.page import data
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult
from adamwprune.report import comparisons, export, figures, tables
from adamwprune.report.comparisons import Commands
from adamwprune.report.figures import panels, parts, sparsity, style
from adamwprune.report.groups import distinct_labels, group_runs, settings, spread_note
from adamwprune.report.present import Request, tables_of
from adamwprune.report.statistics import BETTER, WORSE, judge
from tests.support.records import BITS, expand, in_bits, synthetic


@pytest.fixture(scope="module")
def specs() -> list[RunSpec]:
    """Three seeds of the quick start."""
    seeds = [{"SEED": seed} for seed in (0, 1, 2)]
    return [RunSpec({**s.values, **seed}) for s in expand("quickstart") for seed in seeds]


@pytest.fixture(scope="module")
def by_accuracy(specs: list[RunSpec]) -> list[RunResult]:
    """Under adamw magnitude loses 5 points at 70%, and movement at 90%."""
    return [_changed(synthetic(spec)) for spec in specs]


@pytest.fixture(scope="module")
def by_bits(by_accuracy: list[RunResult]) -> list[RunResult]:
    """The same runs in bits per byte."""
    return [in_bits(record) for record in by_accuracy]


def _changed(record: RunResult) -> RunResult:
    spec = record.spec
    cell = spec["OPTIMIZER"], spec["PRUNING_METHOD"], spec.sparsity
    lost = 0.05 * (cell in (("adamw", "magnitude", 0.7), ("adamw", "movement", 0.9)))
    accuracy = record.final["test_accuracy"] - lost
    return replace(record, final={**record.final, "test_accuracy": accuracy})


# -- a metric in words and digits --------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "heading", "axis", "unit", "text"),
    [
        (ACCURACY, "accuracy %", "accuracy (%)", "points", "98.71%"),
        (BITS, "bits per byte", "bits per byte (lower is better)", "bits per byte",
         "98.71 bits per byte"),
        (LOSS, "loss (nats)", "loss (nats; lower is better)", "nats", "98.71 nats"),
        (Metric("bleu", "", "higher"), "bleu", "bleu (higher is better)", "bleu", "98.71"),
        (Metric("error", "%", "lower", 100, "binomial"), "error %", "error (%; lower is better)",
         "points", "98.71%"),
    ],
)  # fmt: skip
def test_a_metric_says_what_it_is(metric, heading, axis, unit, text):
    assert (metric.heading, metric.axis(), metric.difference_unit) == (heading, axis, unit)
    assert metric.text(98.712) == text


def test_digits_are_those_that_mean_something():
    assert [BITS.number(value) for value in (1.2345678, 12.345, 0.0123456, 23456.7, 0, -1.5)] == [
        *("1.235", "12.35", "0.01235", "23457", "0.00", "-1.500")
    ]
    assert [BITS.number(value) for value in (3e9, 2e-7)] == ["3e+09", "2e-07"]
    assert BITS.digits([0.9876, 1.0123]) == 3, "of one table all have the same"
    assert ACCURACY.digits([9.5]) == ACCURACY.digits([99.5]) == 2


@pytest.mark.parametrize(
    "change", [{"better": "more"}, {"noise": 1}, {"scale": 0}, {"scale": "1"}, {"name": ""},
               {"unit": None}, {"scale": float("nan")}],
)  # fmt: skip
def test_what_is_no_metric_is_refused(change):
    with pytest.raises(ValueError, match="metric"):
        Metric.from_json({**BITS.to_json(), **change})


# -- verdicts ----------------------------------------------------------------------


def test_every_verdict_is_the_mirrored_one_of_accuracy(specs, by_accuracy, by_bits):
    first, second = (judge(settings(specs, each)) for each in (by_accuracy, by_bits))
    verdicts = [each.verdict for each in first.comparisons]
    assert [each.verdict for each in second.comparisons] == verdicts
    assert {BETTER, WORSE} <= set(verdicts)
    assert first.leading == second.leading, "the best is the lowest"
    for one, other in zip(first.comparisons, second.comparisons, strict=True):
        if one.paired is not None and other.paired is not None:
            mean = one.paired.difference.mean
            assert other.paired.difference.mean == pytest.approx(-0.08 * mean, abs=1e-8)
            assert one.p == pytest.approx(other.p)


def planted(specs: list[RunSpec], less: float) -> list[RunResult]:
    """Records in bits per byte: adamw's runs have so many ``less`` than adam's, seed by seed, but
    for a thousandth a seed.
    """
    found = []
    for spec in specs:
        seed = int(spec["SEED"])
        bits = 1.2 + seed / 100 + (seed / 1000 - less) * (spec["OPTIMIZER"] == "adamw")
        record = in_bits(synthetic(spec))
        found.append(replace(record, final={**record.final, f"test_{BITS.name}": bits}))
    return found


@pytest.fixture(scope="module")
def two(specs: list[RunSpec]) -> list[RunSpec]:
    """Dense runs of two optimizers that differ in nothing else."""
    dense = [spec for spec in specs if not spec.sparsity and spec["OPTIMIZER"] == "adamw"]
    return [*dense, *(RunSpec({**s.values, "OPTIMIZER": "adam"}) for s in dense)]


@pytest.mark.parametrize(("better", "verdict", "sign"), [(0.1, WORSE, "+"), (-0.1, BETTER, "-")])
def test_who_has_less_is_better(two, better, verdict, sign):
    """adam against adamw, the reference, of which adamw has 0.1 less or more."""
    records = planted(two, better)
    verdicts = judge(settings(two, records))
    (only,) = verdicts.comparisons
    assert (only.left.optimizer, only.verdict) == ("adam", verdict)
    assert only.paired is not None
    assert only.paired.difference.mean == pytest.approx(better - 0.001)
    (line,) = comparisons.sentences(verdicts, Commands())
    mean = f"{sign}0.099" if better > 0 else f"{sign}0.101"
    assert line.startswith(
        f"adam dense is {verdict} than adamw dense: {mean} bits per byte (lower is better; 95% in"
    )
    best = {True: "adamw", False: "adam"}[better > 0]
    rows = tables.result_rows(two, records, verdicts.leading)
    assert [row.optimizer for row in rows if row.leading] == [best]


def test_the_tables_name_metric_unit_and_direction(two):
    text = tables_of(two, planted(two, 0.1), "markdown", memory=False)
    assert "| bits per byte | 95% of mean |" in text
    assert "| 1.111 ± 0.011 * |" in text
    assert "over n seeds, lower is better." in text
    assert "| n | bits per byte | 95% (t) |" in text
    assert "Test bits per byte (lower is better), left minus right, in n pairs" in text
    for word in ("accuracy", "points", "%)", "image"):
        assert word not in text


def test_a_single_run_has_no_binomial_noise(two):
    single = [record for record in planted(two, 0.1) if record.spec["SEED"] == 0]
    expected = [record.spec for record in single]
    assert "n = 1: no spread.\n" in tables_of(expected, single, "markdown", memory=False)
    assert spread_note(group_runs(expected, single), "") == "n = 1, no spread"


def test_csv_columns_are_named_by_the_metric(two):
    text = tables.render(tables.result_rows(two, planted(two, 0.1)), "csv")
    row, *_ = csv.DictReader(io.StringIO(text))
    assert (row["metric"], row["unit"], row["better"]) == (
        "bits_per_byte",
        "bits per byte",
        "lower",
    )
    assert float(row["bits_per_byte"]) == pytest.approx(1.111)
    assert float(row["bits_per_byte_low"]) < 1.111 < float(row["bits_per_byte_high"])
    assert row["examples"] == "100000"
    assert not any("accuracy" in name for name in row)


# -- what is judged by several metrics -----------------------------------------------


def test_runs_of_different_metrics_are_never_ranked(two):
    """adam's runs are judged by accuracy, adamw's by bits per byte."""
    records = [
        record if record.spec["OPTIMIZER"] == "adamw" else synthetic(record.spec)
        for record in planted(two, 0.1)
    ]
    found = settings(two, records)
    assert [setting.headline for setting in found] == [BITS, ACCURACY]
    assert [setting.prefix for setting in found] == [
        "judged_by_bits_per_byte-",
        "judged_by_accuracy_-",
    ]
    assert found[0].title.endswith(", judged by bits per byte")
    verdicts = judge(found)
    assert (verdicts.comparisons, verdicts.leading) == ((), frozenset())
    text = tables_of(two, records, "markdown", memory=False)
    assert "| accuracy % |" in text
    assert "| bits per byte |" in text


def test_seeds_of_different_metrics_are_never_averaged(two):
    """Of adamw's three seeds one was judged by accuracy, and one is missing."""
    records = [record for record in planted(two, 0.1) if record.spec["OPTIMIZER"] == "adamw"][:2]
    records[1] = synthetic(records[1].spec)
    groups = group_runs(two[:3], records)
    assert [(group.n, group.headline, len(group.specs)) for group in groups] == [
        (1, BITS, 2),
        (1, ACCURACY, 1),
    ]
    assert distinct_labels(groups) == [
        "adamw dense, judged by bits per byte",
        "adamw dense, judged by accuracy %",
    ]


def test_a_comparison_of_several_metrics_has_units(two):
    other = [RunSpec({**spec.values, "DATASET": "mnist"}) for spec in two]
    records = [*planted(two, 0.1), *map(synthetic, other)]
    verdicts = judge(settings([*two, *other], records))
    headings, cells = comparisons.cells(verdicts.comparisons)
    assert headings[3] == "difference"
    assert [row[3].split(maxsplit=1)[1] for row in cells] == ["bits per byte", "points"]
    assert comparisons.caption(verdicts).startswith(
        "Test bits per byte (lower is better) and points of test accuracy, left minus right"
    )


# -- figures -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(specs: list[RunSpec], by_bits: list[RunResult]) -> dict[str, Figure]:
    """One figure of each kind, by name."""
    found: dict[str, Figure] = {}
    (setting,) = settings(specs, by_bits)
    with style.sheet():
        for draw in figures.FIGURES:
            first = next(draw(setting), None)
            if isinstance(first, parts.Drawing):
                found[first.name] = first.figure
        (model, evolution) = figures.models.selection(setting)
        found.update({model.name: model.figure, evolution.name: evolution.figure})
    return found


def test_no_figure_says_anything_of_accuracy(drawn):
    assert {"accuracy_evolution", "pareto_accuracy_bytes", "training_plot"} < set(drawn)
    for name, figure in drawn.items():
        said = " ".join(text.get_text() for text in figure.findobj(Text))
        assert "ccuracy" not in said, name
        assert "images" not in said, name
        assert "are noise" not in said, name


def test_axes_name_the_metric_and_its_direction(drawn):
    headline, loss, _, _, scores, changes = drawn["model_comparison"].axes
    name, _, notes = " ".join(headline.get_ylabel().split()).partition(" (")
    assert name == "test bits per byte"
    assert re.fullmatch(r"lower is better; axis starts at [\d.]+\)", notes)
    assert headline.get_ylim()[0] == pytest.approx(headline.get_yticks()[0])
    assert " ".join(loss.get_ylabel().split()) == "loss (nats; lower is better; log scale)"
    below, changed = (" ".join(axes.get_xlabel().split()) for axes in (scores, changes))
    assert below.startswith("test bits per byte (lower is better; axis starts at ")
    assert changed == "bits per byte, pruned minus dense (bits per byte)"
    assert headline.get_title(loc="left") == "Test bits per byte"
    assert "1." in scores.texts[0].get_text()


def test_the_frontier_runs_along_the_lowest(drawn, specs, by_bits):
    figure = drawn["pareto_accuracy_bytes"]
    (setting,) = settings(specs, by_bits)
    (line,) = (line for line in figure.axes[0].lines if line.get_label() == "frontier")
    bits = list(line.get_ydata())
    assert bits == sorted(bits, reverse=True), "more bytes are worth it only for fewer bits"
    assert bits[-1] == min(
        group.score.mean
        for group in setting.groups
        if group.is_dense or group.sparsity == setting.sparsities[0]
    )


def test_what_is_far_worse_squeezes_nobody(specs, by_accuracy):
    """Scales are logarithmic, of the error where more is better, of the metric where less is."""
    last = group_runs(specs, by_accuracy)[-1].done
    records = [
        replace(r, final={**r.final, "test_accuracy": 0.3}) if r in last else r for r in by_accuracy
    ]
    for found, note in (
        (records, "test accuracy (%; log scale of the error)"),
        (
            [in_bits(record) for record in records],
            "test bits per byte (lower is better; log scale)",
        ),
    ):
        (setting,) = settings(specs, found)
        with style.sheet():
            (drawing,) = sparsity.accuracy_against_sparsity(setting)
        axes = drawing.figure.axes[0]
        assert " ".join(axes.get_ylabel().split()) == note
        low, high = axes.get_ylim()
        scores = [group.score.mean for group in setting.groups]
        assert low < min(scores) < max(scores) < high


def test_chosen_runs_of_two_metrics_stand_in_two_figures(two, tmp_path, monkeypatch):
    records = [in_bits(synthetic(two[0])), synthetic(two[3])]
    monkeypatch.setattr(figures, "write", lambda drawing, stem, formats: [stem])
    names = [path.name for path in figures.draw_comparison(records, tmp_path)]
    assert names == [
        f"{metric}-{figure}"
        for metric in ("bits_per_byte", "accuracy")
        for figure in ("model_comparison", "accuracy_evolution")
    ]


def test_a_run_with_one_metric_shows_it_in_training_too(two):
    record = replace(in_bits(synthetic(two[0])), metrics=[BITS.to_json()])
    (setting,) = settings([two[0]], [record])
    with style.sheet():
        figure = figures.training.single_run(record, setting.title).figure
        assert [axes.get_title(loc="left") for axes in figure.axes if axes.axison] == [
            "Bits per byte",
            "Sparsity (markers: zeros counted)",
            "Learning rate",
        ]
        series = figures.models.chosen_series(setting.groups)
        second = figures.models.six_panels("", "", series).axes[1]
    assert second.get_title(loc="left") == "Bits per byte (thick: test, thin: training)"
    assert len(second.lines) == 2


def test_an_axis_of_values_below_zero_has_no_bounds():
    axes = Figure().subplots()
    axes.plot([0, 1], [-2.3, -0.4])
    panels.metric_axis(axes, Metric("log_likelihood", "nats", "higher"), "test")
    low, high = axes.get_ylim()
    assert low <= -2.3
    assert high >= -0.4
    assert axes.get_ylabel() == "test log likelihood (nats; higher is better)"


# -- the export --------------------------------------------------------------------


def test_a_row_of_the_export_says_what_it_is_judged_by(two):
    failed = synthetic(two[1], status="failed")
    table = export.table([in_bits(synthetic(two[0])), failed, synthetic(two[3])], [])
    rows = {row["run_id"]: row for row in table.rows}
    bits, none, accuracy = (rows[two[n].run_id] for n in (0, 1, 3))
    told = ("metric", "unit", "better", "examples")
    assert [bits[name] for name in told] == ["bits_per_byte", "bits per byte", "lower", 100_000]
    assert bits["score"] == bits["final_test_bits_per_byte"]
    assert bits["final_test_accuracy"] is None
    assert [none[name] for name in (*told, "score")] == [None] * 5
    assert [accuracy[name] for name in told] == ["accuracy", "%", "higher", 1_000]
    assert accuracy["score"] == 100 * accuracy["final_test_accuracy"]


# -- the page ----------------------------------------------------------------------


def test_the_page_s_data_name_the_metric(two):
    records = planted(two, 0.1)
    shown = data.of(two, records, {}, Request())
    assert shown["metrics"] == [{"heading": "bits per byte", "better": "lower"}]
    assert list(shown["measures"]) == [
        *("test_bits_per_byte", "train_bits_per_byte", "test_loss", "train_loss"),
        *("sparsity", "lr"),
    ]
    first, *_ = shown["measures"].values()
    assert first == {"name": "bits per byte", "axis": "bits per byte (lower is better)",
                     "unit": "bits per byte", "set": True, "log": False}  # fmt: skip
    assert shown["measures"]["train_loss"]["log"] is True
    assert list(shown["curves"]) == list(shown["measures"])
    curve = shown["curves"]["test_bits_per_byte"][0]
    assert curve == pytest.approx([e["test_bits_per_byte"] for e in records[0].history], rel=1e-5)
    group, *_ = shown["groups"]
    assert (group["score_text"], group["metric"]) == ("1.111 ± 0.011", 0)
    run, *_ = shown["runs"]
    assert run["score_text"] == "1.100"
    assert run["results"][0] == ("test bits per byte", "1.100 bits per byte")
    assert [name for name, _ in run["results"]] == [
        *("test bits per byte", "test loss", "training bits per byte", "training loss")
    ]


def test_the_page_tells_runs_of_two_metrics_apart(two):
    other = [RunSpec({**spec.values, "DATASET": "mnist"}) for spec in two]
    records = [*planted(two, 0.1), *map(synthetic, other)]
    shown = data.of([*two, *other], records, {}, Request())
    assert [each["heading"] for each in shown["metrics"]] == ["bits per byte", "accuracy %"]
    assert [group["metric"] for group in shown["groups"]] == [0, 0, 1, 1]
    texts = [group["score_text"] for group in shown["groups"]]
    assert [text.endswith("bits per byte") for text in texts] == [True, True, False, False]
    assert all(text.endswith(" %") for text in texts[2:])
    assert shown["curves"]["test_accuracy"][0] is None
    assert shown["curves"]["test_bits_per_byte"][-1] is None
    assert list(shown["measures"])[:3] == [
        "test_bits_per_byte",
        "train_bits_per_byte",
        "test_accuracy",
    ]


def test_a_run_shorter_than_an_epoch_is_drawn_where_it_was_measured(two):
    spec = RunSpec({**two[0].values, "STEPS": 20})
    assert spec.steps_per_epoch > 20
    measured = [spec.epochs_after(step) for step in spec.evaluated_after]
    row = synthetic(two[0]).history[0]
    history = [{**row, "epoch": epoch} for epoch in measured]
    record = replace(synthetic(two[0]), spec=spec, run_id=spec.run_id, history=history)
    (setting,) = settings([spec], [record])
    axes = Figure().subplots()
    series = figures.models.chosen_series(setting.groups)
    panels.draw_curves(axes, series, setting.headline)
    panels.epoch_axis(axes, series)
    low, high = axes.get_xlim()
    assert list(axes.lines[0].get_xdata()) == measured
    assert 0 < low < measured[0] < measured[-1] < high < 1.1 * measured[-1] < 1
    assert len(axes.get_xticks()) <= 6, "0.0008 is a long number"
