"""What tests of real engines share: where they can run, and agents that are killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import TypeVar

import pytest

from adamwprune.records.store import Store
from adamwprune.scheduler import cluster as driving
from adamwprune.scheduler import spool
from adamwprune.scheduler.cluster import Cluster, Engine
from adamwprune.scheduler.spool import Settings
from tests.scheduler.test_pool import ENV, ROOT, Recorder
from tests.support import slurm

Test = TypeVar("Test", bound=Callable[..., object])
SETTINGS = Settings(device="cpu", jobs=1, lease_seconds=3.0, retries=9, versions=spool.versions())


def _missing(package: str) -> str:
    """What is said where a package is not installed; empty where it is."""
    return "" if importlib.util.find_spec(package) else f"{package} is not installed"


def _needed(reason: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow, pytest.mark.skipif(bool(reason), reason=reason or "it is there")]


ON_SLURM = _needed(slurm.missing() or _missing("submitit"))
ON_RAY = _needed(_missing("ray"))


def on(marks: list[pytest.MarkDecorator]) -> Callable[[Test], Test]:
    """The marks, on one test."""

    def marked(test: Test) -> Test:
        for mark in marks:
            test = mark(test)
        return test

    return marked


def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drivers of this process, whose agents find the tests' members."""
    for name, value in {"LOOK": 0.2, "ASK": 1.0}.items():
        monkeypatch.setattr(driving, name, value)
    monkeypatch.setenv("PYTHONPATH", ENV["PYTHONPATH"])


def driver(
    store: Store, engine: Engine, recorder: Recorder | None = None, agents: int = 3
) -> Cluster:
    """What ``make`` on a cluster does."""
    return Cluster(store, engine, agents, SETTINGS, recorder or Recorder())


def driver_elsewhere(script: str, *words: str) -> subprocess.Popen[bytes]:
    """A Python process that may be killed; ``script`` sees its ``words``."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ENV["PYTHONPATH"]},
    )


class Once:
    """An observer's harm: ``work`` is done once, when a run has passed ``step``."""

    def __init__(self, work: Callable[[], object], step: int = 10) -> None:
        self.work, self.step = work, step
        self.done: list[object] = []  # the run that was harmed

    def __call__(self, spec, event) -> None:
        if not self.done and event.get("step", 0) > self.step:
            self.done.append(spec)
            self.work()


def kill_agent_of(made: Cluster, spec) -> bool:
    """kill -9 of the agent that trains a run; whether one said that it does."""
    working = [each for each in made.spool.agents() if spec.run_id in each["runs"]]
    if working:
        os.kill(working[0]["pid"], signal.SIGKILL)
    return bool(working)
