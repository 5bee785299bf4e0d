"""Train the missing runs of a matrix on this machine, several at once.

Each slot of a device has one warm worker process. A run that crashes is tried again from its
checkpoint, then recorded as failed, and costs nothing else; a worker that dies is replaced.
Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import json
import math
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any, Protocol

from adamwprune.base import subprocesses
from adamwprune.base.errors import UserError
from adamwprune.base.wording import last_line
from adamwprune.plan.job import Job
from adamwprune.plan.spec import RunSpec
from adamwprune.records.code import LIBRARY, Sources
from adamwprune.records.record import RunResult
from adamwprune.records.store import RESULT, Store, publish_failure
from adamwprune.scheduler import devices
from adamwprune.scheduler.devices import Slot
from adamwprune.scheduler.executors.mps import sharing
from adamwprune.scheduler.packing import History, Need, Packer

GRACE = 5.0  # seconds a worker has to reach a checkpoint and end
LOG_TAIL = 30  # lines of a dead worker's output that its record keeps
SILENCE = 60.0  # seconds without a word of a worker after which it is told


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


@dataclass
class _Attempt:
    """A job on its way through the pool."""

    job: Job
    crashes: int = 0
    alone: bool = False  # it has run out of its device's memory beside others

    @property
    def spec(self) -> RunSpec:
        return self.job.spec


class Pool:
    """Workers over ``slots``, writing into ``store``.

    ``source`` tells commit and changes of the source tree, for the records. ``packer``: what may
    run beside what; by default one run a slot. ``history``: what runs are known to need.
    """

    def __init__(
        self,
        store: Store,
        slots: Sequence[Slot],
        observer: Observer,
        policy: Policy | None = None,
        *,
        source: Callable[[], Mapping[str, Any]] = dict,
        packer: Packer | None = None,
        history: History | None = None,
    ) -> None:
        self.store, self.slots, self.observer = store, slots, observer
        self.policy, self.take_source = policy or Policy(), source
        self.source = dict(source())
        self.packer = packer or Packer(slots, sum(slot.threads for slot in slots), {})
        self.history = history or History()
        self.events: queue.SimpleQueue[Message | Signal] = queue.SimpleQueue()
        self.waiting: deque[_Attempt] = deque()
        self.outcome = Outcome()
        self.sources = Sources()
        self.interrupted = self.stopping = False
        self.workers: list[Worker] = []
        self._unaccepted = 0  # workers in a row that died before they had begun a run
        self._told_outdated = False

    def run(self, jobs: Sequence[Job]) -> Outcome:
        """Train all jobs.

        Raises :class:`UserError` where no run could go on (a full disk, a missing data set) and
        ``KeyboardInterrupt`` after Ctrl-C or SIGTERM: the runs in hand are stopped at a checkpoint
        first; at a second signal they are killed.
        """
        self.store.check_writable()
        self.waiting.extend(_Attempt(job) for job in jobs)
        with _signals(self.events), self._sharing() as environment:
            self.workers = [
                Worker(place, slot, self.events, environment)
                for place, slot in enumerate(self.slots)
            ]
            try:
                self._fill()
                for worker in self.workers:
                    if worker.process is None:  # it waits for a run, but not to be awake
                        worker.start()
                while any(worker.attempt for worker in self.workers):
                    self._handle_next()
            except KeyboardInterrupt:
                for worker in self.workers:
                    worker.kill()
                raise
            finally:
                self._end_workers()
        if self.interrupted:
            raise KeyboardInterrupt
        if self.waiting:
            raise RuntimeError(f"{len(self.waiting)} runs were never started")
        return self.outcome

    def _sharing(self) -> contextlib.AbstractContextManager[dict[str, str]]:
        if not self.policy.share_gpus:
            return contextlib.nullcontext({})
        return sharing(self.slots, self.observer.told)

    def _end_workers(self) -> None:
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.wait()

    # -- what runs next ----------------------------------------------------------

    def _fill(self) -> None:
        """Give every idle worker the first waiting run that fits beside what is running."""
        for worker in self.workers:
            if worker.attempt is not None or self.stopping:
                continue
            for attempt in self.waiting:
                need = self._need(worker, attempt)
                if self.packer.fits(worker.place, need):
                    self.waiting.remove(attempt)
                    self.packer.take(worker.place, need)
                    self._start(worker, attempt, need)
                    break

    def _need(self, worker: Worker, attempt: _Attempt) -> Need:
        threads = self._pinned_threads(worker, attempt.spec)
        return Need(threads, self.history.bytes_of(attempt.spec), attempt.alone)

    def _pinned_threads(self, worker: Worker, spec: RunSpec) -> int:
        """The threads a run began with, where it began on this kind of device."""
        begun = self.store.begun(spec) or {}
        threads, device = begun.get("threads"), str(begun.get("device"))
        same = device.partition(":")[0] == worker.slot.device.partition(":")[0]
        if same and isinstance(threads, int) and 1 <= threads <= 1024:
            return threads
        return worker.slot.threads

    def _start(self, worker: Worker, attempt: _Attempt, need: Need) -> None:
        worker.attempt, device = attempt, worker.slot.device
        source = {**self.source, "alone": self._is_alone(worker)}
        worker.send(replace(attempt.job, device=device, threads=need.threads, source=source))
        self.observer.started(attempt.spec, Slot(device, need.threads))

    def _is_alone(self, worker: Worker) -> bool:
        """Whether no other run of ours is ever on this worker's device beside its own."""
        return [slot.device for slot in self.slots].count(worker.slot.device) == 1

    # -- what happened -----------------------------------------------------------

    def _handle_next(self) -> None:
        with contextlib.suppress(queue.Empty):
            self._handle(self.events.get(timeout=SILENCE))
        for worker in self.workers:
            silent = time.monotonic() - worker.heard
            if worker.attempt and silent > SILENCE:
                worker.heard = math.inf  # it is told once
                what = f"{worker.attempt.spec.slug}: no word from its worker for {silent:.0f} s"
                self.observer.told(f"{what} (process {worker.pid}); it may hang")

    def _handle(self, message: Message | Signal) -> None:
        if isinstance(message, Signal):
            self._handle_signal(message)
            return
        worker, attempt, event = message.worker, message.worker.attempt, message.event
        if attempt is None or message.process is not worker.process:
            return  # the last words of a worker that was replaced
        worker.heard = time.monotonic()
        if event is None:
            self._died(worker, attempt)
        elif event["event"] == "progress":
            self.observer.progress(attempt.spec, event)
        else:
            self._handle_event(worker, attempt, event)

    def _died(self, worker: Worker, attempt: _Attempt) -> None:
        """A process ended with a run in hand; one that never began it says nothing of the run."""
        epitaph = worker.epitaph()
        self._unaccepted += not worker.accepted
        if self._unaccepted > len(self.workers) and not self.stopping:
            raise UserError(f"workers cannot start: {epitaph}")
        if worker.accepted:
            self._crashed(worker, attempt, epitaph)
        else:
            self._release(worker)
            self.observer.stopped(attempt.spec)
            worker.replace()
            if not self.stopping:
                self.waiting.appendleft(attempt)
            self._fill()

    def _handle_event(self, worker: Worker, attempt: _Attempt, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "refused":
            raise UserError(event["reason"])
        if kind == "memory":
            self.history.learn(attempt.spec, event["bytes"])
            self.packer.measured(worker.place, event["bytes"])
            self._fill()
        elif kind == "note":
            self.observer.told(f"{attempt.spec.slug}: {event['text']}")
        elif kind == "waiting":
            whose = f"another process ({event['pid']})"
            self.observer.told(f"{attempt.spec.slug}: {whose} is training it; waiting")
        elif kind == "end":
            self._release(worker)
            self._note(attempt.spec)
            self._fill()
        elif kind == "accepted":
            worker.accepted, self._unaccepted = True, 0
        elif kind == "stopped" and self.stopping:
            self._release(worker)
            self.observer.stopped(attempt.spec)
        elif kind == "stopped":
            self._crashed(worker, attempt, "its worker was told to stop (SIGTERM), not by make")
        elif kind == "outdated":
            self._renew(worker, attempt)
        elif kind == "crashed":
            self._crashed(worker, attempt, event["error"], event["out_of_memory"])

    def _renew(self, worker: Worker, attempt: _Attempt) -> None:
        """The code is another than the worker has loaded: a new one takes the run over."""
        self._release(worker)
        self.observer.stopped(attempt.spec)
        worker.replace()
        self.waiting.appendleft(attempt)
        if not self._told_outdated:
            self.observer.told("the code was changed: runs that start from now on use it")
            self._told_outdated = True
        self.sources, self.source = Sources(), dict(self.take_source())
        self._fill()

    def _release(self, worker: Worker) -> None:
        worker.attempt = None
        self.packer.release(worker.place)

    def _crashed(
        self, worker: Worker, attempt: _Attempt, error: str, out_of_memory: bool = False
    ) -> None:
        """Try the run again, or record that it failed; a process that had a crash is not used."""
        self._release(worker)
        self.observer.stopped(attempt.spec)
        worker.replace()
        if self.stopping:  # what is killed while it stops goes on the next time
            return
        reason = last_line(error) or "no reason given"
        if out_of_memory and not attempt.alone and worker.slot.device in self.packer.free:
            attempt.alone = True
            self.observer.told(f"again, alone: {attempt.spec.slug}: {reason}")
            self.waiting.append(attempt)
        elif attempt.crashes < self.policy.retries:
            attempt.crashes += 1
            count = f"{attempt.crashes} of {self.policy.retries}"
            self.observer.told(f"retry {count}: {attempt.spec.slug}: {reason}")
            self.waiting.appendleft(attempt)
        else:
            self._record_failure(worker, attempt, error)
        self._fill()

    def _record_failure(self, worker: Worker, attempt: _Attempt, error: str) -> None:
        place = {"device": worker.slot.device, "threads": worker.slot.threads}
        environment = {**self.source, **place, "command": attempt.job.command}
        code = self.sources.of(attempt.spec).to_json()
        attempt.job.folder.mkdir(parents=True, exist_ok=True)  # the worker may not have come so far
        publish_failure(attempt.job.folder, attempt.spec, error, environment, code)
        self._note(attempt.spec)

    def _note(self, spec: RunSpec) -> None:
        """The run has ended: its record is there."""
        result = self.store.result(spec)
        if result is None:
            raise UserError(f"{self.store.folder(spec) / RESULT}: the run ended without a record")
        (self.outcome.done if result.status == "done" else self.outcome.failed).append(spec)
        self.observer.ended(spec, result)
        if result.status == "failed" and self.policy.fail_fast and not self.stopping:
            self.observer.told("FAIL_FAST=y: stopping the other runs at a checkpoint")
            self._stop()

    # -- stopping ----------------------------------------------------------------

    def _handle_signal(self, signal: Signal) -> None:
        if signal.expired:
            for worker in self.workers:
                worker.kill()
        elif not self.stopping:
            self.interrupted = True
            self.observer.told("stopping the runs at a checkpoint; again: at once")
            self._stop()
        else:
            self.interrupted = True

    def _stop(self) -> None:
        """Start nothing more, and ask the workers to stop; kill those that do not, in time."""
        self.stopping = True
        self.waiting.clear()
        for worker in self.workers:
            worker.terminate()
        limit = threading.Timer(GRACE, self.events.put, [Signal(expired=True)])
        limit.daemon = True
        limit.start()


@dataclass(frozen=True)
class Signal:
    """Ctrl-C or SIGTERM; or, ``expired``, the end of the time to stop in."""

    expired: bool = False


class Worker:
    """One worker process on one slot; started again if it died and is given something."""

    def __init__(
        self,
        place: int,
        slot: Slot,
        events: queue.SimpleQueue[Message | Signal],
        environment: Mapping[str, str],
    ) -> None:
        self.place, self.slot, self.events = place, slot, events
        self.environment = environment
        self.attempt: _Attempt | None = None
        self.accepted = False  # whether the process has begun the run in hand
        self.heard = math.inf  # when it last said something; monotonic seconds
        self.process: subprocess.Popen[str] | None = None
        self._errors: deque[str] = deque(maxlen=LOG_TAIL)
        self._readers: list[threading.Thread] = []

    def send(self, job: Job) -> None:
        """Give a job to the process, starting one if there is none."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        self._errors.clear()
        self.accepted, self.heard = False, time.monotonic()
        assert self.process is not None
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its death is an event of its own
            self.process.stdin.write(json.dumps(job.to_json()) + "\n")
            self.process.stdin.flush()

    def start(self) -> None:
        """Start the process; it imports torch and wakes its device."""
        self._errors.clear()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "adamwprune.run.worker", self.slot.device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=self._environment(),
            start_new_session=True,  # Ctrl-C reaches the scheduler, which ends its workers
        )
        self._readers = [
            threading.Thread(target=read, args=(self.process,), daemon=True)
            for read in (self._read_events, self._read_errors)
        ]
        for reader in self._readers:
            reader.start()

    def _environment(self) -> dict[str, str]:
        """With its share of the cores, which is fixed before torch is imported."""
        threads = devices.environment(self.slot.threads)
        return {**subprocesses.environment(LIBRARY), **threads, **self.environment}

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

    def epitaph(self) -> str:
        """What a dead process wrote to standard error at last, and how it ended."""
        status = self.wait()
        self._readers[1].join(GRACE)
        how = (
            f"signal {subprocesses.signal_name(-status)}" if status < 0 else f"exit status {status}"
        )
        words = "".join(self._errors).rstrip()
        last = f" ({last_line(words)})" if words and status > 0 else ""
        return f"{words}\nthe worker ended in the middle of the run: {how}{last}".lstrip()

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return self.process.pid if self.process else None

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

    def wait(self) -> int:
        """Wait for the process to end, kill it if it takes too long; its exit status."""
        if self.process is None:
            return 0
        try:
            return self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            if self.process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    self.process.stdin.close()


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


@contextlib.contextmanager
def _signals(events: queue.SimpleQueue[Message | Signal]) -> Iterator[None]:
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
