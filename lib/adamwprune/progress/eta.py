"""When a matrix will be done: quantiles of the seconds left, from past runs and the live rates.

The logarithm of a run's seconds a step is modelled as a sum of normal variables:

    past mean of runs alike + machine + drift + the run's own deviation

``machine`` is what all runs share now and the past had not (other work, another clock), ``drift``
what they will share later. Both are common to all runs of a draw, because their errors do not
average out over a matrix as the runs' own do. The rates of the runs in hand are observations:
they correct ``machine``, for the waiting runs too, and each its own run.

Each draw is scheduled over the slots as the pool does it, in order, to whichever is free first.
A run has the same random numbers in every call, so that an estimate moves only with what is known.
"""

from __future__ import annotations

import functools
import heapq
import math
import random
import socket
import statistics
import zlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from adamwprune.base.forms import number
from adamwprune.plan.spec import RunSpec
from adamwprune.progress.reading import SLOWEST, Reading
from adamwprune.records.record import RunResult
from adamwprune.scheduler.devices import Slot

DRAWS = 200
ORDERS = 256  # of draws, over which runs are spread
MANY = 100  # waiting runs a slot, from which on their order hardly matters
LONGEST = 1000  # times the seconds of its training that a run is believed to have taken
PRIOR = 3.0  # how many past runs the assumed spread counts for, against the measured one


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the logarithm of seconds a step; assumed, not fitted."""

    # Between runs, from those alike in everything to those alike in the least; see _likeness.
    alike: tuple[float, ...] = (0.10, 0.15, 0.25, 0.35, 0.70)
    machine: float = 0.20
    elsewhere: float = 0.70  # machine, where the past is another machine's or of other threads
    drift: float = 0.10
    window: float = 0.20  # a recent rate against the rest of its run
    start: float = 6.0  # seconds in which a new worker imports torch and loads the data


NOISE = Noise()
EXACT = Noise((0.0,) * 5, 0.0, 0.0, 0.0, 0.0, 0.0)  # everything is as it was


@dataclass(frozen=True)
class Estimate:
    """Quantiles of a duration in seconds."""

    p50: float
    p90: float


@dataclass(frozen=True)
class Work:
    """What is left of a run, and how fast it goes now if it is in hand."""

    spec: RunSpec
    left: int  # steps
    rate: float | None = None  # steps a second, evaluation not counted

    @classmethod
    def of(cls, spec: RunSpec, reading: Reading | None) -> Work:
        """The rest of a run; all of it where nothing is known of it."""
        if reading is None:
            return cls(spec, spec.total_steps)
        return cls(spec, reading.left, reading.rate)

    def at_rest(self) -> Work:
        """The same of a run that is not in hand: its last rate says nothing."""
        return Work(self.spec, self.left)


@dataclass(frozen=True)
class Place:
    """What the speed of a run depends on beside the run."""

    host: str
    kind: str  # "cpu", "cuda"
    threads: int

    @classmethod
    def of(cls, slot: Slot) -> Place:
        """A slot of this machine."""
        return cls(socket.gethostname(), slot.device.partition(":")[0], slot.threads)


@dataclass(frozen=True)
class Pace:
    """How fast a kind of run is: the logarithm of its seconds a step."""

    mean: float
    deviation: float
    evaluation: float = 0.0  # logarithm of a run's seconds by its seconds of training
    level: int = 0  # of likeness


class Paces:
    """Paces of runs, found by likeness."""

    def __init__(self, records: Iterable[RunResult] = ()) -> None:
        self._observed: dict[Hashable, list[tuple[float, float]]] = {}
        self._paces: dict[Hashable, Pace] = {}  # worked out from what was observed
        for record in records:
            self.add(record)

    def add(self, record: RunResult) -> None:
        """Learn from a record; one without believable times says nothing."""
        environment, seconds = record.environment, record.seconds
        total, train = number(seconds.get("total")), number(seconds.get("train"))
        threads, steps = environment.get("threads"), number(_steps(record.spec))
        if record.status != "done" or total is None or not steps:
            return
        # Only a worker's first run loads the data: that is part of Noise.start.
        total -= max(0.0, number(seconds.get("setup")) or 0.0)
        pace = total / steps
        if not 0 < pace <= 1 / SLOWEST or not isinstance(threads, int):
            return
        kind = str(environment.get("device")).partition(":")[0]
        place = Place(str(environment.get("host")), kind, threads)
        is_known = train is not None and total / LONGEST < train <= total
        evaluation = math.log(total / train) if train and is_known else 0.0
        self.observe(record.spec, place, pace, evaluation)

    def observe(self, spec: RunSpec, place: Place, seconds: float, evaluation: float = 0.0) -> None:
        """Note the seconds a step that a run took."""
        for key in _likeness(spec, place):
            self._observed.setdefault(key, []).append((math.log(seconds), evaluation))
        self._paces.clear()

    def of(self, spec: RunSpec, place: Place, levels: int, noise: Noise) -> Pace | None:
        """The pace of the runs that are most like ``spec``, looking at so many levels."""
        for level, key in enumerate(_likeness(spec, place)[:levels]):
            if key in self._observed:
                found = self._paces.get((key, noise))
                if found is None:
                    found = _mean(self._observed[key], level, noise.alike[level])
                    self._paces[key, noise] = found
                return found
        return None


def _mean(observed: Sequence[tuple[float, float]], level: int, assumed: float) -> Pace:
    """One pace from several; ``assumed`` is the deviation expected before they were seen."""
    paces, evaluations = zip(*observed, strict=True)
    mean, count = statistics.fmean(paces), len(paces)
    squares = PRIOR * assumed**2 + sum((pace - mean) ** 2 for pace in paces)
    variance = squares / (PRIOR + count - 1) * (1 + 1 / count)  # the mean is uncertain, too
    return Pace(mean, math.sqrt(variance), statistics.fmean(evaluations), level)


def _steps(spec: RunSpec) -> int:
    """Steps of a past run; 0 for a spec of another form than today's."""
    try:
        return spec.total_steps
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return 0


ELSEWHERE, ANY = 3, 4  # levels: other threads or another machine; whatever runs on the device


def _likeness(spec: RunSpec, place: Place) -> list[Hashable]:
    """What runs have in common with one, from most to least."""
    names = ("MODEL", "DATASET", "BATCH_SIZE", "OPTIMIZER", "PRUNING_METHOD")
    model, dataset, batch, optimizer, method = (spec.values.get(name) for name in names)
    task = (model, dataset, batch)
    return [
        (place, task, optimizer, method),
        (place, task, optimizer),
        (place, task),
        (place.kind, task),
        place.kind,
    ]


def remaining(
    running: Sequence[Work],
    waiting: Sequence[Work],
    slots: Sequence[Slot],
    past: Paces,
    warm: int = 0,
    noise: Noise = NOISE,
) -> Estimate | None:
    """Seconds until all runs have ended; None where nothing is known of one of them.

    ``slots`` are alike, ``warm`` of them have a worker; the runs in hand have theirs, the waiting
    ones come in their order.
    """
    works = [*running, *waiting]
    if not any(work.left for work in works):
        return Estimate(0.0, 0.0)
    laws = _laws(works, Place.of(slots[0]), past, noise) if slots else None
    if laws is None:
        return None
    cold = max(0, len(slots) - max(warm, len(running)))
    idle = [0.0] * max(0, warm - len(running)) + [noise.start] * cold
    known: dict[object, list[float]] = {}  # runs alike but for their seed have few laws
    seconds = []
    for law, work in zip(laws, works, strict=True):
        key = (law.mean, law.own, work.left, _order(work.spec.run_id))
        if key not in known:
            known[key] = law.draws(work)
        seconds.append(known[key])
    spans = [
        _makespan(draw[: len(running)], idle, draw[len(running) :])
        for draw in zip(*seconds, strict=True)
    ]
    deciles = statistics.quantiles(spans, n=10, method="inclusive")
    return Estimate(deciles[4], deciles[8])


def _makespan(running: Sequence[float], idle: Sequence[float], waiting: Sequence[float]) -> float:
    """When the last run ends, each waiting one given to the slot that is free first.

    Of very many waiting runs the slots end at much the same time.
    """
    free = [*running, *idle]
    if len(waiting) > MANY * len(free):
        together = (sum(free) + sum(waiting)) / len(free) + max(waiting) / 2
        return max(together, *free)
    heapq.heapify(free)
    ends = [*running]
    for seconds in waiting:
        end = free[0] + seconds
        heapq.heapreplace(free, end)
        ends.append(end)
    return max(ends)


@dataclass(frozen=True)
class _Law:
    """How the logarithm of a run's seconds a step is distributed."""

    mean: float
    own: float  # the run's own deviation
    common: tuple[float, ...]  # what it has of machine and drift, draw by draw

    def draws(self, work: Work) -> list[float]:
        """Seconds that the work takes, draw by draw."""
        normals = _normals(_order(work.spec.run_id))
        return [
            work.left * math.exp(self.mean + common + self.own * normal)
            for common, normal in zip(self.common, normals, strict=True)
        ]


def _order(run_id: str) -> str:
    """Which of the orders of :func:`_normals` a run has: one of ``ORDERS``, always the same."""
    return str(zlib.crc32(run_id.encode()) % ORDERS)


@functools.cache
def _normals(name: str) -> tuple[float, ...]:
    """Standard normal numbers, always the same for a name: quantiles in a random order."""
    quantiles = list(_quantiles())
    random.Random(name).shuffle(quantiles)
    return tuple(quantiles)


@functools.cache
def _quantiles() -> tuple[float, ...]:
    normal = statistics.NormalDist()
    return tuple(normal.inv_cdf((index + 0.5) / DRAWS) for index in range(DRAWS))


def _laws(works: Sequence[Work], place: Place, past: Paces, noise: Noise) -> list[_Law] | None:
    """The law of each run, in order; None where one is unknown."""
    live = Paces()
    for work in works:
        if work.rate:
            live.observe(work.spec, place, 1 / work.rate)
    known = [past.of(work.spec, place, ANY, noise) for work in works]
    mean, deviation = _machine(works, known, noise)
    shifts = [mean + deviation * normal for normal in _normals("machine")]
    drifts = [noise.drift * normal for normal in _normals("drift")]
    laws = []
    for work, pace in zip(works, known, strict=True):
        if pace is not None:
            laws.append(_corrected(work, pace, shifts, drifts, noise))
            continue
        seen = live.of(work.spec, place, ANY + 1, noise)
        if seen is None:
            return None
        laws.append(_live(work, seen, drifts, noise))
    return laws


def _machine(
    works: Sequence[Work], known: Sequence[Pace | None], noise: Noise
) -> tuple[float, float]:
    """Mean and deviation of what all runs share now, from the rates against the past."""
    far = any(pace is not None and pace.level >= ELSEWHERE for pace in known)
    prior = noise.elsewhere if far else noise.machine
    if not prior:
        return 0.0, 0.0
    precision, weighted = prior**-2, 0.0
    for work, pace in zip(works, known, strict=True):
        if work.rate and pace is not None:
            weight = 1 / (pace.deviation**2 + noise.window**2)
            precision += weight
            weighted += weight * (_observed(work.rate, pace) - pace.mean)
    return weighted / precision, precision**-0.5


def _observed(rate: float, pace: Pace) -> float:
    """Logarithm of seconds a step, evaluation included, at a rate of training alone."""
    return -math.log(rate) + pace.evaluation


def _corrected(
    work: Work, pace: Pace, shifts: Sequence[float], drifts: Sequence[float], noise: Noise
) -> _Law:
    """The law of a run with a past, corrected by its rate as far as that is to be trusted."""
    variance = pace.deviation**2
    total = variance + noise.window**2
    # A normal variable conditioned on a noisy observation of it.
    trust = variance / total if work.rate and total else 0.0
    offset = _observed(work.rate, pace) - pace.mean if work.rate else 0.0
    common = [(1 - trust) * shift + drift for shift, drift in zip(shifts, drifts, strict=True)]
    return _Law(pace.mean + trust * offset, math.sqrt((1 - trust) * variance), tuple(common))


def _live(work: Work, pace: Pace, drifts: Sequence[float], noise: Noise) -> _Law:
    """The law of a run without a past, from the rates of now; what the machine does is in them."""
    if work.rate:
        return _Law(-math.log(work.rate), noise.window, tuple(drifts))
    return _Law(pace.mean, pace.deviation, tuple(drifts))
