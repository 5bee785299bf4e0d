"""Where runs come from, as tables and figures say it: other code, another device, another torch."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from adamwprune.base.wording import counted, of_ranks
from adamwprune.records.record import FROZEN, STALE, RunResult

MEANS = {
    STALE: "other code produced the run than is here now, and it was accepted all the same",
    FROZEN: (
        "the record was published; other code than is here now produced it, or it is not known "
        "which, and the run is not trained again"
    ),
}
_SIGNS = "†‡§¶"
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Place:
    """What a run's numbers may depend on beside its specification; GPUs of a kind are alike."""

    device: str  # "cpu", "cuda"
    device_name: str
    threads: str
    torch: str
    ranks: str

    @classmethod
    def of(cls, run: RunResult) -> Self:
        """As the record has it; ``unknown`` where it has nothing."""
        told = {"ranks": 1, **run.environment}  # of older records one
        found = {name: str(told.get(name, _UNKNOWN)) for name in cls.__annotations__}
        return cls(**{**found, "device": found["device"].split(":")[0]})

    @property
    def processor(self) -> str:
        """``cuda (NVIDIA H100)``."""
        return f"{self.device} ({self.device_name})"

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == "1" else f"{self.threads} threads"
        return f"{self.processor}, {of_ranks(threads, int(self.ranks))}, torch {self.torch}"


@dataclass(frozen=True)
class Origins:
    """The origins of all runs of one table or figure, and what sets some of them apart."""

    n: int
    marks: Mapping[str, int]  # runs by mark
    common: Place | None  # where most completed runs were; None without any
    signs: Mapping[Place, str]  # of every other place: †, ‡, …

    @classmethod
    def of(cls, runs: Iterable[RunResult]) -> Self:
        """Of each run once; places are those of completed runs, in the order of ``runs``."""
        distinct = list({run.run_id: run for run in runs}.values())
        places = Counter(Place.of(run) for run in distinct if run.status == "done")
        common = max(places, key=lambda place: places[place], default=None)
        others = (place for place in places if place != common)
        signs = {place: _sign(number) for number, place in enumerate(others)}
        return cls(len(distinct), count_marks(distinct), common, signs)

    def sign(self, runs: Iterable[RunResult]) -> str:
        """The signs of the places, other than the common one, of a row's completed runs."""
        own = {Place.of(run) for run in runs if run.status == "done"}
        return "".join(sign for place, sign in self.signs.items() if place in own)

    def label(self, label: str, runs: Sequence[RunResult]) -> str:
        """``90%, stale †``: a row's label with what sets its runs apart from others here."""
        marks = count_marks(runs)
        uncommon = [name for name in marks if self.marks[name] < self.n]
        told = [_share(name, marks[name], len(runs)) for name in uncommon]
        return self.signed(", ".join([label, *told]), runs)

    def signed(self, label: str, runs: Iterable[RunResult]) -> str:
        """``movement †``: a label with the signs of its completed runs' places."""
        return f"{label} {self.sign(runs)}".rstrip()

    def elsewhere(self, runs: Iterable[RunResult]) -> int:
        """How many of a row's completed runs were not at the common place."""
        return sum(Place.of(run) in self.signs for run in runs if run.status == "done")

    def captions(self, *, seconds: bool) -> list[str]:
        """A sentence for every mark and one for the places; none where there is nothing to say.

        ``seconds``: whether times are shown, which cannot be compared between places.
        """
        lines = [
            f"{name.capitalize()} ({count} of {counted(self.n, 'run')}): {MEANS[name]}."
            for name, count in self.marks.items()
        ]
        if self.signs:
            others = "; ".join(f"{sign} {place}" for place, sign in self.signs.items())
            end = " Times are comparable only where these agree." if seconds else ""
            lines.append(f"{others}; all other runs: {self.common}.{end}")
        return lines


def count_marks(runs: Iterable[RunResult]) -> dict[str, int]:
    """Runs by mark, without those marks that none has."""
    return dict(sorted(Counter(mark for run in runs for mark in run.marks).items()))


def status(bare: str, runs: Sequence[RunResult]) -> str:
    """``done, stale``; ``done, 2 of 3 stale`` where it holds for some of a row's runs."""
    whole = bare in ("done", "failed")
    marks = count_marks(runs)
    shares = (_share(name, count, len(runs), whole=whole) for name, count in marks.items())
    return ", ".join([bare, *shares])


def _share(mark: str, count: int, n: int, *, whole: bool = True) -> str:
    return mark if whole and count == n else f"{count} of {n} {mark}"


def _sign(number: int) -> str:
    """†, ‡, §, ¶, ††, …"""
    return _SIGNS[number % len(_SIGNS)] * (number // len(_SIGNS) + 1)
