"""An agent: on a node of a cluster it takes one run after another until none is left.

``python -m adamwprune.scheduler.agent ROOT`` needs nothing but the shared directory of results,
whose :mod:`spool <adamwprune.scheduler.spool>` says what to train. It is a pool over workers on its
own node, whose jobs it takes by leases, so that any number of agents share them and any of them may
die. SIGTERM, or SIGUSR2 some time before a time limit, stops its runs at a checkpoint.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from adamwprune.base import subprocesses
from adamwprune.base.errors import UserError
from adamwprune.base.files import fenced
from adamwprune.base.shared_files import unique
from adamwprune.plan.job import Job
from adamwprune.plan.spec import RunSpec
from adamwprune.records import lease
from adamwprune.records.code import LIBRARY, Sources
from adamwprune.records.lease import Heart, Lease, Leases
from adamwprune.records.record import RunResult
from adamwprune.records.store import Store, publish_failure
from adamwprune.scheduler import devices
from adamwprune.scheduler.devices import Machine, Slot
from adamwprune.scheduler.events import Policy, Signal
from adamwprune.scheduler.executors import Executors
from adamwprune.scheduler.executors.local import local
from adamwprune.scheduler.packing import Packer
from adamwprune.scheduler.pool import Pool
from adamwprune.scheduler.spool import Settings, Spool, differences, versions

LOOK = 5.0  # seconds between looks at runs that others hold
SPREAD = 64  # agents begin with one of so many runs: two seldom try the same one
MOST_SKEW = 300.0  # seconds between this clock and the file server's that nobody is told of
NOTES = 50  # of an agent that are kept for others to read
PASSED_ON = ("PYTHONPATH", "PYTHONSAFEPATH", *subprocesses.WAITING)
BEFORE_LIMIT = signal.SIGUSR2  # what an engine sends some time before its limit


class SharedJobs:
    """The runs of a spool that this agent takes: a pool's feed."""

    def __init__(self, spool: Spool, heart: Heart, name: str, tell: Callable[[str], None]) -> None:
        self.spool, self.heart, self.name, self.tell = spool, heart, name, tell
        self.settings, self.store = spool.settings, Store(spool.root)
        self.leases = Leases({"agent": name}, self.settings.lease_seconds)
        self.marks = differences(versions(), self.settings.versions)
        self.sources = Sources()
        self._untried: list[str] = []
        self._again = self._looked = -LOOK
        self._stopping = False

    def take(self) -> Job | None:
        """A run that nobody holds; held by this agent from now on."""
        if not self._untried:
            if time.monotonic() - self._again < LOOK:
                return None
            held = {folder.name for folder in self.heart.held}
            self._untried = [each for each in self.spool.left() if each not in held]
        while self._untried:
            some = min(SPREAD, len(self._untried))
            job = self._taken(self._untried.pop(random.randrange(some)))
            if job is not None:
                return job
        self._again = time.monotonic()
        return None

    def _taken(self, run_id: str) -> Job | None:
        found, folder = self.spool.job(run_id), self.spool.root / run_id
        if found is None:
            return None
        job, code = found
        self._check_code(job.spec, code)
        folder.mkdir(parents=True, exist_ok=True)
        step = (self.store.progress(job.spec) or {}).get("step", 0)
        taken = self.leases.take(folder, step=step)
        if taken is None:
            return None
        if self.spool.job(run_id) is None:  # it was done just now
            taken.release("none was needed")
            return None
        self.heart.keep(taken)
        source = {**job.source, **({"other_versions": self.marks} if self.marks else {})}
        job = replace(job, folder=folder, work=str(taken.work), source=source)
        return None if self._is_hopeless(job, taken, step) else job

    def _check_code(self, spec: RunSpec, submitted: str) -> None:
        """Nothing is trained by other code than was submitted."""
        if self.sources.of(spec).digest != submitted:
            raise UserError(
                f"{socket.gethostname()}: {spec.run_id}: the code here is not what was submitted; "
                "make submits it anew"
            )

    def _is_hopeless(self, job: Job, taken: Lease, step: object) -> bool:
        """Whether too many attempts died without a word and without a step; then it has failed."""
        died = []
        for each in reversed(lease.attempts(job.folder)[:-1]):
            if each.released is not None or each.holder.get("step") != step:
                break
            died.append(lease.named(each.holder))
        if len(died) <= self.settings.retries:
            return False
        error = (
            f"{len(died)} attempts died at step {step} without a word (killed, by a memory limit "
            f"perhaps): {', '.join(reversed(died))}"
        )
        with fenced(job.folder, taken.work):
            publish_failure(
                job.folder, job.spec, error, job.source, self.sources.of(job.spec).to_json()
            )
        self.tell(f"{job.label}: {error}")
        self.ended(job, "failed")
        return True

    def ended(self, job: Job, outcome: str) -> None:
        """A run has its record, or another agent has the run."""
        if outcome != "lost":
            self.spool.done(job.spec.run_id)
        held = self.heart.drop(job.folder)
        if held is not None:
            held.release(outcome)

    @property
    def is_exhausted(self) -> bool:
        """Whether no run is left, nor with another agent."""
        return not self.spool.left()

    @property
    def should_stop(self) -> bool:
        """Whether somebody wants the runs stopped; looked up now and then."""
        if time.monotonic() - self._looked >= LOOK:
            self._looked, self._stopping = time.monotonic(), self.spool.is_stopping
        return self._stopping

    def close(self, outcome: str) -> None:
        """Give up what is held: others may take it at once."""
        for folder in list(self.heart.held):
            held = self.heart.drop(folder)
            if held is not None:
                held.release(outcome)


class Reporter:
    """An observer that writes what its agent does where others find it."""

    def __init__(self, spool: Spool, name: str) -> None:
        self.spool, self.name = spool, name
        self.told_lines = 0
        self.state: dict[str, Any] = {
            "name": name,
            **lease.holder(),
            "versions": versions(),
            "state": "working",
            "why": "",
            "runs": [],
            "ended": 0,
            "notes": [],
        }

    def _write(self, **news: Any) -> None:
        self.state = {**self.state, **news, "updated": round(time.time(), 1)}
        self.spool.write_agent(self.name, self.state)

    def started(self, spec: RunSpec, slot: Slot) -> None:
        """A run was given to a worker."""
        print(f"start   {spec.run_id} on {slot.device}", flush=True)
        self._write(runs=[*self.state["runs"], spec.run_id])

    def progress(self, spec: RunSpec, event: Mapping[str, Any]) -> None:
        """How far a run is: others read that in its directory."""

    def _left(self, spec: RunSpec) -> list[str]:
        return [each for each in self.state["runs"] if each != spec.run_id]

    def ended(self, spec: RunSpec, result: RunResult) -> None:
        """A run's record is there."""
        print(f"{result.status:7} {spec.run_id}", flush=True)
        self._write(runs=self._left(spec), ended=self.state["ended"] + 1)

    def stopped(self, spec: RunSpec) -> None:
        """A run left its worker."""
        self._write(runs=self._left(spec))

    def told(self, text: str) -> None:
        """Something a user should know: numbered, so that each is told once."""
        print(f"note    {text}", flush=True)
        self.told_lines += 1
        notes = [*self.state["notes"], [self.told_lines, text]]
        self._write(notes=notes[-NOTES:])

    def leaves(self, state: str, why: str = "") -> None:
        """The agent ends."""
        self._write(state=state, why=why, runs=[])


def serve(root: str, executors: Executors = local) -> str:
    """Train what is left below ``root`` until nothing is; how it ended.

    ``done``, ``stopped``, or ``limit`` where a time limit was near. Raises :class:`UserError` where
    no run can be trained here; others are told why.
    """
    spool = Spool(Path(root))
    settings = spool.settings
    name = f"{socket.gethostname()}-{os.getpid()}-{unique()[:4]}"
    reporter = Reporter(spool, name)
    outcome = "died"
    with Heart(settings.lease_seconds) as heart:
        feed = SharedJobs(spool, heart, name, reporter.told)
        try:
            _tell_oddities(reporter, feed)
            outcome = _serve(spool, settings, reporter, feed, executors)
        except UserError as error:
            outcome = f"refused: {error}"
            raise
        finally:
            feed.close(outcome.partition(":")[0])
            state, _, why = outcome.partition(": ")
            reporter.leaves(state, why)
    return outcome


def _serve(
    spool: Spool, settings: Settings, reporter: Reporter, feed: SharedJobs, executors: Executors
) -> str:
    here = _machine(settings)
    slots = devices.slots(here, settings.jobs, settings.threads, settings.runs, settings.ranks)
    pool = Pool(
        Store(spool.root),
        slots,
        reporter,
        Policy(settings.retries, share_gpus=settings.share_gpus),
        packer=Packer(slots, here.cores, here.gpus),
        executors=executors,
        feed=feed,
    )
    with _warned(pool) as limit_is_near:
        try:
            pool.run([])
        except KeyboardInterrupt:
            return "limit" if limit_is_near() else "stopped"
    return "stopped" if pool.stopping else "done"


@contextmanager
def _warned(pool: Pool) -> Iterator[Callable[[], bool]]:
    """The signal before a time limit stops the runs; yields whether it came."""
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        pool.events.put(Signal())

    if threading.current_thread() is not threading.main_thread():
        yield lambda: came
        return
    before = signal.signal(BEFORE_LIMIT, note)
    try:
        yield lambda: came
    finally:
        signal.signal(BEFORE_LIMIT, before)


def _machine(settings: Settings) -> Machine:
    """This node, as far as it is this agent's."""
    here = devices.machine(settings.device)
    cores = min(here.cores, settings.cores or here.cores)
    return Machine(cores, {gpu: int(settings.gpu_share * n) for gpu, n in here.gpus.items()})


def _tell_oddities(reporter: Reporter, feed: SharedJobs) -> None:
    """What is different here from where the runs were submitted."""
    host = socket.gethostname()
    reporter.leaves("working")  # it is there
    if feed.marks:
        reporter.told(f"{host}: {feed.marks}: its runs' records say so")
    ahead = time.time() - lease.server_time(feed.spool.folder)
    if abs(ahead) > MOST_SKEW:
        how = "ahead of" if ahead > 0 else "behind"
        reporter.told(
            f"{host}: its clock is {abs(ahead) / 60:.0f} min {how} the file server's: times in "
            "records are off by as much; leases do not depend on it"
        )


def environment() -> dict[str, str]:
    """What an agent's Python needs; it does not depend on the make that submitted it."""
    inherited = subprocesses.environment(LIBRARY)
    return {name: inherited[name] for name in PASSED_ON}


def main() -> None:
    """Serve the directory on the command line; ends with its parent's standard input, if asked."""
    if "--until-eof" in sys.argv:
        threading.Thread(target=stop_at_eof, daemon=True).start()
    try:
        print(serve(sys.argv[1]), flush=True)
    except UserError as error:
        sys.exit(f"error: {error}")


def stop_at_eof() -> None:
    """Whoever started this process is gone."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
