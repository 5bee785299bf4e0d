"""What a pool is told and tells: messages of its workers, signals of the user, and who looks on."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol, TypeAlias

from adamwprune.plan.job import Job
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult
from adamwprune.scheduler.devices import Slot


class Observer(Protocol):
    """Whoever shows what is going on."""

    def started(self, spec: RunSpec, slot: Slot) -> None:
        """A run was given to a worker."""

    def progress(self, spec: RunSpec, event: dict[str, Any]) -> None:
        """How far a run has come, as its ``progress.json`` says it."""

    def ended(self, spec: RunSpec, result: RunResult) -> None:
        """A run's record is there."""

    def stopped(self, spec: RunSpec) -> None:
        """A run left its worker without having ended."""

    def told(self, text: str) -> None:
        """Something a user should know, on one line."""


@dataclass(frozen=True)
class Policy:
    """How runs are treated."""

    retries: int = 1  # of a run that crashes
    fail_fast: bool = False
    share_gpus: bool = True  # by MPS, where several runs are on one


@dataclass
class Outcome:
    """What became of the jobs. Those in neither list were not ended."""

    done: list[RunSpec] = field(default_factory=list)
    failed: list[RunSpec] = field(default_factory=list)


class Feed(Protocol):
    """Jobs that several pools share: each is taken by one of them."""

    def take(self) -> Job | None:
        """A job that is this pool's now; None where there is none to be had at the moment."""

    def ended(self, job: Job, outcome: str) -> None:
        """A job that was taken has a record: ``done`` or ``failed``; or it was ``lost``."""

    @property
    def is_exhausted(self) -> bool:
        """Whether all jobs have ended, also those of the other pools."""

    @property
    def should_stop(self) -> bool:
        """Whether somebody wants the runs stopped."""


class Handle(Protocol):
    """A job that an executor was given; another one each time."""

    @property
    def name(self) -> str:
        """What trains it, for people: ``process 123``."""


@dataclass(frozen=True)
class Message:
    """An event of a job: ``event`` is one of :class:`~adamwprune.plan.job.Event`."""

    handle: Handle
    event: Mapping[str, Any]


@dataclass(frozen=True)
class Signal:
    """Ctrl-C or SIGTERM; or, ``expired``, the end of the time to stop in."""

    expired: bool = False


Events: TypeAlias = "queue.SimpleQueue[Message | Signal]"


@contextlib.contextmanager
def signals(events: Events) -> Iterator[None]:
    """Ctrl-C and SIGTERM are events at first; a second one is a ``KeyboardInterrupt``."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    count = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count > 1:
            raise KeyboardInterrupt
        events.put(Signal())  # SimpleQueue.put may be called from a signal handler

    before = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
