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
from adamwprune.records.locks import holder
from adamwprune.records.state import RUNNING
from adamwprune.records.store import LOCK
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
    lines = status.report(*asked)
    trains = holder(experiment.root / LOCK)
    if trains and not any(each.name == RUNNING for each in states):
        lines.append(f"make (process {trains}) trains runs of other settings; make stop stops it")
    for line in lines:
        print(rows.printable(line, sys.stdout.encoding))
    return 0
