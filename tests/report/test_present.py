"""What make shows: figures are drawn again where what they would show has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from adamwprune.record import STALE
from adamwprune.report import style
from adamwprune.report.present import draw_if_changed
from adamwprune.spec import RunSpec
from tests.report.conftest import Make, marked


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn does not depend on the resolution."""
    monkeypatch.setitem(style.SHEET, "figure.dpi", 50)


def test_a_mark_that_comes_or_goes_is_drawn(tmp_path: Path, quick: list[RunSpec], make: Make):
    specs, record = quick[:1], make(quick[0])
    drawn = draw_if_changed(specs, [record], tmp_path)
    assert tmp_path / "training_plot.png" in drawn
    assert draw_if_changed(specs, [record], tmp_path) == []
    stale = marked(record, STALE)
    assert draw_if_changed(specs, [stale], tmp_path) == drawn
    assert "Stale (1 of 1 runs)" in (tmp_path / "training_plot.svg").read_text()
    assert draw_if_changed(specs, [stale], tmp_path) == []
    assert draw_if_changed(specs, [record], tmp_path) == drawn
