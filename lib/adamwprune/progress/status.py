"""How a matrix stands, from what is on disk: also from another shell, also when nothing runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

from adamwprune.base.errors import UserError
from adamwprune.base.wording import counted
from adamwprune.plan.spec import RunSpec
from adamwprune.progress import eta, history, rows
from adamwprune.progress.eta import Paces, Work
from adamwprune.progress.live import summary
from adamwprune.progress.reading import Reading
from adamwprune.progress.rows import Row
from adamwprune.records.record import Brief, RunResult
from adamwprune.records.store import LOCK, PROGRESS, goes_on
from adamwprune.scheduler.devices import Slot

NAMES = ("done", "stale", "failed", "running", "interrupted", "missing")
TO_TRAIN = ("stale", "interrupted", "missing")  # by the next make, or the one that goes on


class Runs(Protocol):
    """What is asked of a store."""

    @property
    def root(self) -> Path:
        """The directory of all runs."""

    def folder(self, spec: RunSpec) -> Path:
        """The directory of one run."""

    def files(self, spec: RunSpec) -> frozenset[str]:
        """The names of the files in it."""

    def result(self, spec: RunSpec) -> Brief | RunResult | None:
        """What the record of a run says; :class:`UserError` for a damaged one."""

    def is_running(self, spec: RunSpec) -> bool:
        """Whether a process is training this run."""


Verdict = Callable[[Any], str]  # of a record: "done", "failed", "stale"
Places = Callable[[int], list[Slot]]  # what so many runs would get if make were started now


@dataclass(frozen=True)
class Standing:
    """Where one run is: one of ``NAMES``; how far, and why it failed."""

    spec: RunSpec
    name: str
    reading: Reading | None = None
    reason: str = ""

    @property
    def work(self) -> Work:
        """What is left of it."""
        work = Work.of(self.spec, self.reading)
        return work if self.name == "running" else work.at_rest()


def standing(runs: Runs, spec: RunSpec, verdict: Verdict) -> Standing:
    """Where a run is now. What goes on counts before an older record of the same run."""
    files = runs.files(spec)
    if not files:
        return Standing(spec, "missing")
    folder = runs.folder(spec)
    running = LOCK in files and runs.is_running(spec)
    reading = Reading.read(spec, folder) if running or PROGRESS in files else None
    if running:
        return Standing(spec, "running", reading)
    if reading is not None and goes_on(folder):
        return Standing(spec, "interrupted", reading)
    try:
        result = runs.result(spec)
    except UserError as error:
        return Standing(spec, "failed", reason=f"damaged {error}")
    if result is None:
        return Standing(spec, "missing")
    name = verdict(result)
    return Standing(spec, name, reason=_failure(result) if name == "failed" else "")


def _failure(result: Brief | RunResult) -> str:
    """Why it failed, on one line."""
    return summary(result.spec, RunResult("", "failed", result.spec, error=result.error))


def report(
    source: str,
    specs: Sequence[RunSpec],
    runs: Runs,
    places: Places,
    width: int,
    verdict: Verdict = attrgetter("status"),
) -> list[str]:
    """The lines of ``make status``; those of the table within ``width``."""
    standings = [standing(runs, spec, verdict) for spec in specs]
    counts = {name: sum(each.name == name for each in standings) for name in NAMES}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    lines = [f"{source}: {counted(len(specs), 'run')}: {told}"]
    lines += [each.reason for each in standings if each.reason]
    lines += [_interrupted(each) for each in standings if each.name == "interrupted"]
    running = [_row(each) for each in standings if each.name == "running"]
    if running:
        lines += rows.table(running, width, (rows.AGE, rows.LEFT, rows.DEVICE))
    lines += _eta(standings, runs.root, places)
    within, scored = history.scores(runs.root)
    if scored:
        lines.append(f"past estimates: {within} of {scored} within P90")
    return lines


def _interrupted(each: Standing) -> str:
    assert each.reading is not None
    at = f"step {each.reading.step} of {each.reading.steps}"
    return f"{each.spec.slug}: interrupted at {at}, goes on from its checkpoint"


def _row(each: Standing) -> Row:
    updated = each.reading.updated if each.reading else None
    age = None if updated is None else time.time() - updated
    return Row(each.spec, each.reading, age)


def _eta(standings: Sequence[Standing], root: Path, places: Places) -> list[str]:
    """One line on when all would be done; none where nothing is left to do."""
    running = [each for each in standings if each.name == "running"]
    waiting = [each.work for each in standings if each.name in TO_TRAIN]
    if not running and not waiting:
        return []
    slots = [_slot(each.reading) for each in running] or _places(places, len(waiting))
    paces = Paces(history.records(root))
    left = eta.remaining([each.work for each in running], waiting, slots, paces)
    if left is None:
        return ["eta     not known yet"]
    when = "" if running else "if make starts now, "
    return [f"eta     {rows.quantiles(left)}  {when}{len(slots)} at a time"]


def _places(places: Places, runs: int) -> list[Slot]:
    try:
        return places(runs)
    except UserError:  # the device that is asked for is not here; make says so
        return []


def _slot(reading: Reading | None) -> Slot:
    return Slot(reading.device, reading.threads) if reading else Slot("cpu", 1)
