"""Publish the records of a defconfig, CONFIG=, and their table in results/published/.

Another machine goes on from there: make CONFIG=… PUBLISHED=1 takes them for its own and trains what
is missing. A run that was not done here keeps its published record.
"""

import argparse

from adamwprune.base.console import require
from adamwprune.base.errors import UserError
from adamwprune.base.wording import counted
from adamwprune.config.sources import Workspace
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment

require("scipy")


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace)
    name = experiment.workspace.variables.get("CONFIG", "")
    foreign = [n for n in experiment.workspace.settings if not experiment.tree.is_operational(n)]
    if not name or foreign:
        raise UserError(
            f"make publish takes CONFIG=, a defconfig whose runs it publishes, and no settings "
            f"that would make them others{': ' + ', '.join(foreign) if foreign else ''}"
        )
    catalogue = Catalogue.of(experiment)
    records = [r for r in catalogue.records_or_published() if r.status == "done"]
    if not records:
        raise UserError(f"there is no record of {name} to publish; make CONFIG={name} trains it")
    catalogue.publish(name, records, memory=False)
    path, expected = experiment.published / name, counted(len(experiment.matrix.specs), "run")
    print(f"{len(records)} of {expected} in {path}.jsonl and .md")
    return 0
