"""A matrix of thousands of runs on a cluster: what a run costs beside its training.

The nodes are processes on this machine, the agents on them are real, and a run computes nothing.
``python -m benchmarks.cluster FOLDER CELLS NODES`` is the make that submits such a matrix and
follows it; its last line says what that took.
"""

import json
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adamwprune.config import sources
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.launch import Launch
from adamwprune.plan.spec import RunSpec
from adamwprune.records.lease import Heart, Leases
from adamwprune.records.store import PROGRESS, RESULT, Store
from adamwprune.scheduler import engines
from benchmarks import metrics, processes
from benchmarks.fake_cluster import Processes
from benchmarks.matrix import make
from benchmarks.metrics import Metric, Options, at_most

SECTION = "cluster"
CELLS, NODES = 10_000, 50
FEWER = 10  # the driver's memory is compared with that for so many times fewer cells


@dataclass(frozen=True)
class Driven:
    """A matrix that was trained. CPU seconds of the driver and of all agents, memory in bytes."""

    cells: int
    seconds: float
    driver: float
    agents: float
    memory: int  # the driver's peak

    @property
    def cost(self) -> float:
        """CPU milliseconds a run, of the driver and the agents."""
        return 1000 * (self.driver + self.agents) / self.cells


def settings(folder: Path, cells: int, nodes: int) -> dict[str, str]:
    """The matrix: a seed a cell."""
    seeds = " ".join(map(str, range(cells)))
    runs = {"CONFIG": "adamw", "DATASET": "mnist5k", "EPOCHS": "1", "SEED": seeds}
    return {**runs, "O": str(folder), "EXECUTOR": "slurm", "AGENTS": str(nodes), "DEVICE": "cpu"}


def drive(folder: Path, cells: int, nodes: int) -> dict[str, Any]:
    """What make does, with an engine whose nodes are processes."""
    engine = Processes()
    engines.engine = lambda operational: engine
    start = time.perf_counter()
    workspace = sources.Workspace(settings(folder, cells, nodes))
    outcome = Launch(Experiment.load(workspace)).train(Catalogue.missing)
    seconds = time.perf_counter() - start
    for process in engine.agents:
        process.wait(300)
    own, theirs = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "cells": len(outcome.done),
        "seconds": seconds,
        "driver": own.ru_utime + own.ru_stime,
        "agents": theirs.ru_utime + theirs.ru_stime,
        "memory": 1024 * int(told["VmHWM"].split()[0]),
    }


def driven(folder: Path, cells: int, nodes: int) -> Driven:
    """:func:`drive` in a process of its own."""
    folder.mkdir()
    words = [sys.executable, "-m", "benchmarks.cluster", str(folder), str(cells), str(nodes)]
    done = processes.run(words)
    return Driven(**json.loads(done.lines[-1][1]))


def status(folder: Path, cells: int, nodes: int, repetitions: int) -> list[float]:
    """Seconds of ``make status`` while an agent on each node has a run in hand."""
    workspace = sources.Workspace(settings(folder, cells, nodes))
    experiment = Experiment.load(workspace)
    store, leases = Store(experiment.root), Leases()
    sources.write(experiment.tree, folder / ".config")
    with ExitStack() as stack:
        heart = stack.enter_context(Heart())
        for spec in experiment.matrix.specs[:nodes]:
            _train(store, spec)
            held = leases.take(store.folder(spec))
            assert held is not None
            heart.keep(held)
        words = make({"O": str(folder)}, "status")
        finished = [processes.run(words) for _ in range(repetitions)]
    assert any(f"{nodes} running" in line for _, line in finished[0].lines)
    return [done.seconds for done in finished]


def _train(store: Store, spec: RunSpec) -> None:
    """Have the run be on its way again."""
    (store.folder(spec) / RESULT).unlink()
    told = {"step": 1, "updated": time.time(), "device": "cpu", "threads": 1}
    (store.folder(spec) / PROGRESS).write_text(json.dumps(told))


def measure(options: Options) -> list[Metric]:
    """A large matrix, trained once, and one with fewer cells."""
    cells, nodes = (40, 2) if options.quick else (CELLS, NODES)
    few = driven(options.scratch / "few", cells // FEWER, nodes)
    many = driven(options.scratch / "many", cells, nodes)
    shown = status(options.scratch / "many", cells, nodes, options.repetitions)
    goals = (None,) * 3 if options.quick else (at_most(20.0), at_most(2.0), at_most(100))
    where, sizes = f"{cells:,} cells, {nodes} nodes", f"{cells:,} cells / {cells // FEWER:,}"
    return [
        _of("a run", "ms", [many.cost], goals[0], f"{where}; CPU of the driver and the agents"),
        _of("a run, the driver's part", "ms", [1000 * many.driver / cells], None, where),
        _of("a run, by the clock", "ms", [1000 * many.seconds / cells], None, where),
        _of(f"make status, {nodes} running", "s", shown, goals[1], where),
        _of("driver, peak memory", "MB", [many.memory / 1e6], goals[2], where),
        metrics.ratio(SECTION, "driver, peak memory", [many.memory], [few.memory], None, sizes),
    ]


def _of(
    name: str, unit: str, readings: Sequence[float], goal: metrics.Goal | None, note: str
) -> Metric:
    return metrics.of(SECTION, name, unit, readings, goal, note)


if __name__ == "__main__":
    print(json.dumps(drive(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))), flush=True)
