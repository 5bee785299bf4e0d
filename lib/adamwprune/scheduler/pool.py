"""Train the missing runs of a matrix, several at once.

Each slot trains one run at a time. A run that crashes is tried again from its checkpoint, then
recorded as failed, and costs nothing else. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adamwprune.base import subprocesses
from adamwprune.base.errors import UserError
from adamwprune.base.files import fenced
from adamwprune.base.wording import last_line
from adamwprune.plan.job import Event, Job
from adamwprune.plan.spec import RunSpec
from adamwprune.records.code import Sources
from adamwprune.records.store import RESULT, Store, publish_failure
from adamwprune.scheduler.devices import Slot
from adamwprune.scheduler.events import (
    Feed,
    Handle,
    Message,
    Observer,
    Outcome,
    Policy,
    Signal,
    signals,
)
from adamwprune.scheduler.executors import Executors
from adamwprune.scheduler.executors.local import local
from adamwprune.scheduler.packing import History, Need, Packer

GRACE = 5.0  # seconds that runs have to reach a checkpoint and end
LOOK = 5.0  # seconds between looks at what is silent, and at whether make is there
SILENCE = 60.0  # seconds without a word of a run after which the user is told


@dataclass
class _Attempt:
    """A job on its way through the pool."""

    job: Job
    crashes: int = 0
    alone: bool = False  # it has run out of memory beside others
    begun: Mapping[str, Any] | None = None  # what an earlier try last said, once it was looked up

    @property
    def spec(self) -> RunSpec:
        return self.job.spec


@dataclass
class _Running:
    """An attempt on its slot."""

    attempt: _Attempt
    place: int  # number of the slot
    handle: Handle
    accepted: bool = False  # whether the job has begun
    heard: float = 0.0  # when it last said something; monotonic seconds


class Pool:
    """Runs over ``slots``, written into ``store``, trained by what ``executors`` makes.

    ``source`` tells commit and changes of the source tree, for the records. ``packer``: what may
    run beside what; by default one run a slot. ``history``: what runs are known to need.
    ``feed``: where more jobs come from, which other pools take from too.
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
        executors: Executors = local,
        feed: Feed | None = None,
    ) -> None:
        self.store, self.slots, self.observer = store, slots, observer
        self.policy, self.take_source = policy or Policy(), source
        self.source = dict(source())
        self.packer = packer or Packer(slots, sum(slot.cores for slot in slots), {})
        self.history, self.feed = history or History(), feed
        self.executors, self.events = executors, queue.SimpleQueue[Message | Signal]()
        self.waiting: deque[_Attempt] = deque()
        self.outcome = Outcome()
        self.sources = Sources()
        self.interrupted = self.stopping = False
        self.make_has_gone = subprocesses.of_make()
        self.running: dict[int, _Running] = {}  # by place
        self._unaccepted = 0  # jobs in a row that died before they had begun
        self._told_outdated = False

    def run(self, jobs: Sequence[Job]) -> Outcome:
        """Train all jobs.

        Raises :class:`UserError` where no run could go on (a full disk, a missing data set) and
        ``KeyboardInterrupt`` after Ctrl-C or SIGTERM: the runs in hand are stopped at a checkpoint
        first; at a second signal they are killed.
        """
        self.store.check_writable()
        self.waiting.extend(_Attempt(job) for job in jobs)
        executor = self.executors(
            self.slots, self.events, self.policy.share_gpus, self.observer.told
        )
        with signals(self.events), executor as self.executor:
            self._fill()
            while self.running or self._expects_more():
                self._handle_next()
        if self.interrupted:
            raise KeyboardInterrupt
        if self.waiting:
            raise RuntimeError(f"{len(self.waiting)} runs were never started")
        return self.outcome

    # -- what runs next ----------------------------------------------------------

    def _fill(self) -> None:
        """Give every idle slot the first waiting run that fits beside what is running."""
        for place in range(len(self.slots)):
            if place not in self.running and not self.stopping:
                if self.feed is not None and not self.waiting:
                    job = self.feed.take()
                    self.waiting.extend([] if job is None else [_Attempt(job)])
                self._fill_place(place)

    def _fill_place(self, place: int) -> None:
        slot = self.slots[place]
        for attempt in self.waiting:
            if not self.packer.fits(place, self._need(slot, attempt)):
                continue
            attempt.begun = None  # another process may have trained it since
            need = self._need(slot, attempt)
            if self.packer.fits(place, need):
                self.waiting.remove(attempt)
                self.packer.take(place, need)
                self._start(place, attempt, need)
                return

    def _expects_more(self) -> bool:
        """Whether jobs that other pools hold may yet become this pool's."""
        return self.feed is not None and not self.stopping and not self.feed.is_exhausted

    def _need(self, slot: Slot, attempt: _Attempt) -> Need:
        threads = self._pinned_threads(slot, attempt)
        return Need(threads, self.history.bytes_of(attempt.spec), attempt.alone)

    def _pinned_threads(self, slot: Slot, attempt: _Attempt) -> int:
        """The threads a run began with, where it began on this kind of device."""
        if attempt.begun is None:  # thousands may wait, and are asked each time a run ends
            attempt.begun = self.store.begun(attempt.spec) or {}
        begun = attempt.begun
        threads, device = begun.get("threads"), str(begun.get("device"))
        same = device.partition(":")[0] == slot.device.partition(":")[0]
        if same and isinstance(threads, int) and 1 <= threads <= 1024:
            return threads
        return slot.threads

    def _start(self, place: int, attempt: _Attempt, need: Need) -> None:
        device = self.slots[place].device
        # Whether no other run of ours is ever on this device beside it.
        alone = [slot.device for slot in self.slots].count(device) == 1
        source = {**attempt.job.source, **self.source, "alone": alone}
        slot = replace(self.slots[place], threads=need.threads)
        job = replace(
            attempt.job, device=device, threads=slot.threads, ranks=slot.ranks, source=source
        )
        handle = self.executor.start(job, place)
        attempt.begun = None
        self.running[place] = _Running(attempt, place, handle, heard=time.monotonic())
        self.observer.started(attempt.spec, slot)

    # -- what happened -----------------------------------------------------------

    def _handle_next(self) -> None:
        if self.make_has_gone() and not self.stopping:
            self.observer.told("make has gone: stopping the runs at a checkpoint")
            self.interrupted = True
            self._stop()
        if self.feed is not None and self.feed.should_stop and not self.stopping:
            self.observer.told("stopping the runs at a checkpoint, as make stop wants it")
            self._stop()
        with contextlib.suppress(queue.Empty):
            self._handle(self.events.get(timeout=LOOK))
        if self.feed is not None:
            self._fill()
        for run in self.running.values():
            silent = time.monotonic() - run.heard
            if silent > SILENCE:
                run.heard = math.inf  # it is told once
                what = f"{run.attempt.job.label}: no word from its worker for {silent:.0f} s"
                self.observer.told(f"{what} ({run.handle.name}); it may hang")

    def _handle(self, message: Message | Signal) -> None:
        if isinstance(message, Signal):
            self._handle_signal(message)
            return
        for run in self.running.values():
            if run.handle is message.handle:
                run.heard = time.monotonic()
                self._handle_event(run, message.event)
                return  # and what is of no running job are the last words of one that ended

    def _handle_event(self, run: _Running, event: Mapping[str, Any]) -> None:
        spec, told, name = run.attempt.spec, self.observer.told, run.attempt.job.label
        match event["event"]:
            case Event.PROGRESS:
                self.observer.progress(spec, dict(event))
            case Event.ACCEPTED:
                run.accepted, self._unaccepted = True, 0
            case Event.MEMORY:
                self.history.learn(spec, event["bytes"])
                self.packer.measured(run.place, event["bytes"])
                self._fill()
            case Event.NOTE:
                told(f"{name}: {event['text']}")
            case Event.WAITING:
                told(f"{name}: another process ({event['pid']}) is training it; waiting")
            case _:
                self._handle_end(run, event)

    def _handle_end(self, run: _Running, event: Mapping[str, Any]) -> None:
        """The last event of a job."""
        self._release(run)
        match event["event"]:
            case Event.END:
                self._note(run.attempt)
            case Event.REFUSED:
                raise UserError(event["reason"])
            case Event.STOPPED if self.stopping:
                self.observer.stopped(run.attempt.spec)
            case Event.STOPPED:
                # As guards of a machine's memory do.
                self._crashed(run, "its worker was told to stop (SIGTERM), not by make", True)
            case Event.OUTDATED:
                self._renew(run)
            case Event.LOST:
                self._lost(run.attempt)
            case Event.CRASHED:
                self._crashed(run, event["error"], event["out_of_memory"])
            case Event.DIED if run.accepted:
                self._crashed(run, event["error"], event.get("killed", False))
            case Event.DIED:
                self._never_began(run, event)
        self._fill()

    def _never_began(self, run: _Running, event: Mapping[str, Any]) -> None:
        """A worker ended before its run began, which says nothing of the run."""
        self._unaccepted += 1
        if self._unaccepted > len(self.slots) and not self.stopping:
            raise UserError(f"workers cannot start: {event['error']}")
        if event.get("killed") and self._has_company(self.slots[run.place]):
            run.attempt.alone = True
        self._try_again(run)

    def _renew(self, run: _Running) -> None:
        """The code is another than the worker has loaded: a new one takes the run over."""
        self._try_again(run)
        if not self._told_outdated:
            self.observer.told("the code was changed: runs that start from now on use it")
            self._told_outdated = True
        self.sources, self.source = Sources(), dict(self.take_source())

    def _try_again(self, run: _Running) -> None:
        """Train the run at the next opportunity, by another process."""
        self.observer.stopped(run.attempt.spec)
        self.executor.discard(run.handle)
        if not self.stopping:
            self.waiting.appendleft(run.attempt)

    def _lost(self, attempt: _Attempt) -> None:
        """Another pool has taken the run over, which was not heard of in time."""
        self.observer.stopped(attempt.spec)
        self.observer.told(f"{attempt.job.label}: another attempt has taken it over")
        if self.feed is not None:
            self.feed.ended(attempt.job, "lost")

    def _release(self, run: _Running) -> None:
        del self.running[run.place]
        self.packer.release(run.place)

    def _crashed(self, run: _Running, error: str, out_of_memory: bool = False) -> None:
        """Try the run again, or record that it failed; a process that had a crash is not used."""
        attempt, slot = run.attempt, self.slots[run.place]
        self.observer.stopped(attempt.spec)
        self.executor.discard(run.handle)
        if self.stopping:  # what is killed while it stops goes on the next time
            return
        reason = last_line(error) or "no reason given"
        if out_of_memory and not attempt.alone and self._has_company(slot):
            attempt.alone = True
            self.observer.told(f"again, alone: {attempt.job.label}: {reason}")
            self.waiting.append(attempt)
        elif attempt.crashes < self.policy.retries:
            attempt.crashes += 1
            count = f"{attempt.crashes} of {self.policy.retries}"
            self.observer.told(f"retry {count}: {attempt.job.label}: {reason}")
            self.waiting.appendleft(attempt)
        else:
            self._record_failure(slot, attempt, error)

    def _has_company(self, slot: Slot) -> bool:
        """Whether other runs may have taken the memory: those on a GPU's meter, or beside it."""
        several = [each.device for each in self.slots].count(slot.device) > 1
        return several or slot.device in self.packer.free

    def _record_failure(self, slot: Slot, attempt: _Attempt, error: str) -> None:
        job, place = attempt.job, {"device": slot.device, "threads": slot.threads}
        environment = {**job.source, **self.source, **place, "command": job.command}
        code = self.sources.of(attempt.spec).to_json()
        if not job.work:
            job.folder.mkdir(parents=True, exist_ok=True)  # the worker may not have come so far
            publish_failure(job.folder, attempt.spec, error, environment, code)
        elif Path(job.work).is_dir():
            with fenced(job.folder, Path(job.work)):
                publish_failure(job.folder, attempt.spec, error, environment, code)
        else:
            self._lost(attempt)
            return
        self._note(attempt)

    def _note(self, attempt: _Attempt) -> None:
        """The run has ended: its record is there."""
        spec = attempt.spec
        result = self.store.result(spec)
        if result is None:
            raise UserError(f"{self.store.folder(spec) / RESULT}: the run ended without a record")
        if self.feed is not None:
            self.feed.ended(attempt.job, result.status)
        (self.outcome.done if result.status == "done" else self.outcome.failed).append(spec)
        self.observer.ended(spec, result)
        if result.status == "failed" and self.policy.fail_fast and not self.stopping:
            self.observer.told("FAIL_FAST=y: stopping the other runs at a checkpoint")
            self._stop()

    # -- stopping ----------------------------------------------------------------

    def _handle_signal(self, signal: Signal) -> None:
        if signal.expired:
            self.executor.kill()
        elif not self.stopping:
            self.interrupted = True
            self.observer.told("stopping the runs at a checkpoint; again: at once")
            self._stop()
        else:
            self.interrupted = True

    def _stop(self) -> None:
        """Start nothing more, and ask the runs to stop; kill those that do not, in time."""
        self.stopping = True
        self.waiting.clear()
        self.executor.stop()
        limit = threading.Timer(GRACE, self.events.put, [Signal(expired=True)])
        limit.daemon = True
        limit.start()
