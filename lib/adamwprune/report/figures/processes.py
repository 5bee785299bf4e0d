"""Tasks in forked processes: figures are drawn on all cores, and one that fails is named."""

import gc
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import FrameType
from typing import Any, Generic, TypeVar

from adamwprune.base.errors import UserError

Value = TypeVar("Value")
Task = tuple[str, Callable[[], Value]]  # a name for people, and what is to be done
SHOWN = 3  # failures that the user can mend and that are shown; of more there is a count
_ENDING = (signal.SIGINT, signal.SIGTERM)

_tasks: list[Task[Any]] = []  # in a worker: handed over by the fork, never pickled
_in_hand: list[int] = []  # in a worker: the number of the task that it works at


@dataclass(frozen=True)
class Outcome(Generic[Value]):
    """What a task gave, or why it did not."""

    name: str
    value: Value | None = None
    refused: str = ""  # what the user can mend
    broke: str = ""  # a traceback


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def run(tasks: Iterable[Task[Value]], jobs: int) -> list[Value]:
    """What each task gives, in their order; ``jobs`` at a time, in this process if that is 1.

    All are tried. Then :class:`UserError` is raised where some said that they cannot, and
    ``RuntimeError`` with the tracebacks where some broke; each names its task.
    """
    tasks = list(tasks)
    jobs = min(jobs, len(tasks))
    outcomes = _forked(tasks, jobs) if jobs > 1 else [_tried(*task) for task in tasks]
    broke = [f"{each.name}: {each.broke}" for each in outcomes if each.broke]
    if broke:
        raise RuntimeError("\n".join(broke))
    refused = [f"{each.name}: {each.refused}" for each in outcomes if each.refused]
    if refused:
        more = len(refused) - SHOWN
        raise UserError("\n".join([*refused[:SHOWN], *([f"and {more} more"] if more > 0 else [])]))
    return [each.value for each in outcomes if each.value is not None]


def _tried(name: str, act: Callable[[], Value]) -> Outcome[Value]:
    try:
        return Outcome(name, act())
    except UserError as error:
        return Outcome(name, refused=str(error))
    except Exception:  # noqa: BLE001  the others can still be done
        return Outcome(name, broke=traceback.format_exc())


def _forked(tasks: Sequence[Task[Value]], jobs: int) -> list[Outcome[Value]]:
    """The outcomes in the tasks' order; no process is left, however this ends."""
    fork = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(jobs, fork, initializer=_begin, initargs=(tasks,))
    try:
        # Held back until a worker has said what becomes of them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        try:
            futures = [pool.submit(_done, number) for number in range(len(tasks))]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return [_outcome(name, each) for (name, _), each in zip(tasks, futures, strict=True)]
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown()


def _outcome(name: str, future: Future[Outcome[Value]]) -> Outcome[Value]:
    try:
        return future.result()
    except BrokenProcessPool:
        return Outcome(name, broke="not done: a process of the pool was killed")


def _begin(tasks: Sequence[Task[Any]]) -> None:
    """Prepare a worker. Ctrl-C is its parent's, which ends it; it leaves no half a file."""
    _tasks[:] = tasks
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    gc.freeze()  # the collector would touch, and so copy, all that the parent has


def _done(number: int) -> Outcome[Any]:
    try:
        _in_hand.append(number)
        return _tried(*_tasks[number])
    except SystemExit as end:  # of _end: the pool would catch it, and wait for its queues
        os._exit(int(str(end.code)))
    finally:
        _in_hand.clear()


def _end(number: int, frame: FrameType | None) -> None:
    """End a worker: at once where it waits, and after a task has tidied up where it works."""
    if _in_hand:
        sys.exit(128 + number)
    os._exit(128 + number)
