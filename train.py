"""Train one run.

It starts from the defaults of the Kconfig tree, whatever .config holds; --config FILE reads one.
Every flag is derived from Kconfig: make menuconfig explains each at length.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from adamwprune.base.console import require, run_command

require("kconfiglib", "yaml", "rich", "torch")

from adamwprune.commands.train import train_in_foreground
from adamwprune.config import flags, sources, strict
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree
from adamwprune.experiment.experiment import Experiment
from adamwprune.plan.matrix import expand


def main() -> int:
    tree = Tree()
    given = flags.parse(tree, sys.argv[1:], __doc__ or "")
    if given.config:
        sources.read_into(tree, given.config)
    strict.apply(tree, strict.command_line(tree, given.settings, "command line"))
    source = str(given.config or "the command line")
    experiment = Experiment(tree, Workspace({}), source, expand(tree))
    return train_in_foreground(experiment)


if __name__ == "__main__":
    run_command(main)
