"""Train the missing runs of a matrix on a cluster: hand them over, bring agents, and look on.

The runs are handed over in the shared directory of results (:mod:`adamwprune.scheduler.spool`). An
engine brings agents to its nodes, which take the runs by themselves. All that is told here is read
from that directory, so that it does not matter who submitted the runs and whether that is there.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from adamwprune.base import subprocesses
from adamwprune.base.errors import UserError
from adamwprune.base.wording import counted
from adamwprune.plan.job import Job
from adamwprune.plan.spec import RunSpec
from adamwprune.records.code import Sources
from adamwprune.records.store import Store
from adamwprune.scheduler.devices import Slot
from adamwprune.scheduler.events import Message, Observer, Outcome, Signal, signals
from adamwprune.scheduler.spool import Settings, Spool

LOOK = 1.0  # seconds between looks at the directory
ASK = 10.0  # seconds between questions to the engine
END = 30.0  # seconds that agents have to end once they were told to


class Engine(Protocol):
    """What brings agents to the nodes of a cluster."""

    name: str  # slurm, ray
    outlives: bool  # whether its agents go on when this process ends

    @property
    def cluster(self) -> str:
        """Which cluster it is, told apart from others; :class:`UserError` where none is there."""

    def submit(self, spool: Spool, agents: int) -> str:
        """Bring so many agents; what they are known by. Raises :class:`UserError`."""

    def alive(self, ids: Sequence[str]) -> int | None:
        """How many agents run, or wait to; None where the engine does not answer."""

    def cancel(self, ids: Sequence[str]) -> None:
        """End the agents, at a checkpoint where there is time for one."""


class Cluster:
    """Runs of ``store``, trained by agents that ``engine`` brings to its nodes."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        agents: int,
        settings: Settings,
        observer: Observer,
        *,
        source: Mapping[str, Any] | None = None,
        fail_fast: bool = False,
    ) -> None:
        self.store, self.engine, self.agents = store, engine, agents
        self.settings, self.observer = settings, observer
        self.source, self.fail_fast = dict(source or {}), fail_fast
        self.spool = Spool(store.root)
        self.events = queue.SimpleQueue[Message | Signal]()
        self.outcome = Outcome()
        self.specs: dict[str, RunSpec] = {}  # of the runs that have not ended
        self.running: dict[str, Any] = {}  # run id -> what it last said
        self.ids: list[str] = []  # of the engine's jobs
        self.make_has_gone = subprocesses.of_make()
        self._told: dict[str, int] = {}  # notes of each agent that were passed on
        self._asked = time.monotonic()
        self._ended_before = -1  # runs left when agents were last brought
        self._stop_by: float | None = None

    def run(self, jobs: Iterable[Job]) -> Outcome:
        """Train all jobs, none of which is kept in memory.

        Raises :class:`UserError` where no run could go on, and ``KeyboardInterrupt`` after Ctrl-C
        or SIGTERM: where the engine's agents outlive this process they go on, otherwise they are
        stopped at a checkpoint first.
        """
        self.store.check_writable()
        with signals(self.events):
            self._hand_over(jobs)
            while self.specs:
                self._look()
                if self.specs:
                    self._wait()
        return self.outcome

    # -- handing over ------------------------------------------------------------------

    def _hand_over(self, jobs: Iterable[Job]) -> None:
        """Submit what is not submitted yet, and see that there are agents."""
        noted, cluster = self.spool.engine, self.engine.cluster
        place = {"engine": self.engine.name, "cluster": cluster}
        if self.spool.left() and noted:
            if {name: noted.get(name) for name in place} == place:
                self.ids = [str(each) for each in noted.get("ids", [])]
            else:
                self.spool.refuse_if_live()
        alive = self.engine.alive(self.ids) if self.ids else 0
        self.spool.begin(anew=not alive)
        self.spool.write_settings(self.settings)
        code = Sources()
        for job in jobs:
            self.specs[job.spec.run_id] = job.spec
            self.spool.add(replace(job, source=self.source), code.of(job.spec).digest)
        if alive:
            self.observer.told(
                f"{self.engine.name} {', '.join(self.ids)}: {counted(alive, 'agent')} of an "
                "earlier make are there and take these runs too"
            )
        else:
            self._bring_agents()

    def _bring_agents(self) -> None:
        """Have the engine bring agents, and note them for other shells and hosts."""
        count = max(1, min(self.agents, len(self.specs)))
        self._ended_before = len(self.specs)
        self.ids = [*self.ids, self.engine.submit(self.spool, count)][-20:]
        place = {"engine": self.engine.name, "cluster": self.engine.cluster}
        host = socket.gethostname()
        self.spool.write_engine({**place, "ids": self.ids, "host": host, "agents": count})
        self.observer.told(f"{self.engine.name} {self.ids[-1]}: {counted(count, 'agent')}")

    # -- looking on --------------------------------------------------------------------

    def _look(self) -> None:
        """Pass on what is new in the directory."""
        left = set(self.spool.left())
        agents = list(self.spool.agents())
        for agent in agents:
            self._pass_on(agent)
        held = {run for agent in agents for run in agent.get("runs", []) if run in self.specs}
        for run in sorted(held & left):
            self._follow(run)
        for run in sorted(set(self.running) - held):
            if run in left:
                self.observer.stopped(self.specs[run])
            self.running.pop(run)
        for run in [run for run in self.specs if run not in left]:
            self._end(run)

    def _pass_on(self, agent: Mapping[str, Any]) -> None:
        name = str(agent.get("name"))
        for number, text in agent.get("notes", []):
            if number > self._told.get(name, 0):
                self._told[name] = number
                self.observer.told(text)

    def _follow(self, run: str) -> None:
        spec = self.specs[run]
        said = self.store.progress(spec)
        if run not in self.running:
            device, threads = (said or {}).get("device", "cpu"), (said or {}).get("threads", 1)
            self.observer.started(spec, Slot(str(device), int(threads)))
            self.running[run] = None
        if said is not None and said != self.running[run]:
            self.running[run] = said
            self.observer.progress(spec, said)

    def _end(self, run: str) -> None:
        """A run was taken off the list: its record is there, or will be seen in a moment."""
        spec = self.specs[run]
        result = self.store.result(spec)
        if result is None:
            return
        del self.specs[run]
        self.running.pop(run, None)
        (self.outcome.done if result.status == "done" else self.outcome.failed).append(spec)
        self.observer.ended(spec, result)
        if result.status == "failed" and self.fail_fast and self._stop_by is None:
            self.observer.told("FAIL_FAST=y: stopping the other runs at a checkpoint")
            self._stop()

    def _wait(self) -> None:
        """Until the next look: Ctrl-C, and whether agents are there."""
        with contextlib.suppress(queue.Empty):
            self.events.get(timeout=LOOK)
            self._interrupted()
        if self.make_has_gone():
            self._interrupted()
        if self._stop_by is not None and (time.monotonic() > self._stop_by or not self._working()):
            self.specs = {}
        if time.monotonic() - self._asked >= ASK:
            self._asked = time.monotonic()
            if self._stop_by is None and self.engine.alive(self.ids) == 0:
                self._look()
                self._without_agents()

    def _without_agents(self) -> None:
        """All agents have ended and runs are left: bring others where that may help."""
        if not self.specs:
            return
        agents = list(self.spool.agents())
        why = next((str(each["why"]) for each in agents if each.get("state") == "refused"), "")
        if why:
            raise UserError(why)
        if self.spool.is_stopping:
            raise UserError(f"make stop has stopped {counted(len(self.specs), 'run')}")
        where = f"{self.engine.name} {self.ids[-1]}"
        if not agents:
            raise UserError(
                f"{where}: ended, and no agent of it has written to {self.spool.folder}: is the "
                f"directory shared with the nodes? If so, {self.spool.logs} has what they printed"
            )
        if len(self.specs) == self._ended_before:
            raise UserError(
                f"{where}: ended with {counted(len(self.specs), 'run')} left and none done; "
                f"{self.spool.logs} has what its agents printed"
            )
        self.observer.told(f"{where}: has ended, {counted(len(self.specs), 'run')} are left")
        self._bring_agents()

    # -- stopping ----------------------------------------------------------------------

    def _working(self) -> bool:
        return any(each.get("runs") for each in self.spool.agents())

    def _interrupted(self) -> None:
        """Ctrl-C or SIGTERM, or make has gone."""
        if self.engine.outlives:
            self.observer.told(
                "the runs go on without this make: make status shows them, make follows them "
                "again, make stop stops them"
            )
            raise KeyboardInterrupt
        self.observer.told("stopping the runs at a checkpoint; again: at once")
        self._stop()
        while self._working() and time.monotonic() < (self._stop_by or 0):
            time.sleep(LOOK)
        self.engine.cancel(self.ids)
        raise KeyboardInterrupt

    def _stop(self) -> None:
        self._stop_by = time.monotonic() + END
        self.spool.stop()
