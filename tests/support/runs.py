"""Short runs on the embedded digits."""

from __future__ import annotations

from pathlib import Path

import pytest

from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.plan.job import Job
from adamwprune.plan.matrix import expand
from adamwprune.plan.spec import RunSpec
from adamwprune.records.code import Sources

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


SOURCES = Sources()


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
        return runner.run(job, SOURCES.of(spec), progress, should_stop)

    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)
