"""Show how the configuration's matrix stands and when it will be done; runs nothing."""

import shutil
import sys

import _packages  # noqa: F401
from adamwprune import index, status
from adamwprune.command import run_command
from adamwprune.experiment import Experiment
from adamwprune.scheduler import view
from adamwprune.scheduler.devices import Slot

UNBOUNDED = 1000  # columns where the output is no terminal


def main() -> int:
    experiment = Experiment.load()

    def slots(runs: int) -> list[Slot]:
        return experiment.slots(experiment.machine(), runs)

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else UNBOUNDED
    specs, verdict = experiment.matrix.specs, experiment.verdict
    with index.opened(experiment.store) as runs:
        lines = status.report(experiment.source, specs, runs, slots, width, verdict=verdict)
    for line in lines:
        print(view.printable(line, sys.stdout.encoding))
    return 0


if __name__ == "__main__":
    run_command(main)
