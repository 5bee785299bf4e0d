"""A metric: what a run is judged by, described without torch.

A task declares its metrics, the first of which is the headline; the record keeps them. Tables,
figures, pages and verdicts take name, unit, direction and noise from there and know no metric by
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


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

    def shown(self, recorded: float) -> float:
        """A recorded value in the metric's unit."""
        return self.scale * recorded

    def to_json(self) -> dict[str, Any]:
        """Plain data, as a record holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Metric:
        """The inverse of :meth:`to_json`; ``TypeError`` for other fields, ``ValueError`` for
        another direction or noise.
        """
        found = cls(**plain)
        if found.better not in ("higher", "lower") or found.noise not in ("binomial", "seeds"):
            raise ValueError(f"metric {found.name}: better={found.better}, noise={found.noise}")
        return found


ACCURACY = Metric("accuracy", "%", "higher", 100.0, "binomial")
LOSS = Metric("loss", "nats", "lower")
