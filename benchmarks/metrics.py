"""A figure that was measured: its readings, their median and spread, and the goal it has to meet.

Ratios are of medians of readings that were taken in turn, in one session: a machine that slows
down slows both down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self


@dataclass(frozen=True)
class Goal:
    """A limit: at ``most`` or at ``least`` so much, in the metric's unit."""

    kind: str  # "most" or "least"
    limit: float

    def __post_init__(self) -> None:
        if self.kind not in ("most", "least"):
            raise ValueError(f"Invalid goal: {self.kind} (there are most, least)")

    def is_met(self, value: float) -> bool:
        """Whether ``value`` keeps to the limit; on it, it does."""
        return value <= self.limit if self.kind == "most" else value >= self.limit


def at_most(limit: float) -> Goal:
    """Not more than ``limit``."""
    return Goal("most", limit)


def at_least(limit: float) -> Goal:
    """Not less than ``limit``."""
    return Goal("least", limit)


@dataclass(frozen=True)
class Metric:
    """One figure. ``unit``: s, ms, MB (10⁶ bytes), x (a ratio), % or a word.

    ``value`` is the median of ``readings``; of a ratio it is the ratio of the two medians, and the
    readings are the ratios within each repetition.
    """

    section: str
    name: str
    unit: str
    value: float
    readings: tuple[float, ...]
    goal: Goal | None = None
    note: str = ""

    @property
    def low(self) -> float:
        """The lowest that was seen, the value itself included."""
        return min(self.value, *self.readings)

    @property
    def high(self) -> float:
        """The highest that was seen, the value itself included."""
        return max(self.value, *self.readings)

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        return None if self.goal is None else self.goal.is_met(self.value)

    def to_json(self) -> dict[str, Any]:
        """Plain data, ready for ``json.dumps``."""
        goal = None if self.goal is None else vars(self.goal)
        return {**vars(self), "readings": list(self.readings), "goal": goal}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`; ``TypeError`` or ``KeyError`` for what is none."""
        goal = None if plain["goal"] is None else Goal(**plain["goal"])
        return cls(**{**plain, "readings": tuple(plain["readings"]), "goal": goal})


def of(
    section: str,
    name: str,
    unit: str,
    readings: Sequence[float],
    goal: Goal | None = None,
    note: str = "",
) -> Metric:
    """The metric of these readings."""
    return Metric(section, name, unit, median(readings), tuple(readings), goal, note)


def ratio(
    section: str,
    name: str,
    over: Sequence[float],
    under: Sequence[float],
    goal: Goal | None = None,
    note: str = "",
) -> Metric:
    """How many times the readings ``over`` are those ``under``, taken in turn."""
    each = tuple(a / b for a, b in zip(over, under, strict=True))
    return Metric(section, name, "x", median(over) / median(under), each, goal, note)


@dataclass(frozen=True)
class Options:
    """What all sections are told."""

    scratch: Path  # an empty directory for whatever they write
    data_dir: Path
    device: str = "cpu"  # or "cuda"
    epochs: int = 10
    repetitions: int = 3
    quick: bool = False  # sizes that only show that a section works
    networks: tuple[str, ...] = ("lenet5", "resnet18", "gpt2")

    @property
    def dataset(self) -> str:
        """MNIST, or the digits that come with the package."""
        return "mnist5k" if self.quick else "mnist"
