"""Trackers beside a training: started, told of news, and never waited for while runs train.

Each is a process (:mod:`adamwprune.trackers`) that reads what runs write anyway. It is told run ids
through a pipe that never blocks. Whatever becomes of it is a line for the user, no more.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from adamwprune.base import subprocesses
from adamwprune.plan.spec import RunSpec
from adamwprune.records.code import LIBRARY
from adamwprune.records.record import RunResult
from adamwprune.scheduler.devices import Slot
from adamwprune.scheduler.events import Observer
from adamwprune.trackers import FOLDER, LACKING, WRITTEN

PATIENCE = 30.0  # seconds that trackers have when all runs have ended
ABORT_TIMEOUT = 5.0  # when the user has stopped them
ORPHAN_GRACE = 5.0  # more, for one whose parent is gone
POLL = 0.05  # seconds between looks at one that is about to end
NOTICE_AFTER = 2.0  # seconds after which it is said what is waited for


class Tracking:
    """The trackers ``names`` of the runs below ``root``.

    ``told`` gets the lines for the user. ``patience``: seconds that they have at the end, None for
    as many as they need.
    """

    def __init__(
        self,
        names: Sequence[str],
        root: Path,
        group: str,
        told: Callable[[str], None],
        patience: float | None = PATIENCE,
    ) -> None:
        self.names, self.root, self.group, self.told = names, root.absolute(), group, told
        self.patience = patience
        self.processes: list[_Process] = []
        self._epochs: dict[str, Any] = {}  # of each run, when it was last told of

    def __enter__(self) -> Self:
        alone = 0.0 if self.patience is None else self.patience + ORPHAN_GRACE
        for name in self.names:
            try:
                self.processes.append(_Process(name, self.root, self.group, alone))
            except OSError as error:
                self.told(f"tracker {name}: cannot be started: {error.strerror or error}")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._finish(self.patience if kind is None else ABORT_TIMEOUT)
        finally:
            for process in self.processes:
                process.kill()

    def news(self, run_id: str) -> None:
        """A run's files say more than they did."""
        for process in self.processes:
            process.waiting[run_id] = None
        self.listen()

    def listen(self) -> None:
        """Pass on what the trackers have said, and to them what they had no room for."""
        for process in self.processes:
            process.flush()
            self._tell(process)

    def progress(self, run_id: str, event: Mapping[str, Any]) -> None:
        """A run has said how far it is: news at its first word and after each epoch."""
        at = event.get("epoch"), event.get("started_at_step")
        if self.processes and self._epochs.get(run_id) != at:
            self._epochs[run_id] = at
            self.news(run_id)

    @property
    def is_running(self) -> bool:
        """Whether one of the trackers has not ended."""
        return any(process.status is None for process in self.processes)

    @property
    def complete(self) -> list[Path]:
        """The folders of the trackers that have ended and lack nothing."""
        return [self.root / FOLDER / each.name for each in self.processes if each.is_complete]

    @property
    def failed(self) -> bool:
        """Whether a tracker lacks something."""
        return len(self.complete) < len(self.names)

    def _finish(self, patience: float | None) -> None:
        """Let them write what they still have to write, within ``patience`` seconds."""
        begun, prompted = time.monotonic(), patience is None
        while running := [process for process in self.processes if process.status is None]:
            past = time.monotonic() - begun
            if patience is not None and past > patience:
                break
            if past > NOTICE_AFTER and not prompted:
                names = ", ".join(process.name for process in running)
                self.told(f"waiting for trackers: {names}; {patience:.0f} s at most")
                prompted = True
            _wait(running)
            for process in running:
                process.flush(last=True)
                self._tell(process)
        for process in self.processes:
            if process.status is None:
                rest = "make track writes what it lacks"
                self.told(f"tracker {process.name}: has not ended in {patience:.0f} s; {rest}")

    def _tell(self, process: _Process) -> None:
        for line in process.heard():
            self.told(f"tracker {process.name}: {line}")


class _Process:
    """A tracker's process and the pipes to and from it; nothing here waits."""

    def __init__(self, name: str, root: Path, group: str, alone: float) -> None:
        self.name, self.log = name, root / FOLDER / f"{name}.log"
        self.status: int | None = None  # None while it runs
        self.waiting: dict[str, None] = {}  # run ids that the pipe had no room for, in their order
        self._half = b""  # of a line that is on its way
        self.is_mute = False  # it will not say anything any more
        self.is_complete = False  # it has ended and lacks nothing
        self._process = subprocess.Popen(
            [sys.executable, "-m", "adamwprune.trackers", name, str(root), group, str(alone)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=subprocesses.environment(LIBRARY),  # here wandb may be a directory, no package
            start_new_session=True,  # Ctrl-C reaches the one who started it, who ends it
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.hints, self.words = self._process.stdin, self._process.stdout
        for pipe in (self.hints, self.words):
            os.set_blocking(pipe.fileno(), False)

    def flush(self, *, last: bool = False) -> None:
        """Write what waits to be written; ``last``: nothing will come after it."""
        try:
            for run_id in list(self.waiting):
                os.write(self.hints.fileno(), f"{run_id}\n".encode())  # whole, or not at all
                del self.waiting[run_id]
        except BlockingIOError:
            return
        except OSError:  # it is gone; heard() says so
            self.waiting.clear()
        if last and not self.hints.closed:
            self.hints.close()

    def heard(self) -> Iterator[str]:
        """The lines that it has said since, and how it ended if it has."""
        if self.status is not None:
            return
        yield from self._lines()
        if self.is_mute:
            self.status = self._process.poll()  # it may have closed its output and go on
        if self.status is not None:
            self.is_complete = self.hints.closed and self.status == WRITTEN
            if self.status < 0:
                name = subprocesses.signal_name(-self.status)
                yield f"was ended by {name}; {self.log}"
            elif not self.is_complete and self.status != LACKING:  # which it has said
                yield f"ended itself with exit status {self.status}; {self.log}"

    def _lines(self) -> Iterator[str]:
        """The lines that it has said since."""
        while not self.is_mute:
            try:
                said = os.read(self.words.fileno(), 1 << 16)
            except BlockingIOError:
                return
            self.is_mute = not said
            *lines, self._half = (self._half + said).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in lines)

    def kill(self) -> None:
        """End it and what it has started, unless it has ended."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self.hints, self.words):
            pipe.close()


def _wait(processes: Sequence[_Process]) -> None:
    """Until one of them says something, ends or can be told more, or a moment has passed."""
    behind = [process.hints for process in processes if process.waiting]
    words = [process.words for process in processes if not process.is_mute]
    select.select(words, behind, [], POLL)


class Tracked:
    """An observer of the scheduler's; trackers hear of what it is told."""

    def __init__(self, observer: Observer, tracking: Tracking) -> None:
        self.observer, self.tracking = observer, tracking

    def started(self, spec: RunSpec, slot: Slot) -> None:
        """A run was given to a worker: it has written nothing yet."""
        self.observer.started(spec, slot)

    def progress(self, spec: RunSpec, event: dict[str, Any]) -> None:
        """How far a run has come."""
        self.observer.progress(spec, event)
        self.tracking.progress(spec.run_id, event)

    def ended(self, spec: RunSpec, result: RunResult) -> None:
        """A run's record is there."""
        self.observer.ended(spec, result)
        self.tracking.news(spec.run_id)

    def stopped(self, spec: RunSpec) -> None:
        """A run left its worker without having ended."""
        self.observer.stopped(spec)

    def told(self, text: str) -> None:
        """Something a user should know, on one line."""
        self.observer.told(text)
