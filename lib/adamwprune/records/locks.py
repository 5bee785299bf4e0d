"""Locks of the operating system: one process trains a run, one scheduler fills a directory."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from adamwprune.base.files import open_own, refusing

Waiting = Callable[[str], None]  # called with the process id of the lock's holder
POLL = 0.1  # seconds between looks at a lock that another process holds
POLLS_BEFORE_NOTICE = 5  # a process that only asks for a lock holds it for a moment


@contextlib.contextmanager
def lock(
    path: Path, wait: Waiting, patience: Callable[[], None] = lambda: None
) -> Iterator[Callable[[], bool]]:
    """Hold a file of this name; where another process does, call ``wait`` with its id and wait.

    ``patience`` is called meanwhile and may raise. The lock ends with the process that holds it,
    however that ends. Yields a function that says whether the file that is held is still the one
    of this name: a directory may be moved, and another take its place.
    """
    with refusing(f"cannot write to {path}"):
        stream = open_own(path, "a+")
    with stream:
        _acquire(stream, wait, patience)
        with refusing(f"cannot write to {path}"):
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
        held = os.fstat(stream.fileno())
        yield lambda: path.exists() and os.path.samestat(held, path.stat())


def _acquire(stream: TextIO, wait: Waiting, patience: Callable[[], None]) -> None:
    for poll in itertools.count():
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if poll == POLLS_BEFORE_NOTICE:
            wait(_named(stream))
        patience()
        time.sleep(POLL)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of this name."""
    return holder(path) is not None


def holder(path: Path) -> str | None:
    """The process id of whoever holds the lock of this name, or "unknown"; None if nobody does."""
    try:
        stream = open_own(path, "r")
    except OSError:
        return None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _named(stream)
    return None


def _named(stream: TextIO) -> str:
    stream.seek(0)
    return stream.read(20).strip() or "unknown"
