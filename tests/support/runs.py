"""Short runs: on the embedded digits, and on a toy that brings its own network and data."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from adamwprune.base import registry
from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.plan.job import Job
from adamwprune.plan.matrix import expand
from adamwprune.plan.spec import RunSpec
from adamwprune.records.code import Sources

TOY = Path(__file__).resolve().parents[1] / "members" / "toy"
SHORT = {
    "DATASET": "mnist5k",
    "EPOCHS": "2",
    "BATCH_SIZE": "256",
    "LR": "0.001",  # steps so small that rounding grows slowly: devices and graphs are compared
    "PRUNING_WARMUP": "4",
    "PRUNING_INTERVAL": "5",
}


def specs(**settings: str) -> list[RunSpec]:
    """The specs of a short configuration; pruning options only where something prunes."""
    tree = Tree()
    words = {**SHORT, **settings}
    if words.get("PRUNING_METHOD", "none") == "none":
        words = {
            k: v
            for k, v in words.items()
            if not k.startswith("PRUNING_W") and k != "PRUNING_INTERVAL"
        }
    if "STEPS" in words:
        del words["EPOCHS"]
    if words.get("PRUNING_SCHEDULE") == "one-shot":
        del words["PRUNING_INTERVAL"]
    if words.get("PRUNING_SCHEDULE") == "constant":
        del words["PRUNING_WARMUP"]
    strict.apply(tree, strict.command_line(tree, words, "test"))
    return expand(tree).specs


def toy_specs(**settings: str) -> list[RunSpec]:
    """The same runs of the toy, in a hundredth of the time: as many steps, 676 weights.

    A test that trains them uses the fixture ``toys``.
    """
    with registry.using(TOY):
        return specs(**{"MODEL": "toy", "DATASET": "toy", "BATCH_SIZE": "4", **settings})


@pytest.fixture(scope="module")
def toys():
    """The toy's network and data are members, here and in processes that are started."""
    with registry.using(TOY):
        yield


SOURCES = Sources()


@functools.cache
def _sources(outside: Path | None) -> Sources:
    """The code as it is with members from this directory."""
    return Sources() if outside else SOURCES


def job_of(spec: RunSpec, folder: Path, **settings):
    """A job on one thread of the CPU, in ``folder``."""
    folder.mkdir(exist_ok=True)
    job = {"device": "cpu", "threads": 1, "command": "python train.py", **settings}
    return Job(spec, folder, Path("/nowhere"), **job)


@pytest.fixture
def train(tmp_path):
    """Train a spec in a directory of its own, in this process."""
    import torch  # here, because most rooms are tested without it

    from adamwprune.run import runner

    def run(spec: RunSpec, progress=lambda event: None, name: str = "run", **settings):
        should_stop = settings.pop("should_stop", lambda: False)
        job = job_of(spec, tmp_path / name, **settings)
        return runner.run(job, _sources(registry.outside()).of(spec), progress, should_stop)

    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)
