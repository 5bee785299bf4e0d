"""When a matrix will be done: quantiles of the seconds left, from past runs and the live rates.

The logarithm of a run's seconds a step is taken as normal, around the mean of past runs alike, and
moved by what the rates of running runs show. P50 schedules all runs at their medians, P90 all at
their 90th percentiles: most of what is unknown is common to all runs and does not average out.
"""

import contextlib
import heapq
import math
import socket
import statistics
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from adamwprune.base.forms import number
from adamwprune.plan.spec import RunSpec
from adamwprune.progress.reading import SLOWEST, Reading
from adamwprune.records.record import RunResult
from adamwprune.scheduler.devices import Slot

# Assumed standard deviations of that logarithm: between runs, by the levels of _likeness; of this
# machine now against its past, and of a rate against the rest of its run; of later against now.
ALIKE, MACHINE, DRIFT = (0.10, 0.15, 0.25, 0.50), 0.20, 0.10
PRIOR = 3.0  # past runs that the assumed deviation counts for, against the measured one
START = 6.0  # seconds in which a new worker imports torch and loads the data
Place = tuple[object, str, int]  # host, kind of device, threads


@dataclass(frozen=True)
class Estimate:
    """Quantiles of a duration in seconds."""

    p50: float
    p90: float


@dataclass(frozen=True)
class Work:
    """What is left of a run in steps; its rate, evaluation not counted, if it is running."""

    spec: RunSpec
    left: int
    rate: float | None = None  # steps a second

    @classmethod
    def of(cls, spec: RunSpec, reading: Reading | None) -> Self:
        """The rest of a run; all of it where nothing is known of it."""
        return cls(spec, reading.left, reading.rate) if reading else cls(spec, spec.total_steps)


class Paces:
    """How fast runs are, found by likeness."""

    def __init__(self, records: Iterable[RunResult] = ()) -> None:
        # Of runs alike the number, and the sums of: the logarithm of seconds a step, its square,
        # and the logarithm of all seconds over those of training.
        self._sums: dict[Hashable, tuple[float, ...]] = {}
        for record in records:
            self.add(record)

    def add(self, record: RunResult) -> None:
        """Learn from a record; one of another form, or without believable times, says nothing."""
        names, where = ("total", "train", "setup"), record.environment
        total, train, setup = (number(record.seconds.get(name)) or 0.0 for name in names)
        with contextlib.suppress(KeyError, TypeError, ValueError, ArithmeticError):
            cores = int(where["threads"]) * int(where.get("ranks", 1))
            place = (where["host"], str(where["device"]).partition(":")[0], cores)
            # Only a worker's first run loads the data: that is in START.
            pace = (total - max(0.0, setup)) / record.spec.total_steps
            if record.status == "done" and 0 < pace <= 1 / SLOWEST:
                rest = math.log(total / train) if total / 1000 < train <= total else 0.0
                self.observe(record.spec, place, pace, rest)

    def observe(self, spec: RunSpec, place: Place, pace: float, rest: float = 0.0) -> None:
        """Note a run's seconds a step, and the logarithm of all its seconds over training's."""
        new = (1.0, math.log(pace), math.log(pace) ** 2, rest)
        for key in _likeness(spec, place):
            sums = self._sums.get(key, (0.0,) * 4)
            self._sums[key] = tuple(before + more for before, more in zip(sums, new, strict=True))

    def of(self, spec: RunSpec, place: Place) -> tuple[float, float, float] | None:
        """Of the runs most like this one, mean, variance, and what of the mean is not training."""
        for deviation, key in zip(ALIKE, _likeness(spec, place), strict=True):
            if key in self._sums:
                count, total, squares, rest = self._sums[key]
                squares = PRIOR * deviation**2 + max(0.0, squares - total**2 / count)
                return total / count, squares / (PRIOR + count - 1) * (1 + 1 / count), rest / count
        return None


def _likeness(spec: RunSpec, place: Place) -> list[Hashable]:
    """What runs have in common with one, from most to least."""
    names = ("MODEL", "DATASET", "BATCH_SIZE", "OPTIMIZER", "PRUNING_METHOD")
    full = (place, *(spec.values.get(name) for name in names))
    return [full, full[:5], full[:4], (place[1], *full[1:4])]


def remaining(
    running: Sequence[Work],
    waiting: Sequence[Work],
    slots: Sequence[Slot],
    past: Paces,
    warm: int = 0,
) -> Estimate | None:
    """Seconds until all runs have ended; None where nothing is known of one of them.

    ``slots`` are alike, ``warm`` of them have a worker; waiting runs start in their order.
    """
    works, hand = [*running, *waiting], len(running)
    if not any(work.left for work in works):
        return Estimate(0.0, 0.0)
    laws = _laws(works, slots[0], past) if slots else None
    if laws is None:
        return None
    cold = max(0, len(slots) - max(warm, hand))
    idle = [0.0] * max(0, warm - hand) + [START] * cold
    quantiles = []
    for normal in (0.0, statistics.NormalDist().inv_cdf(0.9)):
        seconds = [
            work.left * math.exp(mean + normal * math.sqrt(variance))
            for work, (mean, variance) in zip(works, laws, strict=True)
        ]
        free, ended = [*seconds[:hand], *idle], seconds[:hand]
        heapq.heapify(free)
        for each in seconds[hand:]:  # to the slot that is free first
            ended.append(free[0] + each)
            heapq.heapreplace(free, ended[-1])
        quantiles.append(max(ended))
    return Estimate(*quantiles)


def _laws(works: Sequence[Work], slot: Slot, past: Paces) -> list[tuple[float, float]] | None:
    """Mean and variance of each run's logarithm of seconds a step; None where one is unknown."""
    place, live = (socket.gethostname(), slot.device.partition(":")[0], slot.cores), Paces()
    for work in works:
        if work.rate:
            live.observe(work.spec, place, 1 / work.rate)
    paces = [past.of(work.spec, place) or live.of(work.spec, place) for work in works]
    known = [(work, *pace) for work, pace in zip(works, paces, strict=True) if pace]
    if len(known) < len(works):
        return None
    own = [rest - math.log(work.rate) - mean for work, mean, _, rest in known if work.rate]
    # What all runs have in common now and had not in the past: 0, unless the rates say otherwise.
    machine, common = sum(own) / (len(own) + 1), MACHINE**2 / (len(own) + 1)
    laws = []
    for work, mean, variance, rest in known:
        trust = variance / (variance + MACHINE**2) if work.rate else 0.0
        moved = (1 - trust) * (mean + machine)
        moved += trust * (rest - math.log(work.rate)) if work.rate else 0.0
        laws.append((moved, (1 - trust) * variance + (1 - trust) ** 2 * common + DRIFT**2))
    return laws
