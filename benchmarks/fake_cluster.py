"""A cluster without nodes: real agents, each a process, whose runs take time and compute nothing.

``python -m benchmarks.fake_cluster ROOT SECONDS STEPS`` is one agent. Tests kill them, and the
benchmark counts what a run costs beside its training.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adamwprune.base.files import append_line, fenced, write_bytes, write_text
from adamwprune.base.subprocesses import environment
from adamwprune.plan.job import Event, Job
from adamwprune.records import store
from adamwprune.records.code import LIBRARY, Sources
from adamwprune.records.record import RunResult
from adamwprune.scheduler import agent, pool
from adamwprune.scheduler.devices import Slot
from adamwprune.scheduler.events import Events, Handle, Message
from adamwprune.scheduler.executors import Executor, Executors
from adamwprune.scheduler.spool import Spool

TREE = Path(__file__).resolve().parents[1]
TRAININGS = "trainings.jsonl"  # in a run's directory: one line for each attempt that began or ended
# The least that a record of a run that is done holds.
_OWNERS: dict[str, Any] = {"total": 0, "weights": 0, "gradients": 0, "buffers": 0}
LEAST: dict[str, Any] = {
    "history": [{"epoch": 1}],
    "final": {"test_accuracy": 0.99},
    "pruning": {"requested": 0.0, "k": 0, "zeros": 0, "prunable": 61_470},
    "memory": {**_OWNERS, "optimizer": {}, "pruner": {}},
}


@dataclass(frozen=True, eq=False)
class Given:
    """A run in a thread."""

    job: Job
    name: str = "a thread"


class Trainer:
    """An executor whose runs sleep for ``seconds`` in so many steps, a checkpoint after each."""

    def __init__(self, events: Events, seconds: float, steps: int) -> None:
        self.events, self.seconds, self.steps = events, seconds, steps
        self.stopping = threading.Event()
        self.sources = Sources()

    def start(self, job: Job, place: int) -> Handle:
        """Train in a thread."""
        given = Given(job)
        threading.Thread(target=self._train, args=[given], daemon=True).start()
        return given

    def discard(self, handle: Handle) -> None:
        """A thread ends by itself."""

    def stop(self) -> None:
        """Ask all runs to stop after their step."""
        self.stopping.set()

    kill = stop

    def _train(self, given: Given) -> None:
        self.events.put(Message(given, {"event": Event.ACCEPTED}))
        try:
            with fenced(given.job.folder, Path(given.job.work)):
                event = self._trained(given.job)
        except FileNotFoundError:
            event = {"event": Event.LOST}
        self.events.put(Message(given, event))

    def _trained(self, job: Job) -> dict[str, Any]:
        folder, spec = job.folder, job.spec
        said = store.Store(folder.parent).begun(spec) or {}
        if (folder / store.RESULT).exists():
            return {"event": Event.END, "status": "done"}
        store.prepare(folder, spec)
        attempt = Path(job.work).parent.name
        append_line(folder / TRAININGS, {"attempt": attempt, "from": said.get("step", 0)})
        for step in range(int(said.get("step", 0)) + 1, self.steps + 1):
            time.sleep(self.seconds / self.steps)
            write_bytes(folder / store.CHECKPOINTS[0], b"", durable=False)
            progress = {"step": step, "updated": time.time(), "code": self.sources.of(spec).digest}
            write_text(folder / store.PROGRESS, json.dumps(progress), durable=False)
            if self.stopping.is_set():
                return {"event": Event.STOPPED}
        code = self.sources.of(spec).to_json()
        place = {**job.source, "host": os.uname().nodename, "attempt": attempt}
        place |= {"device": "cpu", "threads": 1}
        seconds = max(self.seconds, 0.001)
        least: dict[str, Any] = {**LEAST, "seconds": {"total": seconds, "train": seconds}}
        record = RunResult(spec.run_id, "done", spec, environment=place, code=code, **least)
        store.publish(folder, record)
        append_line(folder / TRAININGS, {"attempt": attempt, "published": True})
        store.has_ended(folder)
        return {"event": Event.END, "status": "done"}


def trainer(seconds: float, steps: int) -> Executors:
    """What an agent's pool is given in place of worker processes."""

    @contextlib.contextmanager
    def made(
        slots: Sequence[Slot], events: Events, share: bool, tell: Callable[[str], None]
    ) -> Iterator[Executor]:
        executor = Trainer(events, seconds, steps)
        try:
            yield executor
        finally:
            executor.stop()

    return made


@dataclass
class Processes:
    """An engine whose nodes are processes on this machine."""

    seconds: float = 0.0
    steps: int = 1
    cluster: str = "here"
    outlives: bool = False
    agents: list[subprocess.Popen[bytes]] = field(default_factory=list)

    name = "fake"

    def submit(self, spool: Spool, agents: int) -> str:
        """Start the processes."""
        for _ in range(agents):
            self.start(spool.root)
        return str(len(self.agents))

    def start(self, root: Path) -> subprocess.Popen[bytes]:
        """One more agent."""
        log = root / ".cluster" / "logs" / f"{len(self.agents)}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        found = environment(LIBRARY)
        path = os.pathsep.join([found["PYTHONPATH"], str(TREE)])
        words = [str(root), str(self.seconds), str(self.steps)]
        with log.open("w") as stream:
            self.agents.append(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.fake_cluster", *words],
                    env={**found, "PYTHONPATH": path},
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                )
            )
        return self.agents[-1]

    def alive(self, ids: Sequence[str]) -> int | None:
        """How many processes run."""
        return sum(process.poll() is None for process in self.agents)

    def cancel(self, ids: Sequence[str]) -> None:
        """End them at a checkpoint."""
        for process in self.agents:
            if process.poll() is None:
                process.terminate()

    def close(self) -> None:
        """End them at once."""
        for process in self.agents:
            process.kill()
            process.wait()


def serve(root: str) -> str:
    """An agent, as an engine starts it: how long its runs take is in a file, or set outside."""
    agent.LOOK = pool.LOOK = 0.2
    told = Path(root, ".fake-runs")
    words = told.read_text() if told.exists() else os.environ.get("FAKE_RUNS", "0 1")
    seconds, steps = words.split()
    return agent.serve(root, trainer(float(seconds), int(steps)))


def main() -> None:
    """One agent."""
    root, *words = [word for word in sys.argv[1:] if not word.startswith("-")]
    if words:
        os.environ["FAKE_RUNS"] = " ".join(words)
    if "--until-eof" in sys.argv:
        threading.Thread(target=agent.stop_at_eof, daemon=True).start()
    print(serve(root))


if __name__ == "__main__":
    main()
