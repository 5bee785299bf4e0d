"""``make track`` while another process trains: what it tells trackers, and when it ends."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from adamwprune.config.sources import Workspace
from adamwprune.experiment import launch
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.looks import Looks
from adamwprune.records.code import Sources
from adamwprune.records.locks import lock
from adamwprune.records.record import RunResult
from adamwprune.records.store import CHECKPOINTS, LOCK, PROGRESS, publish


class Tracking:
    """Notes what it is told; ends after so many calls of :meth:`listen`."""

    def __init__(self, ends_after: int = 99) -> None:
        self.told: list[tuple[str, object]] = []
        self.ends_after = ends_after

    @property
    def is_running(self) -> bool:
        return self.ends_after > 0

    def listen(self) -> None:
        self.ends_after -= 1

    def progress(self, run_id: str, event: Mapping[str, Any]) -> None:
        self.told.append((run_id, event["epoch"]))

    def news(self, run_id: str) -> None:
        self.told.append((run_id, "record"))


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    variables = {"O": str(tmp_path), "OPTIMIZER": "adam", "PRUNING_METHOD": "none"}
    return Experiment.load(Workspace({**variables, "SEED": "0 1"}))


@pytest.mark.parametrize("scheduled", [True, False])
@pytest.mark.slow
def test_runs_are_followed_until_they_have_ended(
    scheduled: bool, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two runs one after the other, if by a scheduler; then nobody trains for a moment."""
    first, second = experiment.matrix.specs
    held = contextlib.ExitStack()
    experiment.root.mkdir(parents=True)

    def trains(spec, epoch: int):
        def act() -> None:
            folder = experiment.root / spec.run_id
            folder.mkdir(exist_ok=True)
            (folder / CHECKPOINTS[0]).touch()
            (folder / PROGRESS).write_text(json.dumps({"step": epoch, "epoch": epoch}))
            if epoch == 1:
                held.enter_context(lock(folder / LOCK, print))

        return act

    def ends(spec):
        def act() -> None:
            folder = experiment.root / spec.run_id
            code = Sources().of(spec).to_json()
            publish(folder, RunResult(spec.run_id, "failed", spec, error="x", code=code))
            held.close()
            if scheduled and spec == first:
                held.enter_context(lock(experiment.root / LOCK, print))

        return act

    trains(first, 1)()
    then = [trains(second, 1), ends(second)] if scheduled else []
    acts = iter([trains(first, 2), ends(first), *then, lambda: None])
    monkeypatch.setattr(launch.time, "sleep", lambda seconds: next(acts)())
    tracking = Tracking()
    launch.follow(Looks(Catalogue.of(experiment)), tracking)  # type: ignore[arg-type]
    told = [(first.run_id, 2), (first.run_id, "record")]
    if scheduled:
        told += [(second.run_id, 1), (second.run_id, "record")]
    assert tracking.told == told
    held.close()


def test_nothing_is_followed_for_trackers_that_have_ended(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment.root.mkdir(parents=True)
    waits: list[float] = []
    monkeypatch.setattr(launch.time, "sleep", waits.append)
    with lock(experiment.root / LOCK, print):
        launch.follow(Looks(Catalogue.of(experiment)), Tracking(2))  # type: ignore[arg-type]
    assert len(waits) == 2
