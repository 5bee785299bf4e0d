"""Where jobs are trained: one module an executor, each behind this protocol.

The pool decides what runs next, where, and what a crash means; an executor starts jobs and passes
on what they say. ``local`` has worker processes on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from adamwprune.plan.job import Job
from adamwprune.scheduler.devices import Slot
from adamwprune.scheduler.events import Events, Handle


class Executor(Protocol):
    """Trains one job at a time on each of its slots.

    Each job's events are put into the pool's queue, the last of them ``end``, ``stopped``,
    ``outdated``, ``crashed``, ``refused`` or ``died``. Where it is left, all of it has ended.
    """

    def start(self, job: Job, place: int) -> Handle:
        """Give a job to the slot numbered ``place``, which trains nothing."""

    def discard(self, handle: Handle) -> None:
        """End at once what trains or trained a job: its slot's next job gets another process."""

    def stop(self) -> None:
        """Ask all jobs to end at a checkpoint."""

    def kill(self) -> None:
        """End all jobs at once."""


# For these slots: the queue, whether jobs on one GPU share it, and who is told what a user should
# know.
Executors = Callable[
    [Sequence[Slot], Events, bool, Callable[[str], None]], AbstractContextManager[Executor]
]
