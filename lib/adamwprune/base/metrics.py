"""A metric: what a run is judged by, described without torch.

A task declares its metrics, the first of which is the headline; the record keeps them. Tables,
figures, pages and verdicts take name, unit, direction and noise from there and know no metric by
name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from adamwprune.base.forms import number as finite


@dataclass(frozen=True)
class Metric:
    """``train_<name>`` and ``test_<name>`` of a record's history and final values.

    ``scale`` times the recorded value is what is shown, in ``unit``. ``noise`` says what an
    interval within one run can be derived from: ``binomial`` for a fraction of examples, ``seeds``
    where only other seeds tell.
    """

    name: str
    unit: str
    better: Literal["higher", "lower"]
    scale: float = 1.0
    noise: Literal["binomial", "seeds"] = "seeds"

    @property
    def label(self) -> str:
        """The name for people."""
        return self.name.replace("_", " ")

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is: ``sign * value`` is always better if larger."""
        return 1 if self.better == "higher" else -1

    @property
    def is_fraction(self) -> bool:
        """Whether it is a share of the examples: between 0 and ``scale``."""
        return self.noise == "binomial"

    def shown(self, recorded: float) -> float:
        """A recorded value in the metric's unit."""
        return self.scale * recorded

    # -- in words and digits; values are in the metric's unit ----------------------

    @property
    def heading(self) -> str:
        """Label and unit of a column: ``accuracy %``, ``loss (nats)``, ``bits per byte``."""
        if self.unit in ("", self.label):
            return self.label
        return f"{self.label} %" if self.unit == "%" else f"{self.label} ({self.unit})"

    def axis(self, note: str = "") -> str:
        """``accuracy (%)``, ``bits per byte (lower is better; axis starts at 1)``."""
        unit = "" if self.unit == self.label else self.unit
        notes = "; ".join(filter(None, [unit, self.direction, note]))
        return f"{self.label} ({notes})" if notes else self.label

    @property
    def difference_unit(self) -> str:
        """The unit of a difference: ``points`` of a percentage, otherwise the metric's own."""
        return "points" if self.unit == "%" else self.unit or self.label

    @property
    def direction(self) -> str:
        """``lower is better``, or ``higher is better``; empty for a percentage that is better
        if higher, as everybody expects.
        """
        expected = self.unit == "%" and self.better == "higher"
        return "" if expected else f"{self.better} is better"

    def digits(self, values: Iterable[float]) -> int:
        """Decimals by which values, or their differences, are written.

        Two for a percentage, otherwise such that the largest value has four significant digits.
        """
        largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
        if self.unit == "%" or not largest:
            return 2
        return min(9, max(0, 3 - math.floor(math.log10(largest))))

    def number(self, value: float) -> str:
        """A single value without its unit: ``98.71``, ``1.234``, ``1.2e+09``."""
        tiny = self.unit != "%" and 0 < abs(value) < 1e-4
        if tiny or not abs(value) < 1e7:
            return f"{value:.4g}"
        return f"{value:.{self.digits([value])}f}"

    def text(self, value: float) -> str:
        """A single value: ``98.71%``, ``1.234 bits per byte``."""
        gap = "" if self.unit in ("", "%") else " "
        return f"{self.number(value)}{gap}{self.unit}"

    def to_json(self) -> dict[str, Any]:
        """Plain data, as a record holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Metric:
        """The inverse of :meth:`to_json`; ``TypeError`` for other fields, ``ValueError`` for
        values that no metric has.
        """
        found = cls(**plain)
        texts = isinstance(found.name, str) and isinstance(found.unit, str)
        if not (texts and found.name and finite(found.scale)):
            raise ValueError(f"metric {found.name!r} in {found.unit!r}, scale {found.scale!r}")
        if found.better not in ("higher", "lower") or found.noise not in ("binomial", "seeds"):
            raise ValueError(f"metric {found.name}: better={found.better}, noise={found.noise}")
        return found


def second(metrics: Sequence[Metric]) -> Metric:
    """The metric that is shown beside the headline; the headline where it is alone."""
    return metrics[min(1, len(metrics) - 1)]


ACCURACY = Metric("accuracy", "%", "higher", 100.0, "binomial")
LOSS = Metric("loss", "nats", "lower")
