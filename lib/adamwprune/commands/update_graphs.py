"""Publish memory-comparison over five seeds: figures in images/, records in results/published/;
and the pruning tracks: tables in docs/track.md, figures beside the others.

It publishes exactly the runs of that defconfig: settings that would make them others are refused.
A run that was not done here, another seed say, is drawn from its published record, so that a fresh
clone redraws every figure. What is in neither place, or failed, is drawn as missing; runs of other
code (KEEP_STALE=1) and times of runs that shared the machine are marked. Beside the images,
images/data/ keeps what they plot: make graph-check compares.
"""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from adamwprune.base.console import require
from adamwprune.base.errors import UserError
from adamwprune.base.wording import counted
from adamwprune.config.sources import Workspace
from adamwprune.experiment import tracks
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.records.published import published_as
from adamwprune.records.record import FROZEN, RunResult
from adamwprune.report import figures
from adamwprune.report.figures import check

require("scipy")

VARIABLES = ("KEEP_STALE",)
NAME = "memory-comparison-seeds"


def load(workspace: Workspace) -> Experiment:
    """The experiment whose figures are published; refuses settings that make it another one."""
    experiment = Experiment.load(workspace, NAME)
    foreign = [n for n in experiment.workspace.settings if not experiment.tree.is_operational(n)]
    if foreign:
        raise UserError(
            f"{', '.join(foreign)}: what is published under {NAME} are its own runs; "
            f"make CONFIG={NAME} with these settings draws into {experiment.root}/figures"
        )
    return experiment


def unmarked(records: Iterable[RunResult]) -> list[RunResult]:
    """All that is drawn here is published, and names its commits: no mark says so once more. It
    would come and go with the code, and a published figure is a function of its records.
    """
    return [replace(record, marks=record.marks - {FROZEN}) for record in records]


def _savings(folder: Path) -> list[RunResult]:
    """What is published of the study of memory."""
    names = sorted(path.stem for path in folder.glob("study-memory*.jsonl"))
    return unmarked(record for name in names for record in published_as(folder, name))


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = load(workspace)
    catalogue = Catalogue.of(experiment)
    root, expected = experiment.workspace.home(experiment.tree), experiment.matrix.specs
    found = catalogue.records_or_published()
    records = unmarked(record for record in found if record.status == "done")
    if not records:
        raise UserError(f"there is no record of {NAME} to draw; make CONFIG={NAME} trains it")
    for record in found:
        if record.status != "done":
            print(f"{record.run_id}: this run {record.status}; the figures show it as missing")
    images = root / "images"
    drawn = figures.draw_all(expected, records, images, figures.FORMATS, data=True, tell=print)
    catalogue.publish(NAME, records, memory=True)
    found_tracks = list(tracks.published(root))
    drawn += tracks.draw(found_tracks, images)
    if found_tracks:
        tracks.write_page(found_tracks, root / tracks.PAGE)
    drawn += figures.draw_savings(_savings(experiment.published), images)
    for name in check.files(images):
        if images / name not in drawn:
            (images / name).unlink()
    count = len(list(images.glob("*.png")))
    runs = counted(len(expected), "run")
    print(f"{counted(count, 'figure')} of {len(records)} of {runs} in {images}")
    print(f"records and tables in {experiment.published}")
    return 0
