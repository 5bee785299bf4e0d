"""What make shows: figures are drawn again where what they would show has changed."""

from types import SimpleNamespace

import pytest

from adamwprune.commands import matrix
from adamwprune.page import vendor
from adamwprune.records.record import STALE
from adamwprune.report import figures, style
from adamwprune.report.figures import optimizers, training
from adamwprune.report.present import draw_if_changed
from tests.support.records import marked


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn does not depend on the resolution."""
    monkeypatch.setitem(style.SHEET, "figure.dpi", 50)


@pytest.mark.slow
def test_a_mark_that_comes_or_goes_is_drawn(tmp_path, quick, make, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", (optimizers.baseline, training.example))
    specs, record = quick[:1], make(quick[0])
    drawn = draw_if_changed(specs, [record], tmp_path)
    assert tmp_path / "training_plot.png" in drawn
    assert draw_if_changed(specs, [record], tmp_path) == []
    stale = marked(record, STALE)
    assert draw_if_changed(specs, [stale], tmp_path) == drawn
    assert "Stale (1 of 1 run)" in (tmp_path / "training_plot.svg").read_text()
    assert draw_if_changed(specs, [stale], tmp_path) == []
    assert draw_if_changed(specs, [record], tmp_path) == drawn


@pytest.mark.slow
def test_make_counts_figures_and_not_their_files(
    source_tree, tmp_path, quick, make, monkeypatch, capsys
):
    monkeypatch.setattr(vendor, "is_installed", lambda: False)
    experiment = SimpleNamespace(
        matrix=SimpleNamespace(specs=quick[:1]),
        workspace=SimpleNamespace(variables={}),
        request=None,
        root=tmp_path,
        figures=tmp_path / "figures" / "quickstart",
    )
    catalogue = SimpleNamespace(experiment=experiment, records=lambda: [make(quick[0])])
    matrix._present(catalogue, memory=False)
    folder = experiment.figures
    assert len(list(folder.glob("*.png"))) == len(list(folder.glob("*.svg"))) == 5
    assert f"\n5 figures in {folder}\n" in capsys.readouterr().out
