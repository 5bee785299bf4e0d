"""Write report.html: the configuration's runs, their verdicts and curves in one file.

Nothing is trained. Runs without a record that counts are in it as missing, or as stale.
"""

import argparse

from adamwprune import page
from adamwprune.base.console import require
from adamwprune.base.wording import counted
from adamwprune.config.sources import Workspace
from adamwprune.experiment.experiment import Experiment
from adamwprune.page import vendor
from adamwprune.page.data import Uncounted


def write(experiment: Experiment) -> str:
    """Write it, unless what is there says the same; a line on where it is."""
    records = experiment.records()
    shown = {record.run_id for record in records}
    uncounted = {}
    for spec in experiment.matrix.specs:
        if spec.run_id not in shown:
            state = experiment.state(spec)
            uncounted[spec.run_id] = Uncounted(state.name, state.why, state.result)
    specs, folder = experiment.matrix.specs, experiment.store.root
    path = page.write(folder, specs, records, uncounted, experiment.request)
    return f"{path}: {counted(len(specs), 'run')}, for a browser"


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    require(vendor.PACKAGE, "scipy")
    experiment = Experiment.load(workspace)
    for note in experiment.notes():
        print(f"note: {note}")
    print(write(experiment))
    return 0
