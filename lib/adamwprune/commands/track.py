"""Write the configuration's runs to the trackers that are on, or one run, RUN=; trains nothing.

What a tracker has of a run is replaced. The exit status is 1 if one of them lacks something.
"""

import argparse

from adamwprune.config.sources import Workspace
from adamwprune.experiment.experiment import Experiment


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace)
    return experiment.track(experiment.workspace.variables.get("RUN", ""))
