"""One run in this process, its first Ctrl-C a wish: it stops at a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from adamwprune.base import subprocesses
from adamwprune.plan.job import Job
from adamwprune.records.code import Code
from adamwprune.records.record import RunResult
from adamwprune.run import runner
from adamwprune.run.runner import Progress


def train(job: Job, code: Code, progress: Progress) -> RunResult:
    """Train a run in this process; its record.

    Raises ``KeyboardInterrupt`` after Ctrl-C or SIGTERM, once the run has reached a checkpoint.
    """
    with _stoppable() as should_stop:
        try:
            return runner.run(job, code, progress, should_stop)
        except runner.Stopped:
            print(f"stopped; the same command goes on from {job.folder}/checkpoint.pt")
            raise KeyboardInterrupt from None
        except runner.Crashed as error:
            return runner.fail(job, code, str(error))


@contextlib.contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C or SIGTERM is a wish, the second ends the process at once."""
    asked = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("stopping at a checkpoint; again: at once", file=sys.stderr, flush=True)

    before = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
    make_has_gone = subprocesses.of_make()
    try:
        yield lambda: asked or make_has_gone()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
