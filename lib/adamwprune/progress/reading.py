"""How far a run is: a progress event of a worker, or the ``progress.json`` it leaves on disk.

Both are somebody else's numbers, perhaps half-written or of a killed process: what makes no sense
is unknown (None).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adamwprune.base.forms import number
from adamwprune.plan.spec import RunSpec
from adamwprune.records.store import PROGRESS

SLOWEST = 1e-6  # steps a second that are believed: one in twelve days


@dataclass(frozen=True)
class Reading:
    """The state of a run in hand. Losses are means, accuracies and sparsities fractions of 1."""

    step: int  # steps done
    steps: int  # of so many
    epoch: int | None = None  # in hand, from 1
    epochs: int = 0
    loss: float | None = None
    accuracy: float | None = None  # on the test set, after the last finished epoch
    sparsity: float | None = None
    rate: float | None = None  # steps a second, recently
    device: str = "cpu"
    threads: int = 1
    updated: float | None = None  # unix time

    @property
    def left(self) -> int:
        """Steps still to do."""
        return self.steps - self.step

    @classmethod
    def of(cls, spec: RunSpec, plain: Mapping[str, Any]) -> Reading:
        """What an event says of the run of ``spec``; steps and epochs are the spec's own."""
        steps, epochs = spec.total_steps, math.ceil(spec.epochs)
        step = min(steps, _count(plain.get("step")) or 0)
        epoch = _count(plain.get("epoch"))
        device = plain.get("device")
        return cls(
            step,
            steps,
            epoch=min(epoch, epochs) if epoch else None,
            epochs=epochs,
            loss=number(plain.get("loss")),
            accuracy=_fraction(plain.get("test_accuracy")),
            sparsity=_fraction(plain.get("sparsity")),
            rate=_rate(plain.get("rate")),
            device=device if isinstance(device, str) else "cpu",
            threads=_count(plain.get("threads")) or 1,
            updated=number(plain.get("updated")),
        )

    @classmethod
    def read(cls, spec: RunSpec, folder: Path) -> Reading | None:
        """What is in the run's directory; None where there is no file or it is damaged."""
        try:
            plain = json.loads((folder / PROGRESS).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return cls.of(spec, plain) if isinstance(plain, dict) else None


def _count(value: object) -> int | None:
    found = number(value)
    return int(found) if found is not None and found >= 0 else None


def _fraction(value: object) -> float | None:
    found = number(value)
    return found if found is not None and 0 <= found <= 1 else None


def _rate(value: object) -> float | None:
    found = number(value)
    return found if found is not None and found >= SLOWEST else None
