"""The ways to a threshold, for tests of what is pruned by it."""

from __future__ import annotations

import pytest

from adamwprune.pruning.select import parts as parts
from adamwprune.pruning.select import selection as selection

WAYS = ["sort", "sample", "histograms"]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """The ways to a threshold; without the sort in parts of 16, so that layers are in several."""
    if request.param != "sort":
        monkeypatch.setattr(selection, "SMALL", -1)
        monkeypatch.setattr(selection, "_SAMPLE_STRIDE", 5)
        monkeypatch.setattr(parts, "SIZE", {"cpu": 16})
    if request.param == "histograms":
        monkeypatch.setattr(selection, "_around", lambda *arguments, **named: None)
