"""Publish memory-comparison: figures in images/, records and tables in results/published/.

It publishes exactly the runs of that defconfig: settings that would make them others are refused.
A run that was not done here is drawn from its published record, so that a fresh clone redraws
every figure. What is in neither place is drawn as missing.
"""

from dataclasses import replace

import _packages  # noqa: F401
from adamwprune.command import require, run_command
from adamwprune.errors import UserError
from adamwprune.experiment import Experiment
from adamwprune.record import FROZEN
from adamwprune.report import figures, present

require("scipy")

NAME = "memory-comparison"


def main() -> int:
    experiment = Experiment.load(NAME)
    foreign = [n for n in experiment.workspace.settings if not experiment.tree.is_operational(n)]
    if foreign:
        raise UserError(
            f"{', '.join(foreign)}: what is published under {NAME} are its own runs; "
            f"make {NAME} with these settings draws into {experiment.store.root}/figures"
        )
    root, expected = experiment.tree.root, experiment.matrix.specs
    # All that is drawn here is published, and names its commits: no mark says so once more. It
    # would come and go with the code, and a published figure is a function of its records.
    found = (r for r in experiment.records_or_published() if r.status == "done")
    records = [replace(r, marks=r.marks - {FROZEN}) for r in found]
    if not records:
        raise UserError(f"there is no record of {NAME} to draw; make {NAME} trains it")
    drawn = figures.draw_all(expected, records, root / "images", ("png",))
    for stale in set((root / "images").glob("*.png")) - set(drawn):
        stale.unlink()
    presets = experiment.matrix.deciders
    present.publish(experiment.published, NAME, expected, records, memory=True, presets=presets)
    print(f"{len(drawn)} figures of {len(records)} of {len(expected)} runs in {root / 'images'}")
    print(f"records and tables in {experiment.published}")
    return 0


if __name__ == "__main__":
    run_command(main)
