"""Publish memory-comparison over five seeds: records in results/published/, a dozen figures in
images/; and the pruning tracks: tables in docs/track.md, figures beside the others. All figures of
the comparison are drawn into the results directory, figures/memory-comparison-seeds/.

It publishes exactly the runs of that defconfig: settings that would make them others are refused.
A run that was not done here, another seed say, is drawn from its published record, so that a fresh
clone redraws every figure. What is in neither place, or failed, is drawn as missing; runs of other
code (KEEP_STALE=1) are marked, and runs of uncommitted changes left out. Beside the images,
images/data/ keeps what they plot: make graph-check compares.
"""

import argparse
from collections.abc import Iterable, Sequence
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
from adamwprune.report import figures, present
from adamwprune.report.figures import check
from adamwprune.report.figures import tracks as track_figures
from adamwprune.report.track import Track

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
            f"make CONFIG={NAME} with these settings draws into {experiment.root}/figures/"
        )
    return experiment


def clean(records: Iterable[RunResult]) -> list[RunResult]:
    """Without the runs of uncommitted changes: the commit that a figure names says all of its code.

    All that is drawn here is published, and names its commits: no mark says so once more. It
    would come and go with the code, and a published figure is a function of its records.
    """
    return [
        replace(record, marks=record.marks - {FROZEN})
        for record in records
        if not record.environment.get("dirty")
    ]


def draw_published(
    experiment: Experiment, records: Sequence[RunResult], found: Iterable[Track], folder: Path
) -> list[Path]:
    """All published figures, and what they plot: those of the comparison that stand for the others,
    of the pruning tracks, and of the study of memory.
    """
    expected, names, formats = experiment.matrix.specs, figures.PUBLISHED, figures.FORMATS
    drawn = figures.draw_all(expected, records, folder, formats, data=True, names=names)
    drawn += track_figures.draw(found, folder)
    return drawn + figures.draw_savings(_savings(experiment.published), folder)


def _savings(folder: Path) -> list[RunResult]:
    """What is published of the study of memory."""
    names = sorted(path.stem for path in folder.glob("study-memory*.jsonl"))
    return clean(record for name in names for record in published_as(folder, name))


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = load(workspace)
    catalogue = Catalogue.of(experiment)
    root, expected = experiment.workspace.home(experiment.tree), experiment.matrix.specs
    found = catalogue.records_or_published()
    done = [record for record in found if record.status == "done"]
    records = clean(done)
    if not records:
        raise UserError(f"there is no record of {NAME} to draw; make CONFIG={NAME} trains it")
    for record in found:
        if record.status != "done":
            print(f"{record.run_id}: this run {record.status}; the figures show it as missing")
    if len(records) < len(done):
        left_out = counted(len(done) - len(records), "run")
        print(f"{left_out} of uncommitted changes: in the records and tables, in no figure")
    images = root / "images"
    found_tracks = list(tracks.published(root))
    drawn = draw_published(experiment, records, found_tracks, images)
    present.draw_if_changed(expected, records, experiment.figures, print)
    catalogue.publish(NAME, done, memory=True)
    if found_tracks:
        tracks.write_page(found_tracks, root / tracks.PAGE)
    for name in check.files(images):
        if images / name not in drawn:
            (images / name).unlink()
    count = len(list(images.glob("*.png")))
    runs = counted(len(expected), "run")
    print(f"{counted(count, 'figure')} of {len(records)} of {runs} in {images}")
    print(f"all figures in {experiment.figures}")
    print(f"records and tables in {experiment.published}")
    return 0
