"""Short runs on the embedded digits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adamwprune import training
from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.matrix import expand
from adamwprune.spec import RunSpec

SHORT = {
    "DATASET": "mnist5k",
    "EPOCHS": "2",
    "BATCH_SIZE": "256",
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
    strict.apply(tree, strict.command_line(tree, words, "test"))
    return expand(tree).specs


@pytest.fixture
def train(tmp_path):
    """Train a spec in a directory of its own, in this process."""

    def run(spec: RunSpec, progress=lambda event: None, name: str = "run"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return training.run(
            training.Job(spec, folder, Path("/nowhere"), "cpu", 1, "python train.py"), progress
        )

    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)
