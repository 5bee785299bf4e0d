"""Show how the configuration's matrix stands and when it will be done; runs nothing."""

import argparse
import shutil
import sys

from adamwprune.config.sources import Workspace
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.launch import Launch
from adamwprune.progress import rows, status
from adamwprune.scheduler.devices import Slot

VARIABLES = ("PUBLISHED", "KEEP_STALE")
UNBOUNDED = 1000  # columns where the output is no terminal


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace)
    launch = Launch(experiment)

    def places(runs: int) -> list[Slot]:
        return launch.places()(runs)

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else UNBOUNDED
    states = list(Catalogue.of(experiment).states.values())
    for line in status.report(experiment.source, states, experiment.root, places, width):
        print(rows.printable(line, sys.stdout.encoding))
    return 0
