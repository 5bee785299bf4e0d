"""Show how the configuration's matrix stands and when it will be done; runs nothing."""

import argparse
import contextlib
import shutil
import sys

from adamwprune.base.errors import UserError
from adamwprune.config.sources import Workspace
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.launch import Launch
from adamwprune.progress import rows, status
from adamwprune.scheduler.devices import Agents, Slot

VARIABLES = ("PUBLISHED", "KEEP_STALE")
UNBOUNDED = 1000  # columns where the output is no terminal


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace)
    launch = Launch(experiment)

    def places(runs: int) -> list[Slot]:
        return launch.places()(runs)

    def agents(runs: int) -> Agents | None:
        with contextlib.suppress(UserError):  # make says so
            return launch.agents(runs)
        return None

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else UNBOUNDED
    states = list(Catalogue.of(experiment).states.values())
    asked = (experiment.source, states, experiment.root, places, width, agents, experiment.names)
    for line in status.report(*asked):
        print(rows.printable(line, sys.stdout.encoding))
    return 0
