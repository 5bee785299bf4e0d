"""Write report.html: the configuration's runs, their verdicts and curves in one file.

Nothing is trained. Runs without a record that counts are in it as missing, or as stale.
"""

import argparse

from adamwprune import page
from adamwprune.base.console import require
from adamwprune.base.wording import counted
from adamwprune.config.sources import Workspace
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.page import vendor
from adamwprune.page.data import uncounted

VARIABLES = ("PUBLISHED", "KEEP_STALE")


def write(catalogue: Catalogue) -> str:
    """Write it, unless what is there says the same; a line on where it is."""
    experiment, records = catalogue.experiment, catalogue.records()
    specs, folder = experiment.matrix.specs, experiment.root
    others = uncounted(catalogue.states.values(), catalogue.store.result)
    samples = catalogue.store.samples(record.spec for record in records)
    path = page.write(folder, specs, records, others, experiment.request, samples)
    return f"{path}: {counted(len(specs), 'run')}, for a browser"


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    require(vendor.PACKAGE, "scipy")
    experiment = Experiment.load(workspace)
    for note in experiment.notes():
        print(f"note: {note}")
    print(write(Catalogue.of(experiment)))
    return 0
