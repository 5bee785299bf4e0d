"""Check the published figures: redraw them from results/published/ and compare what they plot.

Nothing but what git tracks plays a part, so that a fresh clone can do it: the figures are drawn
into a temporary folder, and the data of each is compared with images/data/. Fails on a figure that
is missing, that names other runs or that plots other data, and says which and where.
"""

import argparse
import tempfile
from pathlib import Path

from adamwprune.base.console import require
from adamwprune.base.errors import UserError
from adamwprune.base.wording import counted
from adamwprune.commands.update_graphs import NAME, clean, draw_published, load
from adamwprune.config.sources import Workspace
from adamwprune.experiment import tracks
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.report import figures
from adamwprune.report.figures import check

require("scipy")


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = load(workspace)
    records = clean(Catalogue.of(experiment).frozen())
    if not records:
        raise UserError(f"{experiment.published}: there is no record of {NAME}")
    images = experiment.workspace.home(experiment.tree) / "images"
    with tempfile.TemporaryDirectory() as folder:
        redrawn = Path(folder)
        root = experiment.workspace.home(experiment.tree)
        draw_published(experiment, records, tracks.published(root), redrawn)
        found = check.problems(images, redrawn)
        count = len(list(redrawn.glob(f"*.{figures.FORMATS[0]}")))
    for problem in found:
        print(f"{images.name}/{problem}")
    files = len({problem.split(":")[0] for problem in found})
    if found:
        print(f"{counted(files, 'file')} drifted")
        return 1
    print(
        "1 figure shows what its records say"
        if count == 1
        else f"{count} figures show what their records say"
    )
    return 0
