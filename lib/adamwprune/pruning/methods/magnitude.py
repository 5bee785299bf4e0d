"""Magnitude pruning: the smallest weights go (Han et al., arXiv 1506.02626)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adamwprune.pruning.score import Score
from adamwprune.pruning.select.parts import Part


class Magnitude(Score):
    """|w|."""

    least_at_zero = True
    scores_untrained = True

    def score(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        return part.of(weight).abs()


def build(values: Mapping[str, Any]) -> Magnitude:
    """Magnitude pruning; it has no options of its own."""
    return Magnitude()
