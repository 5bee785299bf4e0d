"""One run: ``train.py`` beside the tutorial's loop, the same AdamW on the same network and data."""

import importlib.util
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from adamwprune.records.brief import read_result
from benchmarks import metrics, processes
from benchmarks.metrics import Metric, Options, at_least

SECTION = "one-run"
BATCH = 512
LONG = 10  # epochs of the comparison from end to end


@dataclass(frozen=True)
class Run:
    """A run as its user sees it. Seconds; bytes."""

    seconds: float  # of the whole process
    startup: float  # until the first batch
    epochs: tuple[float, ...]  # each with its evaluation
    rss: int
    pss: int
    accuracy: float  # a fraction of 1
    step: float | None = None  # seconds of a training step, where they are known
    compiled: bool = False  # by torch.compile

    @property
    def epoch(self) -> float:
        """Seconds of an epoch, the median."""
        return median(self.epochs)

    def end_to_end(self, epochs: int) -> float:
        """Seconds of a run of so many epochs; those that were not run count as the median one."""
        if len(self.epochs) == epochs:
            return self.seconds
        return self.seconds - sum(self.epochs) + epochs * self.epoch


def plain(options: Options) -> Run:
    """The tutorial's loop, in a process of its own with a worker a core."""
    words = ["--dataset", options.dataset, "--data-dir", str(options.data_dir.absolute())]
    words += ["--epochs", str(options.epochs), "--batch-size", str(BATCH)]
    command = [sys.executable, "-m", "benchmarks.plain", *words, "--device", options.device]
    done = processes.run(command)
    told: dict[str, Any] = json.loads(done.lines[-1][1])
    return Run(
        done.seconds, told["startup"], tuple(told["epochs"]), done.rss, done.pss, told["accuracy"]
    )


def ours(options: Options, folder: Path, *flags: str) -> Run:
    """``train.py`` with further ``flags``, and its record in ``folder``."""
    words = ["--optimizer", "adamw", "--dataset", options.dataset, "--batch-size", str(BATCH)]
    words += ["--lr", "0.001", "--lr-schedule", "none", "--weight-decay", "0.01"]  # as in plain
    words += ["--epochs", str(options.epochs), "--data-dir", str(options.data_dir.absolute())]
    words += ["--results-dir", str(folder), "--device", options.device]
    done = processes.run([sys.executable, "train.py", *words, *flags])
    (record,) = map(read_result, folder.glob("*/result.json"))
    return Run(
        done.seconds,
        done.when(f" on {options.device}"),  # said when all is built and loaded
        tuple(entry["seconds"] for entry in record.history),
        done.rss,
        done.pss,
        record.final["test_accuracy"],
        record.seconds["train"] / record.spec.total_steps,  # without evaluation and checkpoints
        all(attempt.get("compiled", False) for attempt in record.environment["attempts"]),
    )


def measure(options: Options) -> list[Metric]:
    """All in turn, ``options.repetitions`` times."""
    ways = _ways(options)
    runs: dict[str, list[Run]] = {"plain loop": [], **{name: [] for name, _, _ in ways}}
    for number in range(options.repetitions):
        runs["plain loop"].append(plain(options))
        for at, (name, flags, _) in enumerate(ways):
            runs[name].append(ours(options, options.scratch / f"one-run-{number}-{at}", *flags))
    found = [metric for name, each in runs.items() for metric in _of_runs(name, each)]
    theirs = runs["plain loop"]
    computed = f"start and exit + {LONG} x the median epoch of {options.epochs}"
    note = "processes of 10 epochs" if options.epochs == LONG else computed
    for name, _, goal in ways:
        own = runs[name]
        steps = [_ms(run) for run in own]
        found.append(metrics.of(SECTION, f"training step, {name}", "ms", steps))
        epochs = [[run.epoch for run in each] for each in (theirs, own)]
        whole = [[run.end_to_end(LONG) for run in each] for each in (theirs, own)]
        called = name.replace("train.py", "ours", 1)
        found.append(metrics.ratio(SECTION, f"an epoch, plain / {called}", epochs[0], epochs[1]))
        what = f"{LONG} epochs from end to end, plain / {called}"
        judged = None if options.quick else at_least(goal)
        found.append(metrics.ratio(SECTION, what, whole[0], whole[1], judged, note))
    return found if options.quick else [*found, *_compiled(options)]


def _ways(options: Options) -> list[tuple[str, tuple[str, ...], float]]:
    """What of ours is timed: its name, its flags and how many times as fast it is to be."""
    found: list[tuple[str, tuple[str, ...], float]] = [("train.py", (), 4.5)]
    if has_kernels(options):
        found.append(("train.py --lenet5-numba", ("--lenet5-numba",), 5.0))
    if options.device == "cuda" and importlib.util.find_spec("triton") is not None:
        found.append(("train.py --lenet5-triton", ("--lenet5-triton",), 4.5))
    return found


def has_kernels(options: Options) -> bool:
    """Whether ``LENET5_NUMBA`` makes a difference here."""
    return options.device == "cpu" and importlib.util.find_spec("numba") is not None


def _compiled(options: Options) -> list[Metric]:
    """Ours by ``torch.compile``, once: it is no goal's."""
    run = ours(options, options.scratch / "compiled", "--torch-compile")
    note = "compiled" if run.compiled else "not compiled: no compiler here took it"
    rows = [("until the first batch", "s", run.startup), ("training step", "ms", _ms(run))]
    return [
        metrics.of(SECTION, f"{what}, train.py --torch-compile", unit, [value], None, note)
        for what, unit, value in rows
    ]


def _ms(run: Run) -> float:
    return 1000 * (run.step or 0.0)


def _of_runs(name: str, runs: list[Run]) -> list[Metric]:
    """The figures of one of the two."""
    cores = len(os.sched_getaffinity(0))
    loader = f"{cores} workers" if name == "plain loop" else ""
    rows = [
        ("until the first batch", "s", [run.startup for run in runs], loader),
        ("an epoch", "s", [run.epoch for run in runs], "with its evaluation"),
        ("peak RSS, all processes", "MB", [run.rss / 1e6 for run in runs], "shared pages in each"),
        ("peak PSS, all processes", "MB", [run.pss / 1e6 for run in runs], "shared pages once"),
        ("test accuracy", "%", [100 * run.accuracy for run in runs], ""),
    ]
    return [metrics.of(SECTION, f"{what}, {name}", unit, v, None, n) for what, unit, v, n in rows]
