"""What a figure plots as data; and that a drift of it, or a missing image, is found."""

import argparse
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from adamwprune.base.errors import UserError
from adamwprune.commands import graph_check, update_graphs
from adamwprune.config.sources import Workspace
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.plan.spec import RunSpec
from adamwprune.records.published import read_published
from adamwprune.records.record import FROZEN, STALE, RunResult
from adamwprune.report import figures, style
from adamwprune.report.figures import check, optimizers, plotted, training
from tests.support.records import Make, elsewhere, marked

pytestmark = pytest.mark.slow

SMALL = (optimizers.baseline, training.example)


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Two figures, coarse: what is compared depends on neither."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(style.SHEET, "figure.dpi", 50)
        patch.setattr(figures, "FIGURES", SMALL)
        yield


@pytest.fixture(scope="module")
def records(quick: list[RunSpec], make: Make) -> list[RunResult]:
    return [make(spec) for spec in quick]


Drawn = Callable[..., Path]


@pytest.fixture(scope="module")
def draw(small: None, tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """``draw(records)``: the folder of their figures; those of equal records are drawn once."""
    folders: list[tuple[list[RunResult], Path]] = []

    def made(records: Sequence[RunResult]) -> Path:
        for known, folder in folders:
            if known == list(records):
                return folder
        folder = tmp_path_factory.mktemp("drawn")
        specs = sorted((r.spec for r in records), key=lambda spec: spec.run_id)
        figures.draw_all(specs, records, folder, figures.FORMATS, data=True)
        folders.append((list(records), folder))
        return folder

    return made


@pytest.fixture
def folders(tmp_path: Path, records: list[RunResult], draw: Drawn) -> tuple[Path, Path]:
    """The figures as they were published, and redrawn from the same records."""
    both = (tmp_path / "images", tmp_path / "redrawn")
    for folder in both:
        shutil.copytree(draw(records), folder)
    return both


# -- the data ------------------------------------------------------------------


def axes_of_everything() -> Figure:
    figure = Figure()
    axes = figure.subplots()
    axes.set_title("Panel", loc="left")
    axes.plot([1, 2], [3.0000001, float("nan")], label="line of mine", color="red")
    axes.errorbar([1], [5], yerr=[2], label="a dot", linestyle="none", capsize=2)
    axes.barh([0, 1], [4, 6], height=0.5, label="bars")
    axes.fill_between([0, 1], [1, 1], [2, 2], color="#0000ff")
    axes.scatter([7], [8], label="points")
    axes.stairs([1, 2], [0, 5, 10], label="steps")
    axes.text(0, 0, "98.71 ± 0.09")
    axes.set_yticks([0, 1], ["first", "second"])
    return figure


def test_all_that_is_plotted_is_in_the_data():
    (found,) = plotted.plotted(axes_of_everything())["axes"]
    assert (found["title"], found["rows"]) == ("Panel", ["first", "second"])
    assert found["texts"] == ["98.71 ± 0.09"]
    series: dict[str, list] = {}
    for each in found["series"]:
        series.setdefault(each["name"], []).append(each["points"])
    assert series["line line of mine"] == [[[1, 3], [2, None]]]
    assert series["line a dot"] == [[[1, 5]], [[1, 3]], [[1, 7]]]
    assert series["whiskers a dot"] == [[[1, 3], [1, 7]]]
    assert series["bar bars"] == [[[0, -0.25, 4, 0.5]], [[0, 0.75, 6, 0.5]]]
    assert [0, 2] in series["band #0000ff"][0]
    assert series["band points"] == [[[7, 8]]]
    assert [5, 2] in series["bar steps"][0]


def test_the_text_is_json_a_series_a_line():
    data = plotted.plotted(axes_of_everything())
    text = plotted.to_text(data)
    assert json.loads(text) == data
    assert sum('"name"' in line for line in text.splitlines()) == len(data["axes"][0]["series"])
    assert plotted.digest(text) == plotted.digest(plotted.to_text(data))
    assert json.loads(plotted.to_text(plotted.plotted(Figure()))) == {"axes": []}


def test_limits_sizes_and_small_print_are_no_data():
    figure = axes_of_everything()
    before = plotted.plotted(figure)
    figure.axes[0].set_ylim(-100, 100)
    figure.axes[0].grid(visible=True)
    figure.supxlabel("small print")
    figure.legend(handles=[Patch(label="more")])
    figure.set_size_inches(20, 20)
    assert plotted.plotted(figure) == before


def line(*points: list[float | None], name: str = "line x", title: str = "A") -> dict:
    series = [{"name": name, "points": list(points)}]
    return {"axes": [{"title": title, "rows": [], "texts": ["1"], "series": series}]}


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (line([1, 2], [3, 4]), []),
        (line([1, 2], [3, 4.00004]), []),  # the last of six digits
        (line([1, 2], [3, 4.1]), ["panel 1 (A), series 'line x', point 2: [3, 4] → [3, 4.1]"]),
        (line([1, 2], [3, None]), ["panel 1 (A), series 'line x', point 2: [3, 4] → [3, None]"]),
        (line([1, 2]), ["panel 1 (A), series 'line x': had 2 points, has 1"]),
        (line([1, 2], [3, 4], name="line y"), ["panel 1 (A), series 'line x' → 'line y'"]),
        (line([1, 2], [3, 4], title="B"), ["panel 1 (B), title: 'A' → 'B'"]),
        ({"axes": []}, ["had 1 panels, has 0"]),
    ],
)
def test_drift_names_panel_series_and_both_values(new, told):
    assert plotted.drift(line([1, 2], [3, 4]), new) == told


def test_texts_and_missing_series_drift_too():
    old, new = line([1, 2]), line([1, 2])
    new["axes"][0]["texts"] = ["1", "2"]
    new["axes"][0]["series"] = []
    assert plotted.drift(old, new) == [
        "panel 1 (A), texts: None → '2'",
        "panel 1 (A): had 1 series, has 0",
    ]


def test_of_many_differences_the_first_are_told():
    old, new = line(*([n, 1] for n in range(9))), line(*([n, 2] for n in range(9)))
    found = plotted.drift(old, new)
    assert len(found) == 6
    assert found[-1] == "and 4 more differences"


# -- published figures -----------------------------------------------------------


def test_figures_of_the_same_records_have_no_problem(folders):
    published, _ = folders
    assert check.problems(*folders) == []
    assert check.files(published) == {
        f"{part}{name}.{ending}"
        for name in ("optimizer_comparison_baseline", "training_plot")
        for part, ending in (("", "png"), ("", "svg"), ("data/", "json"))
    }


def test_a_planted_drift_is_found(folders, records, draw):
    """One run's final accuracy is another by a tenth of a point: the figure's file says where."""
    published, _ = folders
    before = records[0]
    final = {**before.final, "test_accuracy": before.final["test_accuracy"] - 0.001}
    history = [*before.history[:-1], {**before.history[-1], **final}]
    planted = [replace(before, final=final, history=history), *records[1:]]
    found = check.problems(published, draw(planted))
    old, new = f"{before.score:.2f}", f"{planted[0].score:.2f}"
    assert {problem.split(":")[0] for problem in found} == {
        "data/optimizer_comparison_baseline.json"
    }
    assert f"panel 2 (After the last epoch), texts: '{old}  n = 1' → '{new}  n = 1'" in found[1]
    assert "panel 1 (Dense), series 'line adamw', point" in found[0]


def test_missing_and_foreign_files_are_found(folders):
    published, redrawn = folders
    (published / "training_plot.svg").unlink()
    (published / "data" / "optimizer_comparison_baseline.json").unlink()
    shutil.copy(published / "training_plot.png", published / "of_another_time.png")
    assert check.problems(published, redrawn) == [
        "data/optimizer_comparison_baseline.json: is missing; make update-graphs draws it anew",
        "training_plot.svg: is missing; make update-graphs draws it anew",
        "of_another_time.png: no record makes it; remove it",
    ]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_an_image_of_other_runs_or_of_another_commit_is_found(ending, folders, records, draw):
    published, redrawn = folders
    name = f"training_plot.{ending}"
    other = draw([elsewhere(r, commit="beef") for r in records])
    shutil.copy(other / name, published / name)
    assert check.problems(published, redrawn) == [f"{name}: Commit beef → 0123abc"]
    fewer = draw(records[:1])
    shutil.copy(fewer / name, published / name)
    runs, shown = check.problems(published, redrawn)
    assert runs.startswith(f"{name}: Runs {records[0].run_id} → lenet5-")
    assert shown.startswith(f"{name}: does not show what data/training_plot.json says")
    (published / name).write_bytes(b"no image")
    found = check.problems(published, redrawn)
    assert f"{name}: Commit not named → 0123abc" in found
    assert shown in found


def test_damaged_data_is_found(folders):
    published, redrawn = folders
    path = published / "data" / "training_plot.json"
    for text in ("{", "[]", '{"axes": [{}]}', '{"axes": 3}', "null"):
        path.write_text(text)
        found = [p for p in check.problems(published, redrawn) if p.startswith("data/")]
        assert len(found) == 1, text


def test_svg_is_the_same_each_time_and_has_no_date(folders, records, draw):
    published, _ = folders
    again = draw(records[::-1])
    for path in published.glob("*.svg"):
        text = path.read_text()
        assert text == (again / path.name).read_text()
        assert "<dc:date>" not in text
        assert "; Commit: 0123abc; Data: " in style.provenance_of(path)
        assert style.provenance_of(path) == style.provenance_of(path.with_suffix(".png"))


# -- the commands ------------------------------------------------------------------


class Experiment:
    """As much of an experiment as the commands ask for, in a folder of its own."""

    def __init__(self, root: Path, specs: list[RunSpec], here: list[RunResult]) -> None:
        self.tree = SimpleNamespace(root=root, is_operational=lambda name: True)
        self.workspace = SimpleNamespace(settings={}, home=lambda tree: root)
        self.matrix = SimpleNamespace(specs=specs, deciders={})
        self.root = root / "results"
        self.figures = self.root / "figures" / "memory-comparison-seeds"
        self.published = root / "results" / "published"
        self.here = here


class Found(Catalogue):
    """Its records, which are none of files."""

    def records_or_published(self) -> list[RunResult]:
        return self.experiment.here or self.frozen()

    def frozen(self) -> list[RunResult]:
        return [marked(record, FROZEN) for record in read_published(self.experiment.published)]


@pytest.fixture
def commands(
    source_tree: Path, tmp_path: Path, records: list[RunResult], monkeypatch: pytest.MonkeyPatch
):
    """Both commands over ten runs, and the folder they work in."""
    update, compare = update_graphs, graph_check
    experiment = Experiment(tmp_path, [r.spec for r in records], records)
    monkeypatch.setattr(update.Experiment, "load", lambda workspace, name: experiment)
    for command in (update, compare):
        monkeypatch.setattr(command, "Catalogue", Found)
    nothing = (Workspace({}), argparse.Namespace())
    return partial(update.main, *nothing), partial(compare.main, *nothing), experiment


def test_what_was_published_is_redrawn_in_a_fresh_clone(commands, capsys):
    update, compare, experiment = commands
    (experiment.tree.root / "images").mkdir()
    (experiment.tree.root / "images" / "of_before.svg").write_text("old")
    *clean, changed = experiment.here
    experiment.here = [*clean, elsewhere(changed, dirty=True)]
    assert update() == 0
    assert "1 figure of 9 of 10 runs" in capsys.readouterr().out
    assert not (experiment.tree.root / "images" / "of_before.svg").exists()
    assert {path.stem for path in experiment.figures.glob("*.png")} == {
        "optimizer_comparison_baseline",
        "training_plot",
    }, "all are drawn, those that stand for the others are published"
    path = experiment.published / "memory-comparison-seeds.jsonl"
    assert len(path.read_text().splitlines()) == 10
    experiment.here = []  # nobody has trained anything there
    assert compare() == 0
    assert capsys.readouterr().out == "1 figure shows what its records say\n"
    path = experiment.published / "memory-comparison-seeds.jsonl"
    path.write_text(path.read_text().replace('"test_accuracy": 0.9', '"test_accuracy": 0.8'))
    (experiment.tree.root / "images" / "optimizer_comparison_baseline.png").unlink()
    assert compare() == 1
    told = capsys.readouterr().out
    assert "images/optimizer_comparison_baseline.png: is missing" in told
    assert "images/data/optimizer_comparison_baseline.json: panel 1 (Dense), series" in told
    assert told.endswith("2 files drifted\n")


def test_stale_and_failed_runs_are_marked_where_they_are_published(commands, capsys):
    update, _, experiment = commands
    first, second, *others = experiment.here
    failed = RunResult(second.run_id, "failed", second.spec, environment=second.environment)
    experiment.here = [marked(first, STALE), failed, *others]
    assert update() == 0
    assert f"{second.run_id}: this run failed; the figures show it as missing" in (
        capsys.readouterr().out
    )
    images = experiment.tree.root / "images"
    for ending in figures.FORMATS:
        found = style.provenance_of(images / f"optimizer_comparison_baseline.{ending}")
        assert f"; Stale: {first.run_id}" in found
    data = json.loads((images / "data" / "optimizer_comparison_baseline.json").read_text())
    rows = data["axes"][-1]["rows"]
    assert [row.endswith(", stale") for row in rows[:1]] == [True]


def test_without_a_published_record_there_is_nothing_to_compare(commands):
    _, compare, _ = commands
    with pytest.raises(UserError, match="there is no record of memory-comparison-seeds"):
        compare()
