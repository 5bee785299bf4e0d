"""Sweeps: one table with the axes as columns, which value is best, and figures along the axes."""

import csv
import io
import random
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import STALE, RunResult
from adamwprune.report import choice, figures, style, tables
from adamwprune.report.comparisons import Commands
from adamwprune.report.figures import masks, memory
from adamwprune.report.figures.parts import Drawing
from adamwprune.report.figures.sweeps import along_axis, courses, heat_map
from adamwprune.report.groups import settings
from adamwprune.report.present import tables_of
from adamwprune.report.sweeps import sweeps
from adamwprune.report.tables import render, result_rows
from tests.support.records import elsewhere, expand, in_bits, marked, synthetic

GRID = {"LR": "0.001 0.01 0.1", "BATCH_SIZE": "128 64"}
HELD_OUT = {"VALIDATION_EXAMPLES": "500", "DATASET": "mnist5k", "EPOCHS": "2"}


def scored(spec: RunSpec, percent: float) -> RunResult:
    """A record with this accuracy after the last epoch."""
    record = synthetic(spec)
    final = {**record.final, "test_accuracy": percent / 100}
    return replace(record, final=final)


def by_lr(spec: RunSpec, percents: dict[float, float], noise: float = 0.1) -> RunResult:
    """Accuracy by learning rate, with noise that is the same every time."""
    wobble = random.Random(spec.run_id).gauss(0, noise)
    return scored(spec, percents[spec["LR"]] + wobble)


def test_all_settings_are_one_table_along_the_axes():
    specs = expand("sgd", **GRID, SEED="0 1")
    (sweep,) = sweeps(settings(specs, []))
    assert sweep.axes == ("BATCH_SIZE", "LR")
    assert sweep.title == "lenet5 on mnist, 10 epochs"
    assert [sweep.texts(group)["BATCH_SIZE"] for group in sweep.groups] == ["64"] * 3 + ["128"] * 3
    text = render(result_rows(specs, [synthetic(spec) for spec in specs]), "text")
    assert text.count("Accuracy: test set") == 1
    heading = next(line for line in text.splitlines() if line.startswith("optimizer"))
    assert heading.split()[:5] == ["optimizer", "method", "batch", "size", "lr"]


def test_tables_of_a_sweep_fit_and_say_all_in_csv():
    specs = expand("sgd", **GRID, WEIGHT_DECAY="0 0.1", SEED="0 1")
    rows = result_rows(specs, [synthetic(spec) for spec in specs])
    assert all(len(line) <= 100 for line in render(rows, "text").splitlines())
    plain = list(csv.DictReader(io.StringIO(render(rows, "csv"))))
    assert {(row["lr"], row["batch_size"], row["weight_decay"]) for row in plain} == {
        (lr, size, decay)
        for lr in ("0.001", "0.01", "0.1")
        for size in ("64", "128")
        for decay in ("0", "0.1")
    }


def test_models_have_tables_of_their_own_and_axes_in_each():
    specs = expand("sgd", MODEL="lenet5 resnet8", DATASET="mnist5k cifar10", LR="0.1 0.2")
    found = sweeps(settings(specs, []))
    assert [sweep.axes for sweep in found] == [("LR",)] * len(found)
    assert len({sweep.prefix for sweep in found}) == len(found) >= 2


def test_a_group_without_the_axis_stands_once_and_blank():
    both = [
        spec
        for each in ("cubic", "linear")
        for spec in expand("memory-comparison", OPTIMIZER="adamw", PRUNING_SCHEDULE=each)
    ]
    specs = list(dict.fromkeys(both))
    rows = result_rows(specs, [synthetic(spec) for spec in specs])
    assert [row.axes for row in rows if row.method == "dense"] == [{"PRUNING_SCHEDULE": ""}]
    assert len(rows) == len(specs)


def test_an_option_from_outside_the_tree_is_an_axis_like_any_other():
    specs = [
        RunSpec({**spec.values, "TEMPERATURE": value, "GATE": gate})
        for spec in expand("sgd", SEED="0 1")
        for value in (2.0, 0.5)
        for gate in ("soft", "hard")
    ]
    (sweep,) = sweeps(settings(specs, []))
    assert sweep.axes == ("GATE", "TEMPERATURE")
    assert sweep.ticks("TEMPERATURE") == [0.5, 2.0]
    assert sweep.ticks("GATE") == ["soft", "hard"]


def test_comparisons_say_where_on_the_axes():
    both = {"OPTIMIZER": "adam adamw", "WEIGHT_DECAY": "0", "PRUNING_METHOD": "none"}
    specs = expand("sgd", **both, LR="0.01 0.1", SEED="0 1 2")
    better = {"adam": 2.0, "adamw": 0.0}
    wobble = [0.0, 0.1, 0.3]
    records = [
        scored(s, 90 + (1 + wobble[s["SEED"]]) * better[s["OPTIMIZER"]] * s["LR"]) for s in specs
    ]
    text = " ".join(tables_of(specs, records, "text", memory=False).split())
    assert "against lr n points" in text
    assert "adam dense is better than adamw dense at lr 0.1:" in text


# -- which value is best ---------------------------------------------------------


def told(specs: list[RunSpec], records: list[RunResult]) -> str:
    commands = Commands({"LR": "0.001 0.01 0.1"})
    return "\n".join(choice.sentences(settings(specs, records), commands))


def test_test_scores_call_no_value_best():
    specs = expand("sgd", LR="0.001 0.01 0.1", SEED="0 1 2", DATASET="mnist5k")
    text = told(specs, [synthetic(spec) for spec in specs])
    assert "No value is called best" in text
    assert 'make LR="0.001 0.01 0.1" VALIDATION_EXAMPLES=400' in text


def test_what_would_be_refused_is_not_advised():
    """So short that with examples held out the ramp would end before the warm-up."""
    specs = expand("adamw-state-90", LR="0.001 0.01", SEED="0 1 2", DATASET="mnist5k", EPOCHS="2")
    text = told(specs, [synthetic(spec) for spec in specs])
    assert "make " not in text
    assert "VALIDATION_EXAMPLES=400 would hold out some" in text
    assert "too short for that" in text


def test_a_clear_best_is_shown_to_be_the_best():
    specs = expand("sgd", LR="0.001 0.01 0.1", SEED="0 1 2 3 4", **HELD_OUT)
    records = [by_lr(spec, {0.001: 80, 0.01: 95, 0.1: 90}) for spec in specs]
    text = told(specs, records)
    assert "sgd dense: lr 0.01 has the best validation accuracy, 9" in text
    assert "That it is the best is shown: all 2 others are worse" in text


def test_of_two_values_the_other_is_spoken_of():
    specs = expand("sgd", LR="0.001 0.01", SEED="0 1 2 3 4", **HELD_OUT)
    apart = [by_lr(spec, {0.001: 80, 0.01: 95}) for spec in specs]
    assert "That it is the best is shown: the other is worse" in told(specs, apart)
    near = [by_lr(spec, {0.001: 95, 0.01: 95}) for spec in specs]
    assert "is not shown: the other may be as good: lr 0.0" in told(specs, near)


def test_what_may_be_as_good_is_named():
    specs = expand("sgd", LR="0.001 0.01 0.1", SEED="0 1 2 3 4", **HELD_OUT)
    records = [by_lr(spec, {0.001: 80, 0.01: 95.0, 0.1: 94.6}, 0.5) for spec in specs]
    assert "That it is the best is not shown: 1 of 2 others may be as good: lr 0.1." in told(
        specs, records
    )


def test_lower_is_better_where_it_is():
    specs = expand("sgd", LR="0.001 0.01 0.1", SEED="0 1 2 3 4", **HELD_OUT)
    records = [in_bits(by_lr(spec, {0.001: 80, 0.01: 95, 0.1: 90})) for spec in specs]
    assert "sgd dense: lr 0.01 has the best validation bits per byte" in told(specs, records)


def test_fewer_than_three_seeds_show_nothing_and_say_what_trains_them():
    specs = expand("sgd", LR="0.001 0.01 0.1", SEED="0 1", **HELD_OUT)
    text = told(specs, [by_lr(spec, {0.001: 80, 0.01: 95, 0.1: 90}) for spec in specs])
    assert "that takes 3 seeds" in text
    assert 'SEED="0 1 2"' in text


@pytest.mark.parametrize("seed", range(3))
def test_the_true_best_is_seldom_ruled_out(seed):
    """Of five equal values any one is the best: in 40 sweeps it is ruled out about twice."""
    noise = random.Random(seed)
    specs = expand("sgd", LR="0.1..0.5:lin5", SEED="0 1 2", **HELD_OUT)
    wrong = 0
    for _ in range(40):
        records = [scored(spec, 90 + noise.gauss(0, 1)) for spec in specs]
        (found,) = choice.choices(settings(specs, records))
        wrong += found.candidates[0] not in found.left
    assert wrong <= 6


# -- figures ------------------------------------------------------------------------


def test_a_sweep_has_figures_along_its_axes(tmp_path):
    specs = expand("sgd", **GRID, SEED="0 1 2", DATASET="mnist5k", EPOCHS="4")
    lines: list[str] = []
    paths = figures.draw_all(specs, [synthetic(s) for s in specs], tmp_path, tell=lines.append)
    assert [p.name for p in paths] == ["sweep.png", "sweep_heat_map.png", "sweep_evolution.png"]
    assert not lines


def names_drawn(specs: list[RunSpec], records: list[RunResult], monkeypatch) -> dict[str, Drawing]:
    """Every figure that would be written, by name."""
    drawn: dict[str, Drawing] = {}
    monkeypatch.setattr(figures.processes, "cores", lambda: 1)
    monkeypatch.setattr(
        figures, "write", lambda each, stem, *_, **__: drawn.update({stem.name: each}) or []
    )
    figures.draw_all(specs, records, Path("nowhere"))
    return drawn


def test_a_figure_that_an_axis_does_not_change_is_drawn_once(monkeypatch):
    """Bytes do not depend on the learning rate, which all that is learned does."""
    monkeypatch.setattr(figures, "FIGURES", (memory.summary, masks.layer_density))
    specs = expand("quickstart", LR="0.001 0.01", TARGET_SPARSITY="0.9")
    records = [by_density(synthetic(spec)) for spec in specs]
    drawn = names_drawn(specs, records, monkeypatch)
    assert drawn.keys() - {"sweep", "sweep_evolution"} == {
        *("memory_efficiency_summary", "lr_0.001-layer_density", "lr_0.01-layer_density")
    }
    once = drawn["memory_efficiency_summary"]
    assert {record.run_id for record in once.records} == {spec.run_id for spec in specs}
    assert "lenet5 on mnist5k, 10 epochs · n = 2 runs" in once.figure.get_supxlabel()
    rows = [label.get_text() for label in once.figure.axes[0].get_yticklabels()]
    assert len(rows) == len(specs) / 2


def test_a_figure_that_one_of_two_axes_changes_is_drawn_for_each_of_its_values(monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", (memory.summary,))
    both = {"LR": "0.001 0.01", "TARGET_SPARSITY": "0.9", "PRUNING_METHOD": "magnitude"}
    specs = [
        RunSpec({**spec.values, "MASK_STORAGE": storage})
        for spec in expand("quickstart", **both)
        for storage in ("bool", "bits")
    ]
    drawn = names_drawn(specs, [synthetic(spec) for spec in specs], monkeypatch)
    assert {name for name in drawn if "memory" in name} == {
        *("mask_storage_bool-memory_efficiency_summary",),
        *("mask_storage_bits-memory_efficiency_summary",),
    }


def by_density(record: RunResult) -> RunResult:
    """Layers whose zeros depend on the learning rate."""
    lost = int(1000 * record.spec["LR"])
    layers = [{**each, "zeros": each["zeros"] - lost} for each in record.pruning["layers"]]
    return replace(record, pruning={**record.pruning, "layers": layers})


def sweep_figure(draw, specs: list[RunSpec], records: list[RunResult]) -> Figure:
    (sweep,) = sweeps(settings(specs, records))
    with style.sheet(specs):
        (drawing,) = draw(sweep)
        return drawing.figure


def test_whiskers_at_one_value_stand_side_by_side():
    """Of four lines, 2.2 points apart, on a logarithmic axis and on a linear one."""
    for rates in ("0.001 0.01", "0.1 0.2"):
        specs = expand("quickstart", LR=rates, PRUNING_METHOD="none magnitude", SEED="0 1 2",
                       TARGET_SPARSITY="0.9")  # fmt: skip
        axes = sweep_figure(along_axis, specs, [synthetic(spec) for spec in specs]).axes[0]
        assert axes.get_xscale() == ("log" if rates == "0.001 0.01" else "linear")
        whiskers = [c.lines[2][0] for c in axes.containers]
        at = [float(rates.split()[n % 2]) for n in range(8)]
        assert [each.get_segments()[0][0][0] for each in whiskers] == at, "data are not moved"
        places = [each.get_transform().transform(each.get_segments()[0][0])[0] for each in whiskers]
        value = axes.transData.transform((at[0], 90))[0]
        points = [72 / axes.figure.dpi * (place - value) for place in places[::2]]
        assert points == pytest.approx([-3.3, -1.1, 1.1, 3.3])


def test_steps_and_fractions_of_the_training_stand_in_the_order_of_their_steps():
    """Of 189 steps: 9, 19, 20 and 57."""
    specs = expand("adamw-state-90", PRUNING_WARMUP="20 0.3 0.1 0.05", SEED="0 1 2",
                   DATASET="mnist5k", EPOCHS="3")  # fmt: skip
    records = [synthetic(spec) for spec in specs]
    (sweep,) = sweeps(settings(specs, records))
    assert sweep.ticks("PRUNING_WARMUP") == ["0.05", "0.1", "20", "0.3"]
    axes = sweep_figure(along_axis, specs, records).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.05", "0.1", "20", "0.3"]
    assert axes.get_xscale() == "linear"
    assert axes.get_xlabel() == "pruning warmup (steps; below 1: of the training)"


def test_what_an_axis_is_none_of_is_a_level_line():
    specs = expand("sgd", OPTIMIZER="sgd adamw", SGD_MOMENTUM="0 0.9", SEED="0 1 2")
    records = [synthetic(spec) for spec in specs]
    adamw = [record.score for record in records if record.spec["OPTIMIZER"] == "adamw"]
    lines = sweep_figure(along_axis, specs, records).axes[0].lines
    level = [
        line for line in lines if len({*line.get_ydata()}) == 1 and list(line.get_xdata()) == [0, 1]
    ]
    assert [line.get_ydata()[0] for line in level] == pytest.approx([sum(adamw) / 3])


def test_a_group_that_failed_is_named_with_its_place():
    specs = expand("sgd", LR="0.01 100", SEED="0 1")
    failed = [
        replace(synthetic(spec), status="failed") if spec["LR"] == 100 else synthetic(spec)
        for spec in specs
    ]
    figure = sweep_figure(along_axis, specs, failed)
    texts = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "sgd dense, lr 100 (" in " ".join(texts.split())


@pytest.mark.parametrize(("draw", "more"), [(courses, {}), (along_axis, {"WEIGHT_DECAY": "0 0.1"})])
def test_all_panels_share_one_scale(draw, more):
    """Also those of another row; one dip makes it logarithmic for all."""
    specs = expand("quickstart", LR="0.001 0.01 0.1", BATCH_SIZE="64 128", EPOCHS="3", **more)
    records = [synthetic(spec) for spec in specs]
    low = records[0]
    low.history[0]["test_accuracy"] = 0.2
    records[0] = replace(low, final={**low.final, "test_accuracy": 0.2})
    shown = [axes for axes in sweep_figure(draw, specs, records).axes if axes.axison]
    assert len({axes.get_subplotspec().rowspan.start for axes in shown}) > 1
    assert len({axes.get_ylim() for axes in shown}) == 1
    assert len({axes.get_yscale() for axes in shown}) == 1
    first = [axes.get_ylabel() for axes in shown if axes.get_subplotspec().colspan.start == 0]
    assert set(first) == {"test accuracy (%; log scale of the error)"}


@pytest.mark.parametrize("draw", [courses, along_axis, heat_map])
def test_what_stands_below_a_sweep_is_marked_in_it(draw):
    specs = expand("sgd", **GRID, SEED="0 1 2", DATASET="mnist5k", EPOCHS="2")
    plain = [synthetic(spec) for spec in specs]
    mixed = [elsewhere(r, threads=1) if r.spec["LR"] == 0.01 else r for r in plain]
    mixed = [marked(r, STALE) if r.spec["BATCH_SIZE"] == 64 else r for r in mixed]
    for records, signs in ((plain, set()), (mixed, {"†", "stale"})):
        figure = sweep_figure(draw, specs, records)
        small_print = figure.get_supxlabel()
        texts = {text.get_text() for text in figure.findobj(Text)} - {small_print}
        assert {sign for sign in ("†", "stale") if any(sign in text for text in texts)} == signs
        starts = {"†": "† cpu", "stale": "Stale ("}
        assert {sign for sign, start in starts.items() if start in small_print} == signs


@pytest.mark.parametrize("held_out", ["0", "500"])
def test_what_is_best_on_test_data_is_not_framed(held_out):
    specs = expand("sgd", **GRID, **{**HELD_OUT, "VALIDATION_EXAMPLES": held_out})
    (sweep,) = sweeps(settings(specs, [synthetic(spec) for spec in specs]))
    with style.sheet():
        (drawing,) = heat_map(sweep)
        framed = "Framed:" in drawing.figure.get_supxlabel()
        assert framed == bool(drawing.figure.axes[0].patches) == (held_out != "0")


def test_a_sweep_of_one_method_names_it():
    specs = expand("adamw-state-90", **GRID, DATASET="mnist5k", EPOCHS="4")
    records = [synthetic(spec) for spec in specs]
    (sweep,) = sweeps(settings(specs, records))
    with style.sheet():
        (drawing,) = along_axis(sweep)
        assert drawing.figure.axes[0].get_title(loc="left") == "adamw state (precond) 90%"


def test_what_a_narrow_table_leaves_out_is_in_its_title(monkeypatch):
    monkeypatch.setattr(tables, "terminal_width", lambda: 80)
    specs = expand("adamw-state-90", LR="0.001 0.01", BATCH_SIZE="64 128", SEED="0 1 2")
    text = render(result_rows(specs, [synthetic(spec) for spec in specs]), "text")
    title, heading, *_ = text.splitlines()
    assert title == "lenet5 on mnist, 10 epochs, target 90%"
    assert "target" not in heading
    assert max(map(len, text.splitlines())) <= 80


def test_a_narrow_table_breaks_no_number(monkeypatch):
    monkeypatch.setattr(tables, "terminal_width", lambda: 80)
    (spec,) = expand("adamwprune-90")
    text = render(result_rows([spec], [synthetic(spec)]), "text")
    assert text.splitlines()[3].startswith("adamwprune state (precond)    90% 1 ")
    assert "/61,470 " in text


def test_words_are_an_axis_too(tmp_path):
    specs = expand("adamw-magnitude-90", PRUNING_SCHEDULE="cubic", SEED="0 1 2")
    specs += expand("adamw-magnitude-90", PRUNING_SCHEDULE="linear", SEED="0 1 2")
    (sweep,) = sweeps(settings(specs, []))
    assert sweep.ticks("PRUNING_SCHEDULE") == ["cubic", "linear"]
    paths = figures.draw_all(specs, [synthetic(spec) for spec in specs], tmp_path)
    assert "sweep.png" in [path.name for path in paths]


def test_of_very_many_settings_the_whole_is_drawn(tmp_path):
    specs = expand("sgd", OPTIMIZER="sgd adam", LR="0.1..0.5:lin5", EPOCHS="2")
    lines: list[str] = []
    paths = figures.draw_all(specs, [synthetic(s) for s in specs], tmp_path, tell=lines.append)
    assert {path.name for path in paths} == {"sweep.png", "sweep_evolution.png"}
    assert lines == [
        "figures of each of 5 combinations of lr are not drawn; one value of each draws them"
    ]
