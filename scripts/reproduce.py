"""Repeat a recorded run, RUN=, and compare: identical, within tolerance, or different."""

import logging
import sys

import _packages  # noqa: F401
from adamwprune.command import run_command
from adamwprune.experiment import Experiment
from adamwprune.reproduce import DIFFERENT
from adamwprune.reproduction import reproduce


def main() -> int:
    experiment = Experiment.load()
    logging.getLogger("adamwprune").addHandler(logging.StreamHandler(sys.stdout))
    comparison = reproduce(experiment, experiment.workspace.variables.get("RUN", ""))
    print(comparison.text())
    return 1 if comparison.verdict == DIFFERENT else 0


if __name__ == "__main__":
    run_command(main)
