"""A matrix of runs through ``make``, beside the tutorial's loop that trains them one by one."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from adamwprune.base.wording import counted
from adamwprune.records.brief import read_result
from adamwprune.records.record import RunResult
from adamwprune.records.store import LOCK, RESULT
from adamwprune.scheduler import devices
from benchmarks import metrics, one_run, processes, start
from benchmarks.metrics import Metric, Options, at_least, at_most

SECTION = "matrix"
RUNS = 8
ALONE = 2  # runs with all cores each, to compare with
MANY = 40  # runs of one epoch, over which the start of make and of its workers is shared out


@dataclass(frozen=True)
class Matrix:
    """What ``make`` did. Seconds."""

    seconds: float  # of make, from start to exit
    spans: tuple[tuple[float, float], ...]  # each run's start and end, by the clock
    records: tuple[RunResult, ...]
    jobs: int

    def rate(self, epochs: int) -> float:
        """Epochs a minute, over all runs."""
        return 60 * epochs * len(self.records) / self.seconds

    def pace(self, epochs: int) -> float:
        """Epochs a minute while all places train, start and exit left out: few runs share them."""
        return 60 * self.jobs * epochs * len(self.records) / self.training

    def places(self, epochs: int) -> str:
        """What was run, for a note."""
        threads = self.records[0].environment["threads"]
        runs = f"{counted(len(self.records), 'run')} of {counted(epochs, 'epoch')}"
        return f"{runs}, {self.jobs} at a time x {counted(threads, 'thread')}"

    @property
    def training(self) -> float:
        """Of training and evaluating, over all runs."""
        return sum(r.seconds["train"] + r.seconds["evaluate"] for r in self.records)

    @property
    def overhead(self) -> float:
        """What of make's seconds on all places was no training, a run."""
        return (self.seconds * self.jobs - self.training) / len(self.records)

    @property
    def overhead_warm(self) -> float:
        """What of a place's seconds from its first run's start to its last one's end was none.

        Every end but a place's last is followed by a start there: the first ends by the first
        starts after those of the ``jobs`` runs that begin.
        """
        starts = sorted(start for start, _ in self.spans)
        ends = sorted(end for _, end in self.spans)
        between = sum(starts[self.jobs :]) - sum(ends[: len(ends) - self.jobs])
        within = sum(end - start for start, end in self.spans)
        return (within + between - self.training) / len(self.records)


def train(options: Options, folder: Path, runs: int, jobs: int = 0, **further: str) -> Matrix:
    """``make`` with an output directory of its own: AdamW, a seed a run; ``jobs`` 0: its choice."""
    settings = {
        "O": str(folder),
        "CONFIG": "adamw",
        "DATASET": options.dataset,
        "DATA_DIR": str(options.data_dir.absolute()),
        "BATCH_SIZE": str(one_run.BATCH),
        "EPOCHS": str(options.epochs),
        "SEED": " ".join(map(str, range(runs))),
        "DEVICE": options.device,
        "JOBS": str(jobs),
        **further,
    }
    done = processes.run(make(settings, "matrix"))
    folders = [path.parent for path in folder.glob(f"results/*/{RESULT}")]
    spans = tuple(
        ((each / LOCK).stat().st_mtime, (each / RESULT).stat().st_mtime) for each in folders
    )
    places = len(devices.slots(devices.machine(options.device), jobs, 0, runs))
    records = tuple(read_result(each / RESULT) for each in folders)
    return Matrix(done.seconds, spans, records, places)


def make(settings: dict[str, str], *goals: str) -> list[str]:
    """The words of a ``make`` that uses this interpreter as it is."""
    words = [f"{name}={value}" for name, value in settings.items()]
    return ["make", f"PYTHON={sys.executable}", "VENV=", *words, *goals]


def measure(options: Options) -> list[Metric]:
    """The loop and the matrix in turn, ``options.repetitions`` times."""
    runs = 2 if options.quick else RUNS
    theirs: list[one_run.Run] = []
    own: list[Matrix] = []
    alone: list[Matrix] = []
    by_kernels: list[Matrix] = []
    for number in range(options.repetitions):
        theirs.append(one_run.plain(options))
        own.append(train(options, options.scratch / f"matrix-{number}", runs))
        alone.append(train(options, options.scratch / f"alone-{number}", ALONE, jobs=1))
        if one_run.has_kernels(options):
            folder = options.scratch / f"numba-{number}"
            by_kernels.append(train(options, folder, runs, LENET5_NUMBA="y"))
    many = train(replace(options, epochs=1), options.scratch / "many", 3 if options.quick else MANY)
    torch = [start.importing_torch() for _ in theirs]
    plain_rate = [60 * options.epochs / run.seconds for run in theirs]
    rate = [matrix.rate(options.epochs) for matrix in own]
    together, apart = ([each.pace(options.epochs) for each in some] for some in (own, alone))
    goals = (None, None) if options.quick else (at_least(6.0), at_most(0.3))
    of_torch = f"{median(torch):.2f} s on each place, shared out"
    shared = [median(torch) * own[0].jobs / runs]
    unit, places = "run-epochs a minute", own[0].places(options.epochs)
    of_make = (
        "(make's seconds x places - training) / runs: start and exit of make and workers in it"
    )
    of_worker = "setting up, checkpoints, record, and the way to the next run"
    warm, name = [matrix.overhead_warm for matrix in own], "overhead a run"
    whole = [matrix.overhead for matrix in own]
    side_by_side = "training, so many at a time / one by one"
    found = [
        metrics.of(SECTION, "plain loop, one process at a time", unit, plain_rate),
        metrics.of(SECTION, "make", unit, rate, None, places),
        metrics.ratio(SECTION, "make / plain", rate, plain_rate, goals[0], places),
        metrics.ratio(SECTION, side_by_side, together, apart, None, places),
        metrics.of(SECTION, f"{name}, all of make", "s", whole, goals[1], of_make),
        metrics.of(SECTION, f"{name}, importing torch alone", "s", shared, None, of_torch),
        metrics.of(
            SECTION, f"{name}, all of a longer make", "s", [many.overhead], goals[1], many.places(1)
        ),
        metrics.of(
            SECTION, f"{name}, from a worker's first to its last", "s", warm, goals[1], of_worker
        ),
    ]
    if by_kernels:
        goal = None if options.quick else at_least(8.0)
        rate = [matrix.rate(options.epochs) for matrix in by_kernels]
        name = "make LENET5_NUMBA=y / plain"
        found.append(metrics.ratio(SECTION, name, rate, plain_rate, goal, places))
    return found
