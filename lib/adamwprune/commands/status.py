"""Show how the configuration's matrix stands and when it will be done; runs nothing."""

import argparse
import shutil
import sys

from adamwprune.config.sources import Workspace
from adamwprune.experiment.experiment import Experiment
from adamwprune.progress import rows, status
from adamwprune.records import index
from adamwprune.scheduler.devices import Slot

UNBOUNDED = 1000  # columns where the output is no terminal


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace)

    def slots(runs: int) -> list[Slot]:
        return experiment.slots(experiment.machine(), runs)

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else UNBOUNDED
    specs, verdict = experiment.matrix.specs, experiment.verdict
    with index.opened(experiment.store) as runs:
        lines = status.report(experiment.source, specs, runs, slots, width, verdict=verdict)
    for line in lines:
        print(rows.printable(line, sys.stdout.encoding))
    return 0
