"""Figures: which are drawn, from which runs, and that what they show is what the records hold."""

import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from adamwprune.base.errors import UserError
from adamwprune.base.metrics import LOSS
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
    parts,
    scales,
    sparsity,
    steps,
    times,
)
from adamwprune.report.figures.parts import Drawing, NotDrawn
from adamwprune.report.groups import Setting, group_runs, settings
from tests.support.records import Make, elsewhere, expand, marked

pytestmark = pytest.mark.slow

Draw = Callable[[Setting], Iterator[Drawing]]
OPTIMIZERS = ("sgd", "adam", "adamw", "adamwadv", "adamwspam", "adamwprune")
PUBLISHED = {
    "optimizer_comparison_baseline.png",
    *(f"optimizer_comparison_{s}_pruning.png" for s in (50, 70, 90)),
    "memory_efficiency_summary.png",
    *(
        f"{optimizer}-with-{method}-{kind}.png"
        for optimizer in OPTIMIZERS
        for method in ("movement", "magnitude")
        for kind in ("pruning-model_comparison", "accuracy_evolution")
    ),
    "model_comparison.png",
    "accuracy_evolution.png",
    "training_plot.png",
    "accuracy_against_sparsity.png",
    "pareto_accuracy_bytes.png",
    "accuracy_against_speed_up.png",
    "layer_density.png",
    "magnitude_agreement.png",
    "mask_change.png",
    "weight_histogram.png",
    "gradient_norms.png",
    "time_per_run.png",
}
OF_PRUNING = {
    "accuracy_against_sparsity",
    "pareto_accuracy_bytes",
    "accuracy_against_speed_up",
    "layer_density",
    "mask_change",
    "magnitude_agreement",
    "weight_histogram",
}
GPU = "adamw-50-vs-adamwprune-gpu_comparison.png"


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn does not depend on the resolution."""
    monkeypatch.setitem(style.SHEET, "figure.dpi", 50)


def drawn(specs: list[RunSpec], records: list[RunResult]) -> Iterator[Drawing]:
    """Every figure that is drawn, not yet written."""
    return (each for each in found(specs, records) if isinstance(each, Drawing))


def found(specs: list[RunSpec], records: list[RunResult]) -> Iterator[Drawing | NotDrawn]:
    with style.sheet():
        for setting in settings(specs, records):
            for draw in FIGURES:
                yield from draw(setting)


def figure_of(specs: list[RunSpec], records: list[RunResult], name: str) -> Figure:
    with style.sheet():
        (setting,) = settings(specs, records)
        return next(d.figure for draw in FIGURES for d in draw(setting) if d.name == name)


def panel(figure: Figure, title: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_title(loc="left") == title)


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def absent(axes: Axes) -> list[str]:
    return [str(patch.get_gid()) for patch in axes.patches if patch.get_gid()]


def bar_ends(axes: Axes) -> list[float]:
    bars = [each for each in axes.containers if isinstance(each, BarContainer)]
    return [patch.get_width() for bar in bars for patch in bar.patches]


def dots_of(axes: Axes) -> list[float]:
    """Where the dots of an axis of rows lie."""
    found = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
    return [each.lines[0].get_xdata()[0] for each in found]


def rows_of(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def text_chunks(path: Path) -> dict[str, str]:
    """The tEXt chunks of a PNG, read by the format's own rules."""
    data, at, found = path.read_bytes(), 8, {}
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if kind == b"tEXt":
            name, value = body.split(b"\0", 1)
            found[name.decode()] = value.decode()
        at += 12 + length
    return found


# -- which files -------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(
    published: list[RunSpec], make: Make, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """All figures of the published comparison, measured on a GPU, by name.

    Nobody looks at them, so that nothing need be laid out: :func:`illegible` does.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(style.SHEET, "figure.dpi", 20)
        patch.setattr(ConstrainedLayoutEngine, "execute", lambda engine, figure: None)
        records = [make(spec, gpu=True) for spec in published]
        paths = draw_all(published, records, tmp_path_factory.mktemp("figures"))
    return {path.name: path for path in paths}


def test_every_published_figure_is_drawn_and_nothing_else(everything):
    assert set(everything) == PUBLISHED | {GPU}
    folder = next(iter(everything.values())).parent
    assert {path.name for path in folder.iterdir()} == set(everything)


def test_metadata_names_exactly_the_runs(everything, published):
    def runs(name: str) -> set[str]:
        return set(text_chunks(everything[name])["Runs"].split(", "))

    def expected(*parts: str) -> set[str]:
        return {s.run_id for s in published if any(part in s.run_id for part in parts)}

    assert runs("optimizer_comparison_baseline.png") == expected("-none-")
    assert runs("optimizer_comparison_70_pruning.png") == expected("-70-")
    assert runs("memory_efficiency_summary.png") == expected("-none-", "-90-")
    assert runs("sgd-with-movement-accuracy_evolution.png") == expected("sgd-none", "sgd-movement")
    assert runs("adamwprune-with-movement-pruning-model_comparison.png") == expected(
        "adamwprune-none", "adamwprune-state"
    )
    assert runs("training_plot.png") == expected("adamwprune-state-precond-90")
    assert runs(GPU) == expected(
        "adamw-none", "adamwprune-none", "adamw-m", "adamwprune-m", "adamwprune-state"
    ) - expected("-70-", "-90-")
    assert {text_chunks(path)["Commit"] for path in everything.values()} == {"0123abc"}


def test_drawing_again_gives_the_same_bytes(tmp_path, quick, make):
    records = [make(spec) for spec in quick]
    first = draw_all(quick[:2], records, tmp_path / "one")
    again = draw_all(quick[:2], records[::-1], tmp_path / "two")
    first += draw_training(records[1], tmp_path / "one", ("svg",))
    again += draw_training(records[1], tmp_path / "two", ("svg",))
    assert [path.name for path in first] == [path.name for path in again]
    for one, two in zip(first, again, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name


def test_an_svg_stands_beside_a_png_and_names_its_runs(tmp_path, quick, make):
    png, svg = draw_training(make(quick[0]), tmp_path, ("png", "svg"))
    assert (png.name, svg.name) == ("training_plot.png", "training_plot.svg")
    assert f"Runs: {quick[0].run_id}; Commit: 0123abc" in svg.read_text()


def test_the_quickstart_draws_what_applies(quick, make):
    names = {each.name for each in drawn(quick, [make(spec) for spec in quick])}
    assert names == {
        "optimizer_comparison_baseline",
        "optimizer_comparison_70_pruning",
        "optimizer_comparison_90_pruning",
        "memory_efficiency_summary",
        *(
            f"{optimizer}-with-{method}-{kind}"
            for optimizer in ("adamw", "adamwprune")
            for method in ("movement", "magnitude")
            for kind in ("pruning-model_comparison", "accuracy_evolution")
        ),
        "model_comparison",
        "accuracy_evolution",
        "training_plot",
        "gradient_norms",
        *OF_PRUNING,
    }


def test_without_a_completed_run_nothing_is_drawn(quick, make):
    assert list(drawn(quick, [])) == []
    assert list(drawn(quick, [make(spec, status="failed") for spec in quick])) == []


def test_a_single_dense_run_is_drawn(quick, make):
    names = [each.name for each in drawn(quick[:1], [make(quick[0])])]
    assert names == [
        "optimizer_comparison_baseline",
        "model_comparison",
        "accuracy_evolution",
        "training_plot",
        "gradient_norms",
    ]


def test_data_sets_have_files_of_their_own(tmp_path, make):
    specs = expand("adamw", DATASET_MNIST="y", DATASET_MNIST5K="y")
    names = {p.name for p in draw_all(specs, [make(spec) for spec in specs], tmp_path)}
    assert {"mnist-training_plot.png", "mnist5k-training_plot.png"} < names


def test_gpu_memory_is_drawn_only_where_it_was_measured(published, make):
    pruned = [spec for spec in published if spec.sparsity == 0.5]
    adamw_only = [make(spec, gpu=spec["OPTIMIZER"] == "adamw") for spec in pruned]
    shared = [elsewhere(make(spec, gpu=True), alone=False) for spec in pruned]
    for records in (adamw_only, shared):
        (withheld,) = (each for each in found(pruned, records) if each.name == GPU[:-4])
        assert isinstance(withheld, NotDrawn)
        assert withheld.why.endswith("make measure")


# -- what they show ----------------------------------------------------------


def test_dots_are_the_records_numbers(published, make):
    specs = [
        s for s in published if s.slug.startswith(("lenet5-mnist-sgd-none", "lenet5-mnist-sgd-mag"))
    ]
    records = [make(spec) for spec in specs]
    figure = figure_of(specs, records, "sgd-with-magnitude-pruning-model_comparison")
    accuracy = panel(figure, "Accuracy after the last epoch")
    assert dots_of(accuracy) == pytest.approx([record.score for record in records])
    dense, *pruned = records
    changes = [record.score - dense.score for record in pruned]
    assert dots_of(panel(figure, "Change from dense, paired")) == pytest.approx(changes)
    density = panel(figure, "Density of each layer after pruning")
    layers = pruned[-1].pruning["layers"]
    kept = [100 * (1 - layer["zeros"] / layer["numel"]) for layer in layers]
    assert list(density.get_lines()[-1].get_ydata()) == pytest.approx(kept)
    assert rows_of(accuracy) == ["dense", "50%", "70%", "90%"]


def test_dots_and_curves_are_the_records_numbers(published, make):
    specs = [spec for spec in published if spec.sparsity == 0.7]
    records = [make(spec) for spec in specs]
    figure = figure_of(specs, records, "optimizer_comparison_70_pruning")
    dots = panel(figure, "After the last epoch")
    assert dots_of(dots) == pytest.approx([record.score for record in records])
    assert len(rows_of(dots)) == 12
    movement = panel(figure, "Movement (adamwprune: state (precond))")
    lines = {line.get_label(): line for line in movement.get_lines()}
    state = next(record for record in records if record.spec["PRUNING_METHOD"] == "state")
    drawn_curve = [100 * entry["test_accuracy"] for entry in state.history]
    assert list(lines["adamwprune"].get_ydata()) == pytest.approx(drawn_curve)


def test_missing_and_failed_cells_are_hatched_rows_without_numbers(published, make):
    specs = [spec for spec in published if spec.sparsity == 0.9 and spec["OPTIMIZER"] != "sgd"]
    lost, broken = specs[0], specs[1]
    records = [make(s) for s in specs if s not in (lost, broken)] + [make(broken, status="failed")]
    figure = figure_of(specs, records, "optimizer_comparison_90_pruning")
    dots = panel(figure, "After the last epoch")
    assert absent(dots) == ["absent-missing", "absent-failed"]
    assert texts(dots)[:2] == ["missing", "failed"]
    assert len([each for each in dots.containers if isinstance(each, ErrorbarContainer)]) == 8
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert any("not drawn: adam (missing)" in label for label in labels)
    assert any("not drawn: adam (failed)" in label for label in labels)
    summary = figure_of(specs, records, "memory_efficiency_summary")
    for axes in summary.axes:
        assert absent(axes) == ["absent-missing", "absent-failed"]


def test_a_missing_sparsity_is_missing_in_every_panel(published, make):
    specs = [
        s
        for s in published
        if s.slug.startswith(("lenet5-mnist-adamw-none", "lenet5-mnist-adamw-mov"))
    ]
    records = [make(spec) for spec in specs if spec.sparsity != 0.7]
    figure = figure_of(specs, records, "adamw-with-movement-pruning-model_comparison")
    for title, count in (
        ("Accuracy after the last epoch", 3),
        ("Change from dense, paired", 2),
    ):
        assert absent(panel(figure, title)) == ["absent-missing"]
        assert len(dots_of(panel(figure, title))) == count
    assert "70%: missing" in [text.get_text() for text in legends(figure)[0].get_texts()]


def test_memory_bars_add_up_and_show_the_third_state(published, make):
    records = [make(spec) for spec in published]
    figure = figure_of(published, records, "memory_efficiency_summary")
    left, right = figure.axes
    ends = {}
    for container in left.containers:
        (patch,) = container.patches
        row = round(patch.get_y() + patch.get_height() / 2)
        ends[row] = max(ends.get(row, 0), patch.get_x() + patch.get_width())
    chosen = [r for r in records if r.spec.sparsity in (0, 0.9)]
    assert [1024 * ends[row] for row in range(18)] == pytest.approx(
        [record.memory["total"] for record in chosen]
    )
    third = [c for c in left.containers if c.get_label() == "max_exp_avg_sq"]
    assert len(third) == 9  # adamwadv, adamwspam and adamwprune, three rows each
    assert {1024 * c.patches[0].get_width() for c in third} == {247_000}
    own = [record.memory["pruner"].values() for record in chosen]
    assert 1024 * sum(bar_ends(right)) == pytest.approx(sum(itertools.chain(*own)))
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "max_exp_avg_sq\n(AMSGrad's third state)" in legend
    assert "the scores and the kept weights of movement pruning" in (
        " ".join(figure.get_supxlabel().split())
    )


def test_seeds_show_n_and_a_band(make):
    specs = expand("adamw-magnitude-90", SEED="0 1 2 3")
    records = [make(spec) for spec in specs]
    figure = figure_of(specs, records[:3], "optimizer_comparison_90_pruning")
    assert len(figure.axes[0].collections) == 1
    (number,) = texts(panel(figure, "After the last epoch"))
    assert number.endswith("n = 3 of 4")
    assert "n = 3 runs, mean ± standard deviation" in figure.get_supxlabel()


def test_two_seeds_have_no_interval(make):
    """Student's t with one degree of freedom: 18 deviations from end to end."""
    specs = expand("adamw-magnitude-90", SEED="0 1")
    records = [make(spec) for spec in specs]
    figure = figure_of(specs, records, "optimizer_comparison_90_pruning")
    assert not figure.axes[0].collections
    assert not any(c.has_xerr for axes in figure.axes for c in axes.containers)
    assert "of two runs no interval is drawn" in " ".join(figure.get_supxlabel().split())


def test_one_run_says_that_it_has_no_spread(quick, make):
    figure = figure_of(quick, [make(s) for s in quick], "optimizer_comparison_baseline")
    assert not figure.axes[0].collections
    assert "n = 1, no spread: differences under" in figure.get_supxlabel()
    assert "cpu (Imaginary CPU @ 2.60GHz) · commit: 0123abc" in figure.get_supxlabel()


def test_an_axis_that_skips_zero_says_where_it_starts(quick, make):
    figure = figure_of(quick, [make(s) for s in quick], "optimizer_comparison_baseline")
    axes = figure.axes[-1]
    low = axes.get_xlim()[0]
    assert axes.get_xlabel() == f"test accuracy (%; axis starts at {low:g})"
    assert min(abs(axes.get_xticks() - low)) < 1e-9


def test_a_run_without_any_weight_left_is_drawn(make):
    (spec,) = expand("adamw-magnitude-90", TARGET_SPARSITY="1")
    figure = figure_of([spec], [make(spec)], "adamw-with-magnitude-pruning-model_comparison")
    density = panel(figure, "Density of each layer after pruning")
    assert not any(density.get_lines()[0].get_ydata())
    assert texts(panel(figure, "Change from dense, paired")) == ["no dense run"]


def test_other_criteria_have_files_of_their_own(make):
    specs = expand("adamwprune-90", STATE_CRITERION="precond taylor")
    names = {each.name for each in drawn(specs, [make(spec) for spec in specs])}
    assert "adamwprune-with-movement-accuracy_evolution" in names
    assert "adamwprune-with-state-taylor-accuracy_evolution" in names


def test_an_optimizer_that_is_not_known_here_is_drawn(quick, make):
    values = {**quick[0].values, "OPTIMIZER": "novel"}
    spec = RunSpec(values)
    assert {each.name for each in drawn([spec], [make(spec)])} > {"training_plot"}
    assert style.colour_of("novel") not in {style.colour_of(name) for name in OPTIMIZERS}


# -- origins -----------------------------------------------------------------


def test_stale_runs_are_named_on_the_figure_and_in_its_file(tmp_path, quick, make, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", (optimizers.at_each_sparsity,))
    specs = [spec for spec in quick if spec.sparsity == 0.9]
    stale, frozen, *others = [make(spec) for spec in specs]
    records = [marked(stale, STALE), marked(frozen, FROZEN), *others]
    figure = figure_of(specs, records, "optimizer_comparison_90_pruning")
    rows = rows_of(panel(figure, "After the last epoch"))
    assert [row.endswith(", stale") for row in rows] == [True, False, False, False]
    assert [row.endswith(", frozen") for row in rows] == [False, True, False, False]
    assert "Stale (1 of 4 runs): other code produced the run" in figure.get_supxlabel()
    assert "Frozen (1 of 4 runs): the record was published" in figure.get_supxlabel()
    files = {path.name: path for path in draw_all(specs, records, tmp_path, ("png", "svg"))}
    chunks = text_chunks(files["optimizer_comparison_90_pruning.png"])
    assert (chunks["Stale"], chunks["Frozen"]) == (stale.run_id, frozen.run_id)
    drawn = files["optimizer_comparison_90_pruning.svg"].read_text()
    assert f"; Frozen: {frozen.run_id}; Stale: {stale.run_id}" in drawn


def test_what_holds_for_all_runs_is_said_once(quick, make):
    records = [marked(make(spec), FROZEN) for spec in quick]
    figure = figure_of(quick, records, "model_comparison")
    assert not any("frozen" in row for axes in figure.axes for row in rows_of(axes))
    assert f"Frozen ({2 + 2 * 2} of {2 + 2 * 2} runs)" in figure.get_supxlabel()


def test_no_mark_no_word(everything, quick, make):
    assert all(not {"Stale", "Frozen"} & set(text_chunks(path)) for path in everything.values())
    figure = figure_of(quick, [make(spec) for spec in quick], "model_comparison")
    assert not any(word in figure.get_supxlabel() for word in ("tale", "rozen", "all other"))


@pytest.mark.parametrize(
    "name", ["optimizer_comparison_90_pruning", "memory_efficiency_summary", "model_comparison"]
)
def test_runs_from_elsewhere_carry_a_sign(name, quick, make):
    records = [
        elsewhere(make(s), threads=1) if "adamwprune-magnitude-90" in s.slug else make(s)
        for s in quick
    ]
    figure = figure_of(quick, records, name)
    rows = {" ".join(row.split()) for axes in figure.axes for row in rows_of(axes)}
    signed = [row for row in rows if row.endswith("†")]
    assert len(signed) == 1
    assert signed[0].startswith("adamwprune magnitude")
    place = "cpu (Imaginary CPU @ 2.60GHz)"
    caption = f"† {place}, 1 thread, torch 2.14.1; all other runs: {place}, 2 threads, torch 2.14.1"
    assert caption in " ".join(figure.get_supxlabel().split())
    assert "Times" not in figure.get_supxlabel()  # it shows none


def test_what_is_said_of_runs_takes_no_room_from_the_panels(quick, make):
    records = [make(spec) for spec in quick]
    plain = figure_of(quick, records, "optimizer_comparison_baseline")
    stale = [marked(record, STALE) for record in records]
    noted = figure_of(quick, stale, "optimizer_comparison_baseline")
    panels = []
    for figure in (plain, noted):
        FigureCanvasAgg(figure).draw()
        panels.append(figure.axes[0].get_window_extent().height)
    assert noted.get_supxlabel().count("\n") == plain.get_supxlabel().count("\n") + 1
    assert panels[1] == pytest.approx(panels[0], abs=2)  # pixels


def test_the_figure_with_times_says_what_they_depend_on(published, make):
    other = {"device_name": "Imaginary 9001"}
    records = [
        elsewhere(make(spec, gpu=True), **(other if spec["OPTIMIZER"] == "adamwprune" else {}))
        for spec in published
    ]
    small_print = figure_of(published, records, GPU.removesuffix(".png")).get_supxlabel()
    assert "† cuda (Imaginary 9001), 2 threads, torch 2.14.1; all other runs" in small_print
    assert "Times are comparable only where these agree." in " ".join(small_print.split())


# -- legibility --------------------------------------------------------------


def labels_in_view(axis: Axis) -> list[Text]:
    """Matplotlib keeps labels of ticks outside the view; they are not drawn."""
    low, high = sorted(axis.get_view_interval())
    slack = 1e-9 * (abs(low) + abs(high))
    ticks = axis.get_major_ticks()
    return [tick.label1 for tick in ticks if low - slack <= tick.get_loc() <= high + slack]


def visible_texts(figure: Figure) -> list[Text]:
    found = list(figure.texts)
    for legend in legends(figure):
        found += [*legend.get_texts(), legend.get_title()]
    for axes in figure.axes:
        found += [child for child in axes.get_children() if isinstance(child, Text)]
        for axis in (axes.xaxis, axes.yaxis):
            found += [*labels_in_view(axis), axis.label, axis.get_offset_text()]
    return [text for text in found if text.get_visible() and text.get_text()]


def legends(figure: Figure) -> list[Legend]:
    """Those of its parts too."""
    return [legend for part in (figure, *figure.subfigs) for legend in part.legends]


def collisions(boxes: list[tuple[str, Bbox]]) -> list[str]:
    """Pairs that share more than a pixel in both directions."""
    return [
        f"{one!r} covers {two!r}"
        for (one, a), (two, b) in itertools.combinations(boxes, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    ]


def illegible(figure: Figure) -> list[str]:
    """Texts that leave the canvas or cover each other, legends that cover axes."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in visible_texts(figure)]
    found = [
        f"{text!r} leaves the canvas"
        for text, box in boxes
        if min(box.x0, box.y0) < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1
    ]
    keys = [("legend", legend.get_window_extent(renderer)) for legend in legends(figure)]
    plots = [("plot", axes.get_window_extent(renderer)) for axes in figure.axes]
    return found + collisions(boxes) + collisions([*keys, *plots])


def strained(make: Make) -> dict[str, tuple[list[RunSpec], list[RunResult], Sequence[Draw]]]:
    """Matrices that strain the layout, and which figures to draw of each."""
    full = expand("memory-comparison")
    own = [spec for spec in full if spec["OPTIMIZER"] == "adamwprune"]
    seeds = expand("quickstart", SEED="0 1 2")
    brief = expand("quickstart", EPOCHS="1", PRUNING_WARMUP="10")
    gaps = [make(s) for s in full if s.sparsity != 0.9 or s["PRUNING_METHOD"] == "state"]
    chance = [make(record.spec) for record in gaps]
    for record in chance[::5]:
        for entry in [*record.history, record.final]:
            entry["test_accuracy"] *= 0.1
    name = "NVIDIA H100 80GB HBM3 MIG 1g.20gb of some very long name"
    mixed = [
        elsewhere(make(spec, gpu=True), threads=8 + i % 3, device_name=name, torch="2.14.1+cu130")
        for i, spec in enumerate(full)
    ]
    mixed = [marked(record, *(STALE, FROZEN)[i % 2 :]) for i, record in enumerate(mixed)]
    wide = (
        optimizers.at_each_sparsity,
        memory.summary,
        memory.gpu,
        models.selection,
        sparsity.accuracy_against_sparsity,
        sparsity.pareto,
        masks.layer_density,
        masks.mask_change,
        masks.weight_histogram,
        steps.gradient_norms,
        times.time_per_run,
    )
    return {
        "many rows": (full, [make(spec, gpu=True) for spec in full], wide),
        "one optimizer": (own, [make(spec) for spec in own], FIGURES),
        "seeds": (seeds, [make(spec) for spec in seeds[2:]], wide),
        "gaps": (full, gaps, wide),
        "chance": (full, chance, wide),
        "origins": (full, mixed, (*wide, optimizers.baseline)),
        "one epoch": (brief, [make(spec) for spec in brief], wide),
    }


@pytest.mark.parametrize(
    "case",
    [
        *("one optimizer", "seeds", "chance", "origins", "one epoch"),
        *(pytest.param(less, marks=pytest.mark.long) for less in ("many rows", "gaps")),
    ],
)
def test_every_text_can_be_read(case, make):
    specs, records, which = strained(make)[case]
    with style.sheet():
        (setting,) = settings(specs, records)
        found = [
            f"{each.name}: {problem}"
            for draw in which
            for each in draw(setting)
            if isinstance(each, Drawing)
            for problem in illegible(each.figure)
        ]
    assert not found, "\n".join(found)


def test_numbers_beside_each_other_have_room():
    """Scores of the published panel at 50%, in a panel as narrow."""
    with style.sheet():
        figure = style.new_figure(2.9, 3, "")
        axes = figure.subplots()
        axes.plot([98.45, 99.55], [0, 1])
        scales.metric_axis(axes, LOSS, "test", vertical=False)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        boxes = [
            text.get_window_extent(canvas.get_renderer()) for text in labels_in_view(axes.xaxis)
        ]
    assert len(boxes) > 2
    assert all(b.x0 - a.x1 > 4 for a, b in itertools.pairwise(boxes))


def test_panels_keep_their_height_above_long_names(make):
    (spec,) = expand("adamw-magnitude-90")
    names = [f"transformer.h.{n // 4}.attn.c_attn{n % 4}.weight" for n in range(16)]
    layers = [{"name": name, "numel": 10, "zeros": 5} for name in names]
    record = make(spec)
    record = replace(record, pruning={**record.pruning, "layers": layers})
    with style.sheet():
        (setting,) = settings([spec], [record])
        (drawing,) = masks.layer_density(setting)
        drawing.figure.draw_without_rendering()
        height = drawing.figure.axes[0].get_window_extent().height / drawing.figure.dpi
    assert height > 1, "inches"


def test_runs_side_by_side_fit_a_page_however_many_they_are(make):
    specs = [s for s in expand("memory-comparison") if s["OPTIMIZER"] != "sgd"]
    records = [make(spec) for spec in specs]
    with style.sheet(specs):
        found = list(models.comparison(group_runs(specs, records), "Runs side by side", "lenet5"))
        assert [each.figure.get_figwidth() for each in found] == [style.PAGE] * 2
        assert style.PAGE < 7.5, "inches"
        assert not illegible(found[0].figure) + illegible(found[1].figure)
    assert len(rows_of(panel(found[0].figure, "Accuracy after the last epoch"))) == len(specs) == 35


def test_a_panel_is_named_as_its_method_is():
    assert parts.panel_title("state-precond", []) == "State (precond)"
    assert parts.panel_title("magnitude", []) == "Magnitude"


def test_the_check_of_legibility_sees_what_it_should():
    with style.sheet():
        figure = style.new_figure(6, 4, "One title")
        axes = figure.subplots()
        axes.set_xticks([0, 0.01, 1], ["first", "second", "third"])
        axes.text(0.9, 0.5, "much too long for the canvas", clip_on=False).set_in_layout(False)
        assert illegible(figure) == [
            "'much too long for the canvas' leaves the canvas",
            "'first' covers 'second'",
        ]


# -- commands and refusals ---------------------------------------------------


def test_chosen_runs_side_by_side(tmp_path, quick, make):
    records = [make(spec) for spec in quick[1:4]]
    paths = draw_comparison(records, tmp_path)
    assert [path.name for path in paths] == ["model_comparison.png", "accuracy_evolution.png"]
    for path in paths:
        assert text_chunks(path)["Runs"] == ", ".join(record.run_id for record in records)


def test_one_run_by_itself(tmp_path, quick, make):
    (path,) = draw_training(make(quick[0]), tmp_path)
    assert path.name == "training_plot.png"
    assert text_chunks(path)["Runs"] == quick[0].run_id


def test_a_failed_run_cannot_be_drawn(tmp_path, quick, make):
    failed = make(quick[0], status="failed")
    for draw in (draw_training, lambda record, folder: draw_comparison([record], folder)):
        with pytest.raises(UserError, match="this run failed; there is nothing to draw"):
            draw(failed, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_the_users_error(tmp_path, quick, make):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*Not a directory"):
        draw_training(make(quick[0]), tmp_path / "file" / "figures")


def test_a_failed_write_leaves_the_old_figure(tmp_path, quick, make, monkeypatch):
    (path,) = draw_training(make(quick[0]), tmp_path)
    before = path.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        draw_training(make(quick[1]), tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_changed_tree_is_named(tmp_path, quick, make):
    record = make(quick[0])
    unclean = replace(record, environment={**record.environment, "dirty": True})
    (path,) = draw_training(unclean, tmp_path)
    assert text_chunks(path)["Commit"] == "0123abc-dirty"
