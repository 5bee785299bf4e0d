"""A matrix of runs through ``make``, beside the tutorial's loop that trains them one by one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from adamwprune.record import RunResult
from adamwprune.scheduler import devices
from adamwprune.store import LOCK, RESULT, read_result
from benchmarks import metrics, one_run, processes
from benchmarks.metrics import Metric, Options, at_least, at_most

SECTION = "matrix"
RUNS = 8


@dataclass(frozen=True)
class Matrix:
    """What ``make`` did. Seconds."""

    seconds: float  # of make, from start to exit
    working: float  # from the start of the first run to the end of the last
    records: tuple[RunResult, ...]
    jobs: int

    @property
    def training(self) -> float:
        """Of training and evaluating, over all runs."""
        return sum(r.seconds["train"] + r.seconds["evaluate"] for r in self.records)

    def overhead(self, seconds: float) -> float:
        """What of ``seconds`` on all places was no training, a run."""
        return (seconds * self.jobs - self.training) / len(self.records)


def train(options: Options, folder: Path, runs: int) -> Matrix:
    """``make`` with an output directory of its own: AdamW, a seed a run."""
    settings = {
        "O": str(folder),
        "CONFIG": "adamw",
        "DATASET": options.dataset,
        "DATA_DIR": str(options.data_dir.absolute()),
        "BATCH_SIZE": str(one_run.BATCH),
        "EPOCHS": str(options.epochs),
        "SEED": " ".join(map(str, range(runs))),
        "DEVICE": options.device,
    }
    done = processes.run(make(settings, "matrix"))
    folders = [path.parent for path in folder.glob(f"results/*/{RESULT}")]
    begun = min((each / LOCK).stat().st_mtime for each in folders)
    ended = max((each / RESULT).stat().st_mtime for each in folders)
    jobs = len(devices.slots(devices.machine(options.device), 0, 0, runs))
    records = tuple(read_result(each / RESULT) for each in folders)
    return Matrix(done.seconds, ended - begun, records, jobs)


def make(settings: dict[str, str], *goals: str) -> list[str]:
    """The words of a ``make`` that uses this interpreter as it is."""
    words = [f"{name}={value}" for name, value in settings.items()]
    return ["make", f"PYTHON={sys.executable}", "VENV=", *words, *goals]


def measure(options: Options) -> list[Metric]:
    """The loop and the matrix in turn, ``options.repetitions`` times."""
    runs = 2 if options.quick else RUNS
    theirs, own = [], []
    for number in range(options.repetitions):
        theirs.append(one_run.plain(options))
        own.append(train(options, options.scratch / f"matrix-{number}", runs))
    plain_rate = [60 * options.epochs / run.seconds for run in theirs]
    rate = [60 * options.epochs * runs / matrix.seconds for matrix in own]
    threads = own[0].records[0].environment["threads"]
    places = f"{runs} runs of {options.epochs} epochs, {own[0].jobs} at a time x {threads} threads"
    whole = [matrix.overhead(matrix.seconds) for matrix in own]
    warm = [matrix.overhead(matrix.working) for matrix in own]
    goals = (None, None) if options.quick else (at_least(6.0), at_most(0.3))
    unit = "run-epochs a minute"
    return [
        metrics.of(SECTION, "plain loop, one process at a time", unit, plain_rate),
        metrics.of(SECTION, "make", unit, rate, None, places),
        metrics.ratio(SECTION, "make / plain", rate, plain_rate, goals[0], places),
        metrics.of(
            SECTION,
            "overhead a run",
            "s",
            whole,
            goals[1],
            "(make's seconds x places - training) / runs: start and exit of make and workers in it",
        ),
        metrics.of(
            SECTION, "overhead a run, between first and last run", "s", warm, None, "workers warm"
        ),
    ]
