"""Train the missing runs of a matrix on this machine, several at once.

Each slot of a device has one warm worker process. A run that fails is recorded and costs nothing
else; a worker that dies is replaced. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from adamwprune.errors import UserError
from adamwprune.files import refusing
from adamwprune.record import RunResult
from adamwprune.scheduler.devices import Slot
from adamwprune.spec import RunSpec
from adamwprune.store import Store, publish

LIBRARY = Path(__file__).resolve().parents[2]
GRACE = 5.0  # seconds a worker has to end
LOG_TAIL = 30  # lines of a dead worker's output that its record keeps


@dataclass(frozen=True)
class Task:
    """One run to train: its spec, its configurations and the command that repeats it."""

    spec: RunSpec
    minimal: str
    full: str
    command: str


class Observer(Protocol):
    """Whoever shows what is going on."""

    def started(self, spec: RunSpec, slot: Slot) -> None:
        """A run was given to a worker."""

    def progress(self, spec: RunSpec, event: dict[str, Any]) -> None:
        """A step or an epoch of a run."""

    def ended(self, spec: RunSpec, result: RunResult) -> None:
        """A run's record is there."""


@dataclass
class Outcome:
    """What became of the tasks."""

    done: list[RunSpec] = field(default_factory=list)
    failed: list[RunSpec] = field(default_factory=list)


class Pool:
    """Workers over ``slots``, writing into ``store``."""

    def __init__(
        self, store: Store, slots: Sequence[Slot], data_dir: Path, observer: Observer
    ) -> None:
        self.store, self.slots, self.data_dir, self.observer = store, slots, data_dir, observer
        self.events: queue.Queue[Message] = queue.Queue()
        self.waiting: deque[Task] = deque()
        self.outcome = Outcome()

    def run(self, tasks: Sequence[Task]) -> Outcome:
        """Train all tasks. Raises :class:`UserError` where no run could go on (a full disk, a
        missing data set) and ``KeyboardInterrupt`` on Ctrl-C or SIGTERM; workers are ended first.
        """
        self.store.check_writable()
        self.waiting.extend(tasks)
        workers = [Worker(slot, self.events) for slot in self.slots]
        with self.store.locked(), _terminable():
            try:
                for worker in workers:
                    self._give_next(worker)
                while any(worker.task for worker in workers):
                    self._handle(self.events.get())
            finally:
                for worker in workers:
                    worker.terminate()
                for worker in workers:
                    worker.wait()
        return self.outcome

    def _give_next(self, worker: Worker) -> None:
        """Hand the next waiting task to ``worker``, if there is one."""
        worker.task = self.waiting.popleft() if self.waiting else None
        if worker.task is None:
            return
        task = worker.task
        folder = self.store.prepare(task.spec, task.minimal, task.full)
        worker.send(
            {
                "spec": dict(task.spec.values),
                "folder": str(folder),
                "data_dir": str(self.data_dir),
                "device": worker.slot.device,
                "threads": worker.slot.threads,
                "command": task.command,
            }
        )
        self.observer.started(task.spec, worker.slot)

    def _handle(self, message: Message) -> None:
        worker, task, event = message.worker, message.worker.task, message.event
        if task is None or message.process is not worker.process:
            return  # the last words of a worker that was replaced
        if event is None:
            self._record_death(worker, task)
            self._give_next(worker)
        elif event["event"] == "refused":
            raise UserError(event["reason"])
        elif event["event"] == "end":
            self._note(task.spec)
            self._give_next(worker)
        else:
            self.observer.progress(task.spec, event)

    def _record_death(self, worker: Worker, task: Task) -> None:
        """A worker ended in the middle of a run: that run failed, and a new worker is needed."""
        status, last_words = worker.wait(), worker.last_words()
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        error = f"the worker ended in the middle of the run: {how}\n{last_words}"
        folder = self.store.folder(task.spec)
        with refusing(f"cannot write to {folder}"):
            publish(folder, RunResult(task.spec.run_id, "failed", task.spec, error=error))
        self._note(task.spec)

    def _note(self, spec: RunSpec) -> None:
        result = self.store.result(spec)
        if result is None:
            raise UserError(f"{self.store.folder(spec)}: the run ended without a record")
        (self.outcome.done if result.status == "done" else self.outcome.failed).append(spec)
        self.observer.ended(spec, result)


class Worker:
    """One worker process on one slot; started when it is given something, again if it died."""

    def __init__(self, slot: Slot, events: queue.Queue[Message]) -> None:
        self.slot, self.events = slot, events
        self.task: Task | None = None
        self.process: subprocess.Popen[str] | None = None
        self._errors: deque[str] = deque(maxlen=LOG_TAIL)
        self._readers: list[threading.Thread] = []

    def send(self, job: dict[str, Any]) -> None:
        """Give a job to the process, starting one if there is none."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        assert self.process is not None
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its death is an event of its own
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()

    def _start(self) -> None:
        self._errors.clear()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "adamwprune.scheduler.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=_environment(self.slot.threads),
            start_new_session=True,  # Ctrl-C reaches the scheduler, which ends its workers
        )
        self._readers = [
            threading.Thread(target=read, args=(self.process,), daemon=True)
            for read in (self._read_events, self._read_errors)
        ]
        for reader in self._readers:
            reader.start()

    def _read_events(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            event = _parsed(line)
            if event is None:  # half a line of a killed process, or something's stray print
                self._errors.append(line)
            else:
                self.events.put(Message(self, process, event))
        self.events.put(Message(self, process, None))

    def _read_errors(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self._errors.extend(process.stderr)

    def last_words(self) -> str:
        """The end of what a dead process wrote to standard error."""
        self._readers[1].join(GRACE)
        return "".join(self._errors)

    def terminate(self) -> None:
        """Ask the process to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self) -> int:
        """Wait for the process to end, kill it if it takes too long; its exit status."""
        if self.process is None:
            return 0
        try:
            return self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def _parsed(line: str) -> dict[str, Any] | None:
    """The event that a line holds, or None."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


@dataclass(frozen=True)
class Message:
    """An event of a worker's process; None: its output ended."""

    worker: Worker
    process: subprocess.Popen[str]
    event: dict[str, Any] | None


def _environment(threads: int) -> dict[str, str]:
    """The environment of a worker: its share of the cores, fixed before torch is imported."""
    inherited = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(LIBRARY), *([inherited] if inherited else [])]),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        # Threads that spin while they wait starve the other workers.
        "OMP_WAIT_POLICY": "passive",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS is deterministic only with this
    }


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the matrix as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
