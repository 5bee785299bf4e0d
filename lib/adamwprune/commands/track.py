"""Write the configuration's runs to the trackers that are on, or one run, RUN=; trains nothing.

Runs that train in another shell are followed until they have ended; Ctrl-C ends that. What a
tracker has of a run is replaced. The exit status is 1 if one of them lacks something.
"""

import argparse

from adamwprune.config.sources import Workspace
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.launch import Launch

VARIABLES = ("RUN",)


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace)
    return Launch(experiment).track(experiment.workspace.variables.get("RUN", ""))
