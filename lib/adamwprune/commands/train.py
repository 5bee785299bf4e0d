"""Train the configuration's one run in the foreground; a configuration of several is refused."""

import argparse

from adamwprune.config.sources import Workspace
from adamwprune.experiment.experiment import Experiment, train_in_foreground


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    return train_in_foreground(Experiment.load(workspace))
