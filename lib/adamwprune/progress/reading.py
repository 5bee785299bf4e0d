"""How far a run is: a progress event of a worker, or the ``progress.json`` it leaves on disk.

Both are somebody else's numbers, perhaps half-written or of a killed process: what makes no sense
is unknown (None).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from adamwprune.base.files import read_own
from adamwprune.base.forms import number
from adamwprune.base.metrics import Metric, second
from adamwprune.plan.spec import RunSpec
from adamwprune.records.metrics import FORMER
from adamwprune.records.store import PROGRESS

SLOWEST = 1e-6  # steps a second that are believed: one in twelve days


@dataclass(frozen=True)
class Reading:
    """The state of a run in hand. Values of metrics are in their units, sparsities fractions."""

    step: int  # steps done
    steps: int  # of so many
    epoch: int | None = None  # in hand, from 1
    epochs: int = 0  # of so many; 0 where the run's length is in steps
    metrics: tuple[Metric, ...] = ()  # what it is judged by, the headline first
    score: float | None = None  # the headline's, after the last finished epoch
    trained: float | None = None  # of the second metric, mostly the loss, in training so far
    sparsity: float | None = None
    rate: float | None = None  # steps a second, recently
    device: str = "cpu"
    threads: int = 1
    ranks: int = 1
    updated: float | None = None  # unix time

    @property
    def left(self) -> int:
        """Steps still to do."""
        return self.steps - self.step

    @classmethod
    def of(cls, spec: RunSpec, plain: Mapping[str, Any]) -> Self:
        """What an event says of the run of ``spec``; steps and epochs are the spec's own."""
        steps, epochs = spec.total_steps, math.ceil(spec.epochs) if "EPOCHS" in spec else 0
        step = min(steps, _count(plain.get("step")) or 0)
        epoch = _count(plain.get("epoch"))
        device, metrics = plain.get("device"), _metrics(plain.get("metrics", []))
        return cls(
            step,
            steps,
            epoch=min(epoch or 0, epochs) or None,
            epochs=epochs,
            metrics=metrics,
            score=_value(plain, "test", metrics[0]) if metrics else None,
            trained=_value(plain, "train", second(metrics)) if metrics else None,
            sparsity=_fraction(plain.get("sparsity")),
            rate=_rate(plain.get("rate")),
            device=device if isinstance(device, str) else "cpu",
            threads=_count(plain.get("threads")) or 1,
            ranks=_count(plain.get("ranks")) or 1,
            updated=number(plain.get("updated")),
        )

    @classmethod
    def read(cls, spec: RunSpec, folder: Path) -> Self | None:
        """What is in the run's directory; None where there is no file or it is damaged."""
        try:
            plain = json.loads(read_own(folder / PROGRESS))
        except (OSError, ValueError, RecursionError):
            return None
        return cls.of(spec, plain) if isinstance(plain, dict) else None


def _count(value: object) -> int | None:
    found = number(value)
    return int(found) if found is not None and found >= 0 else None


def _metrics(plain: object) -> tuple[Metric, ...]:
    """Those of older runs where there are none, and none where there is something else."""
    if not isinstance(plain, list):
        return ()
    try:
        return tuple(map(Metric.from_json, plain)) or FORMER
    except (TypeError, ValueError):
        return ()


def _value(plain: Mapping[str, Any], part: str, metric: Metric) -> float | None:
    measure = _fraction if metric.is_fraction else number
    found = measure(plain.get(f"{part}_{metric.name}"))
    return None if found is None else number(metric.shown(found))


def _fraction(value: object) -> float | None:
    found = number(value)
    return found if found is not None and 0 <= found <= 1 else None


def _rate(value: object) -> float | None:
    found = number(value)
    return found if found is not None and found >= SLOWEST else None
