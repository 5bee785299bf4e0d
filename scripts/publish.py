"""Publish the records of a defconfig, CONFIG=, and their table in results/published/.

Another machine goes on from there: make CONFIG=… PUBLISHED=1 takes them for its own and trains what
is missing. A run that was not done here keeps its published record.
"""

import _packages  # noqa: F401
from adamwprune.command import require, run_command
from adamwprune.errors import UserError
from adamwprune.experiment import Experiment
from adamwprune.wording import counted

require("scipy")


def main() -> int:
    experiment = Experiment.load()
    name = experiment.workspace.variables.get("CONFIG", "")
    foreign = [n for n in experiment.workspace.settings if not experiment.tree.is_operational(n)]
    if not name or foreign:
        raise UserError(
            f"make publish takes CONFIG=, a defconfig whose runs it publishes, and no settings "
            f"that would make them others{': ' + ', '.join(foreign) if foreign else ''}"
        )
    records = [r for r in experiment.records_or_published() if r.status == "done"]
    if not records:
        raise UserError(f"there is no record of {name} to publish; make CONFIG={name} trains it")
    experiment.publish(name, records, memory=False)
    path, expected = experiment.published / name, counted(len(experiment.matrix.specs), "run")
    print(f"{len(records)} of {expected} in {path}.jsonl and .md")
    return 0


if __name__ == "__main__":
    run_command(main)
