"""Tasks in processes of their own: figures are drawn on all cores, and one that fails is named.

A process is forked for each task, which needs nothing to be handed over and leaves nothing behind.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from types import FrameType
from typing import Generic, TypeVar

from adamwprune.base.errors import UserError

Value = TypeVar("Value")
Task = tuple[str, Callable[[], Value]]  # a name for people, and what is to be done
_ENDING = (signal.SIGINT, signal.SIGTERM)
TOLD = 3  # failures of the user's making that are told; of more there is a count


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
    """What each task gives, in their order; ``jobs`` at a time, one after the other here if that is
    1. ``tasks`` may go on to be made meanwhile.

    All are tried. Then :class:`UserError` is raised where some said that they cannot, and
    ``RuntimeError`` with the tracebacks where some broke; each names its task.
    """
    outcomes = list(_here(tasks) if jobs == 1 else _forked(tasks, jobs))
    broke = [f"{each.name}: {each.broke}" for each in outcomes if each.broke]
    if broke:
        raise RuntimeError("\n".join(broke))
    refused = [f"{each.name}: {each.refused}" for each in outcomes if each.refused]
    if refused:
        more = len(refused) - TOLD
        raise UserError("\n".join([*refused[:TOLD], *([f"and {more} more"] if more > 0 else [])]))
    return [each.value for each in outcomes if each.value is not None]


def _here(tasks: Iterable[Task[Value]]) -> Iterator[Outcome[Value]]:
    for name, act in tasks:
        yield _tried(name, act)


def _tried(name: str, act: Callable[[], Value]) -> Outcome[Value]:
    try:
        return Outcome(name, act())
    except UserError as error:
        return Outcome(name, refused=str(error))
    except Exception:  # noqa: BLE001  the others can still be done
        return Outcome(name, broke=traceback.format_exc())


def _forked(tasks: Iterable[Task[Value]], jobs: int) -> list[Outcome[Value]]:
    """The outcomes in the tasks' order; no process is left, however this ends."""
    outcomes: dict[int, Outcome[Value]] = {}
    running: dict[Connection, tuple[int, str, ForkProcess]] = {}

    def collect(most: int) -> None:
        """Wait until no more than ``most`` are running."""
        while len(running) > most:
            for reader in wait(list(running)):
                assert isinstance(reader, Connection)
                number, name, process = running[reader]
                outcomes[number] = _received(name, reader, process)
                del running[reader]

    try:
        for number, (name, act) in enumerate(tasks):
            collect(jobs - 1)
            reader, process = _started(name, act)
            running[reader] = number, name, process
        collect(0)
    finally:
        for _, _, process in running.values():
            process.terminate()
        for _, _, process in running.values():
            process.join()
    return [outcomes[number] for number in sorted(outcomes)]


def _started(name: str, act: Callable[[], Value]) -> tuple[Connection, ForkProcess]:
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(name, act, writer), daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    writer.close()  # so that it ends with its process
    return reader, process


def _work(name: str, act: Callable[[], Value], writer: Connection) -> None:
    """In a process of its own. Ctrl-C is its parent's, which ends it; it leaves no half a file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)  # held back while this was not said
    gc.disable()  # it would touch, and so copy, all that the parent has; this ends soon
    writer.send(_tried(name, act))


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _received(name: str, reader: Connection, process: ForkProcess) -> Outcome[Value]:
    try:
        found: Outcome[Value] = reader.recv()
    except EOFError:
        process.join()
        found = Outcome(name, broke=f"its process ended with status {process.exitcode}")
    reader.close()
    process.join()
    return found
