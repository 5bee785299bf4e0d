"""Random pruning: the control that every other score has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adamwprune.pruning.score import Score
from adamwprune.pruning.select.hashed_numbers import Numbers
from adamwprune.pruning.select.parts import Part


class Random(Score):
    """A number in [0, 1) that depends on ``seed`` and the weight's index alone.

    A weight's score is the same at every update, so that the masks are nested. Nothing is stored.
    Raises ``ValueError`` for a seed beyond 32 bits.
    """

    scores_untrained = True

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._numbers = Numbers(seed)

    def begin(self, weights: list[Tensor]) -> None:
        self._numbers.begin(weights)

    def score(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        return self._numbers.of(weight, part)


def build(values: Mapping[str, Any]) -> Random:
    """Random pruning, by the run's seed."""
    return Random(values["SEED"])
