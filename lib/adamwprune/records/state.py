"""Where a run is and what its record is worth: decided here, and nowhere else.

``make plan``, ``status``, ``why``, ``watch``, the report and ``make`` itself show or act on what
:func:`decide` says of a run's directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from adamwprune.base.errors import UserError
from adamwprune.base.files import reason
from adamwprune.base.forms import number
from adamwprune.plan.spec import RunSpec
from adamwprune.records.brief import Brief
from adamwprune.records.code import Code
from adamwprune.records.lease import FOLDER as LEASE
from adamwprune.records.staleness import changes
from adamwprune.records.store import CHECKPOINTS, LOCK, PROGRESS, Store, is_littered

DONE = "done"  # its record counts
PUBLISHED = "published"  # a published record stands for it (PUBLISHED=1)
STALE = "stale"  # other code made its record
FAILED = "failed"  # its record says why; make retry trains it again
DAMAGED = "damaged"  # its record, or its directory, cannot be read
RUNNING = "running"  # a process trains it
INTERRUPTED = "interrupted"  # it goes on from its checkpoint
MISSING = "missing"
NAMES = (DONE, PUBLISHED, STALE, FAILED, DAMAGED, RUNNING, INTERRUPTED, MISSING)


@dataclass(frozen=True)
class State:
    """Where one run is: one of ``NAMES``, and why."""

    spec: RunSpec
    name: str
    why: str = ""
    worth: str = ""  # the name by its record alone, whoever trains it
    is_due: bool = False  # make trains it, unless another process does so now
    progress: Mapping[str, Any] | None = None  # what a running or interrupted one last said
    record: Brief | None = None  # whatever it is worth
    counts: bool = False  # that record, in tables and figures: a fresh or an accepted one
    littered: bool = False  # it is done, and a kill left what is there only until then

    @property
    def is_failed(self) -> bool:
        """Whether make leaves it and make retry trains it again."""
        return self.counts and self.record is not None and self.record.status == FAILED


IN_HAND = (RUNNING, INTERRUPTED)


def decide(
    store: Store, spec: RunSpec, code: Code, *, accepts_stale: bool = False, published: bool = False
) -> State:
    """The state of a run that ``code`` would make today.

    ``accepts_stale``: records of other code count (KEEP_STALE=1). ``published``: there is a
    published record, and it stands for a run that was not done here (PUBLISHED=1).
    """
    try:
        files = store.files(spec)
    except OSError as error:
        return State(spec, DAMAGED, f"{store.folder(spec)}: {reason(error)}", DAMAGED)
    worth = _worth(store, spec, code, accepts_stale) if files else _missing(spec)
    if published and worth.name not in (DONE, DAMAGED):
        worth = replace(worth, name=PUBLISHED, why="", worth=PUBLISHED, is_due=False, counts=False)
    # The lease of a run that has ended stays; what it last said of its progress does not.
    leased = LEASE in files and (worth.name != DONE or PROGRESS in files)
    if (LOCK in files or leased) and store.is_running(spec):
        told = store.progress(spec)
        why = f"at {_place(spec, told)}" if told else "nothing is known of its progress yet"
        return replace(worth, name=RUNNING, why=why, progress=told)
    if worth.name == DONE:
        return replace(worth, littered=True) if is_littered(files) else worth
    if worth.is_due and PROGRESS in files and not files.isdisjoint(CHECKPOINTS):
        return _begun(store, worth, code)
    return worth


def _worth(store: Store, spec: RunSpec, code: Code, accepts_stale: bool) -> State:
    """The state by the record alone."""
    try:
        record = store.brief(spec)
    except UserError as error:
        return State(spec, DAMAGED, str(error), DAMAGED)
    if record is None:
        return _missing(spec)
    why = outdated = changes(record, code)
    if record.status == FAILED:
        reason = record.error or "no reason given"
        why = f"{reason} ({outdated})" if outdated else reason
    name = STALE if outdated else record.status
    counts = accepts_stale or not outdated
    return State(spec, name, why, name, is_due=not counts, record=record, counts=counts)


def _missing(spec: RunSpec) -> State:
    return State(spec, MISSING, worth=MISSING, is_due=True)


def _begun(store: Store, worth: State, code: Code) -> State:
    """The state of a run that is due, has a checkpoint and is not trained now.

    A checkpoint that is older than the record is a left-over: the run had ended, and was killed
    before it removed its checkpoint.
    """
    told = store.progress(worth.spec)
    if told is None or (worth.record and not store.is_before_progress(worth.spec)):
        return worth
    at = _place(worth.spec, told)
    if told.get("code") != code.digest:
        anew = f"interrupted at {at}, by other code: it starts anew"
        return replace(worth, why=f"{worth.why}; {anew}" if worth.why else anew)
    return replace(
        worth, name=INTERRUPTED, why=f"at {at}, goes on from its checkpoint", progress=told
    )


def _place(spec: RunSpec, told: Mapping[str, Any]) -> str:
    """``step 300 of 1180``; what makes no sense is no step."""
    step = number(told.get("step")) or 0
    return f"step {min(spec.total_steps, max(0, int(step)))} of {spec.total_steps}"
