"""Write report.html: the configuration's runs, their verdicts and curves in one file.

Nothing is trained. Runs without a record that counts are in it as missing, or as stale.
"""

import _packages  # noqa: F401
from adamwprune.command import require, run_command
from adamwprune.experiment import Experiment
from adamwprune.report import html
from adamwprune.report.html import vendor
from adamwprune.report.html.data import Uncounted
from adamwprune.wording import counted


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
    path = html.write(folder, specs, records, uncounted, experiment.request)
    return f"{path}: {counted(len(specs), 'run')}, for a browser"


def main() -> int:
    require(vendor.PACKAGE, "scipy")
    experiment = Experiment.load()
    for note in experiment.notes():
        print(f"note: {note}")
    print(write(experiment))
    return 0


if __name__ == "__main__":
    run_command(main)
