"""Write the configuration's runs to the trackers that are on, or one run, RUN=; trains nothing.

What a tracker has of a run is replaced. The exit status is 1 if one of them lacks something.
"""

import _packages  # noqa: F401
from adamwprune.command import run_command
from adamwprune.experiment import Experiment


def main() -> int:
    experiment = Experiment.load()
    return experiment.track(experiment.workspace.variables.get("RUN", ""))


if __name__ == "__main__":
    run_command(main)
