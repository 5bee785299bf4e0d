"""Loops that take steps in turn, and what is said of their steps."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import metrics
from benchmarks.metrics import Goal, Metric, Options
from benchmarks.training import paced
from benchmarks.training.cells import DENSE, Cells
from benchmarks.training.paced import PRODUCT, Work

PLAIN, OURS = "plain loop", "ours"
WORKERS = 2  # of the plain loop's DataLoader


@dataclass(frozen=True)
class Sizes:
    """How a section goes about it."""

    steps: int  # timed, of a turn
    turns: int  # of a repetition
    untimed: int = 1  # steps before these, in which a loop gets going again
    setup: int = 6  # the first steps, which are not timed: the masks reach their target


@dataclass(frozen=True)
class Times:
    """Seconds of a step by the loop's name, a reading a repetition."""

    seconds: Mapping[str, Sequence[float]]
    notes: Mapping[str, str]  # what a loop has to say
    ends: Mapping[str, Mapping[str, Any]]  # the last words of ours


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def pruned(method: str) -> str:
    """The name of our loop with this method."""
    return OURS if method == DENSE else f"{OURS}, {method} at 90%"


def ours(cells: Cells, options: Options, tag: str = "") -> dict[str, Work]:
    """The product's runs by name, one a method."""
    return {
        pruned(method) + tag: Work(
            PRODUCT,
            spec,
            cells.data_dir,
            options.scratch,
            options.device,
        )
        for method, spec in cells.specs.items()
    }


def other(
    module: str, cells: Cells, options: Options, part: str = "all", workers: int = WORKERS
) -> Work:
    """The dense run by another loop, or a part of it."""
    spec = cells.specs[DENSE]
    return Work(module, spec, cells.data_dir, options.scratch, options.device, part, workers)


def take(works: Mapping[str, Work], sizes: Sizes, options: Options) -> Times:
    """All of them in turn, ``options.repetitions`` times."""
    with paced.started(works) as loops:
        those = list(loops.values())
        for each in those:
            each.steps(sizes.setup)
        seconds = paced.in_turns(
            those, sizes.steps, sizes.untimed, sizes.turns, options.repetitions
        )
        ends = {each.name: each.end() for each in those}
        notes = {each.name: "; ".join(each.notes) for each in those}
    return Times(seconds, notes, ends)


@dataclass(frozen=True)
class Told:
    """Metrics of a section's times."""

    section: str
    times: Times
    per_step: int  # images or tokens
    unit: str  # "images a second"

    def step(self, name: str, note: str = "", goal: Goal | None = None) -> list[Metric]:
        """Milliseconds of a step, and images or tokens a second; the goal is for these."""
        taken = self.times.seconds[name]
        said = "; ".join(filter(None, (note, self.times.notes[name])))
        rates = [self.per_step / each for each in taken]
        return [
            metrics.of(
                self.section, f"a step, {name}", "ms", [1000 * t for t in taken], None, said
            ),
            metrics.of(self.section, f"speed, {name}", self.unit, rates, goal, said),
        ]

    def part(self, name: str, note: str = "") -> list[Metric]:
        """Milliseconds of a part of a step."""
        taken = [1000 * each for each in self.times.seconds[name]]
        return [metrics.of(self.section, name, "ms", taken, None, note)]

    def ratio(self, over: str, under: str, goal: Goal | None = None, note: str = "") -> Metric:
        """How many times the seconds of ``over`` are those of ``under``."""
        seconds = self.times.seconds
        name = f"a step, {over} / {under}"
        return metrics.ratio(self.section, name, seconds[over], seconds[under], goal, note)

    def by_method(self, methods: Sequence[str], tag: str = "") -> dict[str, Sequence[float]]:
        """Seconds of our steps by method."""
        return {method: self.times.seconds[pruned(method) + tag] for method in methods}
