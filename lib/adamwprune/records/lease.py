"""Leases: which process, on which host, trains a run in a directory that several hosts share.

Neither locks nor process numbers reach another host, so a run is held by files in its directory::

    .lease/3/holder.json    who holds attempt 3
    .lease/3/heartbeat      replaced several times in a lease's duration while it is held
    .lease/3/released       how attempt 3 ended; then the run may be taken at once
    .lease/3/work/          where attempt 3 makes its files before it renames them into place

An attempt is taken by renaming a prepared directory to its number, which only one process can do.
A number is never removed, so none is given twice. A lease expires when its heartbeat was seen
unchanged for the lease's duration *by the observer's own clock*: clocks are never compared.

A process that lost its lease without noticing (it was suspended, or cut off) can do no harm:
whoever takes the next attempt first removes the ``work`` directory of the one before. From then on
each rename out of it fails, of a checkpoint as of a record (:func:`adamwprune.base.files.fenced`).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adamwprune.base.errors import UserError
from adamwprune.base.forms import number
from adamwprune.base.shared_files import SharedFiles, unique

FOLDER = ".lease"  # in a run's directory
CLUSTER = ".cluster"  # beside the runs that were handed to a cluster, whose agents may come later
HOLDER, HEARTBEAT, RELEASED, WORK = "holder.json", "heartbeat", "released", "work"
DURATION = 60.0  # seconds without a heartbeat after which a lease has expired
BEATS = 6  # heartbeats in a lease's duration
POLL = 1.0  # seconds between looks at a lease that is waited for


@dataclass
class Lease:
    """A run that this process holds."""

    folder: Path  # the run's directory
    attempt: int
    files: SharedFiles = field(repr=False)
    beats: int = 0

    @property
    def place(self) -> Path:
        """The attempt's own directory."""
        return self.folder / FOLDER / str(self.attempt)

    @property
    def work(self) -> Path:
        """Where the attempt makes its files: without it, it can write nothing any more."""
        return self.place / WORK

    def renew(self) -> bool:
        """A heartbeat; False where the lease is lost: another attempt has begun."""
        newest = _newest(self.files, self.folder / FOLDER)
        if newest != self.attempt or WORK not in self.files.names(self.place):
            return False
        self.beats += 1
        self.files.write(self.place / HEARTBEAT, str(self.beats).encode())
        return True

    def release(self, outcome: str) -> None:
        """Give the run up: from here on this attempt writes nothing, and another may be taken."""
        self.files.remove(self.work)
        self.files.write(self.place / RELEASED, outcome.encode())


class Leases:
    """One process's view of leases: it takes them, and knows how long others did not stir.

    ``me``: what is told of the holder. ``now``: this process's clock, which only ever measures
    durations.
    """

    def __init__(
        self,
        me: Mapping[str, Any] | None = None,
        duration: float = DURATION,
        *,
        files: SharedFiles | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.me = {**holder(), **(me or {}), "duration": duration}
        self.files, self.now = files or SharedFiles(), now
        self._seen: dict[Path, tuple[object, float]] = {}  # what of a lease, and since when

    def take(self, folder: Path, **told: Any) -> Lease | None:
        """Hold the run of this directory; None where it is held, or was taken this moment.

        A lease that another process held is taken over once it was released or has expired. What is
        looked up in the directory afterwards is up to date. ``told``: more about this holder.
        """
        leases = folder / FOLDER
        if leases.is_symlink():
            raise UserError(f"{leases}: is a link; a run is held in a directory of its own")
        newest = _newest(self.files, leases)
        if newest and not self._is_free(leases / str(newest)):
            return None
        lease = self._claim(folder, newest + 1, told)
        if lease is not None:
            self._seen.pop(leases, None)
            for before in range(newest, 0, -1):  # whoever took one may have died before it did so
                self.files.remove(leases / str(before) / WORK)
            self.files.refresh(folder)
        return lease

    def _claim(self, folder: Path, attempt: int, told: Mapping[str, Any]) -> Lease | None:
        """Take an attempt that nobody has taken."""
        leases = folder / FOLDER
        ours = leases / f".{unique()}"
        self.files.make(ours / WORK)
        self.files.write(ours / HOLDER, json.dumps({**self.me, **told}).encode())
        self.files.write(ours / HEARTBEAT, b"0")
        if not self.files.rename(ours, leases / str(attempt)):
            self.files.remove(ours)
            return None
        return Lease(folder, attempt, self.files)

    def _is_free(self, place: Path) -> bool:
        """Whether the newest attempt is over: released, or silent for its duration."""
        if self.files.read(place / RELEASED) is not None:
            return True
        sign = place, self.files.read(place / HEARTBEAT)
        before, since = self._seen.get(place.parent, (None, 0.0))
        if before != sign:
            self._seen[place.parent] = sign, self.now()
            return False
        duration = _duration(_holder(self.files, place))
        return self.now() - since >= max(duration, float(self.me["duration"]))


@dataclass(frozen=True)
class Attempt:
    """An attempt at a run, as its files tell of it."""

    number: int
    holder: Mapping[str, Any]
    released: str | None  # how it ended; None while it is held, or where its holder died


def attempts(folder: Path, files: SharedFiles | None = None) -> list[Attempt]:
    """The attempts at a run so far, the newest last; none where it never had a lease."""
    files = files or SharedFiles()
    leases = folder / FOLDER
    found = []
    for name in sorted(map(int, _numbers(files, leases))):
        place = leases / str(name)
        outcome = files.read(place / RELEASED)
        told = None if outcome is None else outcome.decode(errors="replace")
        found.append(Attempt(name, _holder(files, place), told))
    return found


def live_holder(folder: Path, files: SharedFiles | None = None) -> Mapping[str, Any] | None:
    """Who holds a run now, judged by the age of the last heartbeat; None where nobody does.

    Both times are the file server's, so that it does not matter what clock this host has.
    """
    files = files or SharedFiles()
    leases = folder / FOLDER
    newest = _newest(files, leases)
    place = leases / str(newest)
    if not newest or files.read(place / RELEASED) is not None:
        return None
    found = _holder(files, place)
    try:
        beat = (place / HEARTBEAT).stat().st_mtime
    except OSError:
        return None
    return found if server_time(leases) - beat < _duration(found) else None


def server_time(folder: Path) -> float:
    """The clock of the file system, in seconds; this host's where nothing can be written."""
    probe = folder / f".probe-{unique()}"
    try:
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
    except OSError:
        return time.time()
    return now


def holder() -> dict[str, Any]:
    """This process, for people."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "taken": round(time.time(), 1)}


def named(told: Mapping[str, Any]) -> str:
    """``host, process 12`` of a holder."""
    return f"{told.get('host', 'an unknown host')}, process {told.get('pid', 'unknown')}"


class Heart:
    """A thread that renews all leases of this process."""

    def __init__(self, duration: float = DURATION) -> None:
        self.interval = duration / BEATS
        self.held: dict[Path, Lease] = {}
        self.lost: set[Path] = set()
        self._end, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Heart:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def keep(self, lease: Lease) -> None:
        """Renew this one from now on."""
        with self._lock:
            self.held[lease.folder] = lease
            self.lost.discard(lease.folder)

    def drop(self, folder: Path) -> Lease | None:
        """Renew a run's lease no more; the lease, None where it is none or was lost."""
        with self._lock:
            lease = self.held.pop(folder, None)
            return None if folder in self.lost else lease

    def _beat(self) -> None:
        while not self._end.wait(self.interval):
            with self._lock:
                for folder, lease in self.held.items():
                    # A file system that does not answer is asked again: others see no heartbeat.
                    with contextlib.suppress(OSError):
                        if not lease.renew():
                            self.lost.add(folder)


@contextlib.contextmanager
def held(
    folder: Path, wait: Callable[[str], None], patience: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """Hold the lease of a run; where another process does, say so to ``wait`` and wait.

    Yields the attempt's ``work`` directory. ``patience`` is called meanwhile and may raise.
    """
    leases, told = Leases(), False
    while (lease := leases.take(folder)) is None:
        if not told:
            found = attempts(folder)
            wait(named(found[-1].holder) if found else "unknown")
            told = True
        patience()
        time.sleep(POLL)
    with Heart() as heart:
        heart.keep(lease)
        try:
            yield lease.work
        finally:
            kept = heart.drop(folder)
            if kept is not None:
                kept.release("ended")


def _newest(files: SharedFiles, leases: Path) -> int:
    """The number of the newest attempt; 0 where there is none."""
    return max(map(int, _numbers(files, leases)), default=0)


def _numbers(files: SharedFiles, leases: Path) -> list[str]:
    return [name for name in files.names(leases) if name.isdecimal()]


def _holder(files: SharedFiles, place: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(files.read(place / HOLDER) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _duration(told: Mapping[str, Any]) -> float:
    """The duration that a holder named, in seconds."""
    return number(told.get("duration")) or DURATION
