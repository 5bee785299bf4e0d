"""Explain one run, RUN=, by its id or the start of it: done, stale and why, missing, failed."""

import _packages  # noqa: F401
from adamwprune.command import run_command
from adamwprune.experiment import Experiment
from adamwprune.explanation import explain


def main() -> int:
    experiment = Experiment.load()
    for line in explain(experiment, experiment.workspace.variables.get("RUN", "")):
        print(line)
    return 0


if __name__ == "__main__":
    run_command(main)
