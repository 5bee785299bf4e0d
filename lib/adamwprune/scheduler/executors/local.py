"""Worker processes on this machine: one warm process a slot, started again where it died."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from adamwprune.base import subprocesses
from adamwprune.base.wording import last_line
from adamwprune.plan.job import Event, Job
from adamwprune.records.code import LIBRARY
from adamwprune.scheduler import devices
from adamwprune.scheduler.devices import Slot
from adamwprune.scheduler.events import Events, Handle, Message
from adamwprune.scheduler.executors.mps import sharing

GRACE = 5.0  # seconds a worker has to end when it was asked to
LOG_TAIL = 30  # lines of a dead worker's output that its record keeps


@dataclass(frozen=True, eq=False)
class Given:
    """A job that a worker was given."""

    worker: Worker
    pid: int

    @property
    def name(self) -> str:
        """For people."""
        return f"process {self.pid}"


class Local:
    """An :class:`~adamwprune.scheduler.executors.Executor` over these workers."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = workers

    def start(self, job: Job, place: int) -> Handle:
        """Give a job to a worker, whose process is started if there is none."""
        return self.workers[place].give(job)

    def discard(self, handle: Handle) -> None:
        """End the worker's process; the next job gets a new one."""
        assert isinstance(handle, Given)
        handle.worker.replace()

    def stop(self) -> None:
        """Ask the workers to end, at a checkpoint if they train."""
        for worker in self.workers:
            worker.terminate()

    def kill(self) -> None:
        """End the workers now."""
        for worker in self.workers:
            worker.kill()


@contextlib.contextmanager
def local(
    slots: Sequence[Slot], events: Events, share_gpus: bool, tell: Callable[[str], None]
) -> Iterator[Local]:
    """A worker on each slot, all of them awake; at the end they are asked to end, then killed."""
    shared: AbstractContextManager[dict[str, str]] = contextlib.nullcontext({})
    if share_gpus:
        shared = sharing(slots, tell)
    with shared as environment:
        executor = Local([Worker(slot, events, environment) for slot in slots])
        try:
            for worker in executor.workers:
                worker.start()
            yield executor
        except KeyboardInterrupt:
            executor.kill()
            raise
        finally:
            executor.stop()
            for worker in executor.workers:
                worker.wait()


class Worker:
    """One worker process on one slot."""

    def __init__(self, slot: Slot, events: Events, environment: Mapping[str, str]) -> None:
        self.slot, self.events, self.environment = slot, events, environment
        self.given: Given | None = None  # the last job
        self.process: subprocess.Popen[str] | None = None
        self._errors: deque[str] = deque(maxlen=LOG_TAIL)

    def give(self, job: Job) -> Given:
        """Give a job to the process, starting one if there is none."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        before = "".join(self._errors)
        self._errors.clear()
        process = self.process
        assert process is not None
        assert process.stdin is not None
        given = self.given = Given(self, process.pid)
        try:
            process.stdin.write(json.dumps(job.to_json()) + "\n")
            process.stdin.flush()
        except BrokenPipeError:  # it died before it was given the job
            _waited(process)
            words = before or "".join(self._errors)
            error = f"{words.rstrip()}\nthe worker ended while idle".lstrip()
            self._tell(process, {"event": Event.DIED, "error": error})
        return given

    def start(self) -> None:
        """Start the process; it imports torch and wakes its device."""
        self._errors.clear()
        # Its share of the cores is fixed before torch is imported.
        threads = devices.environment(self.slot.threads)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "adamwprune.run.worker", self.slot.device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env={**subprocesses.environment(LIBRARY), **threads, **self.environment},
            start_new_session=True,  # Ctrl-C reaches the scheduler, which ends its workers
        )
        errors = threading.Thread(target=self._read_errors, args=(self.process,), daemon=True)
        reader = threading.Thread(target=self._read, args=(self.process, errors), daemon=True)
        for thread in (errors, reader):
            thread.start()

    def _read_errors(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self._errors.extend(process.stderr)

    def _read(self, process: subprocess.Popen[str], errors: threading.Thread) -> None:
        """Pass on what the process says, and how it ended."""
        assert process.stdout is not None
        for line in process.stdout:
            event = _parsed(line)
            if event is None:  # half a line of a killed process, or something's stray print
                self._errors.append(line)
            else:
                self._tell(process, event)
        status = _waited(process)
        errors.join(GRACE)
        error = self._epitaph(status)
        # The kernel kills so; the C++ of torch aborts where it gets no memory.
        killed = status == -signal.SIGKILL or (status == -signal.SIGABRT and "bad_alloc" in error)
        self._tell(process, {"event": Event.DIED, "error": error, "killed": killed})

    def _tell(self, process: subprocess.Popen[str], event: Mapping[str, Any]) -> None:
        """Pass on what a process says of its job; not the last words of one that was replaced."""
        if self.given is not None and self.given.pid == process.pid:
            self.events.put(Message(self.given, event))

    def _epitaph(self, status: int) -> str:
        """What a dead process wrote to standard error at last, and how it ended."""
        ended = f"signal {subprocesses.signal_name(-status)}"
        if status == -signal.SIGKILL:
            ended += " (out of memory?)"
        how = ended if status < 0 else f"exit status {status}"
        words = "".join(self._errors).rstrip()
        last = f" ({last_line(words)})" if words and status > 0 else ""
        return f"{words}\nthe worker ended in the middle of the run: {how}{last}".lstrip()

    def terminate(self) -> None:
        """Ask the process to end, at a checkpoint if it has a run in hand."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        """End the process now."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()

    def replace(self) -> None:
        """End the process; the next job gets a new one."""
        self.kill()
        self.wait()
        self.process = None

    def wait(self) -> None:
        """Wait for the process to end; kill it if it takes too long."""
        if self.process is None:
            return
        _waited(self.process)
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()


def _waited(process: subprocess.Popen[str]) -> int:
    """The exit status of a process that ends, and is killed if it takes too long."""
    try:
        return process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _parsed(line: str) -> dict[str, Any] | None:
    """The event that a line holds, or None."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    known = isinstance(event, dict) and event.get("event") in list(Event)
    return event if known else None
