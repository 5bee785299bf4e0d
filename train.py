"""Train one run.

It starts from the defaults of the Kconfig tree, whatever .config holds; --config FILE reads one.
Every flag is derived from Kconfig: make menuconfig explains each at length. M=DIR takes the
members of a directory outside the tree too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from adamwprune.base.console import require, run_command

require("kconfiglib", "yaml", "rich", "torch")

from adamwprune.base import registry
from adamwprune.commands.train import train_in_foreground
from adamwprune.config import flags, sources, strict
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree
from adamwprune.experiment.experiment import Experiment
from adamwprune.plan.matrix import expand


def main() -> int:
    members = [word for word in sys.argv[1:] if word.startswith("M=")]
    workspace = Workspace(dict(word.split("=", 1) for word in members))
    with registry.using(workspace.members):
        return train(workspace, [word for word in sys.argv[1:] if word not in members])


def train(workspace: Workspace, words: Sequence[str]) -> int:
    tree = Tree()
    given = flags.parse(tree, words, __doc__ or "")
    if given.config:
        sources.read_into(tree, given.config)
    strict.apply(tree, strict.command_line(tree, given.settings, "command line"))
    source = str(given.config or "the command line")
    experiment = Experiment(tree, workspace, source, expand(tree))
    return train_in_foreground(experiment)


if __name__ == "__main__":
    run_command(main)
