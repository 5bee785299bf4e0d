"""|w·g|: what the loss would change to first order without the weight (arXiv 1611.06440)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adamwprune.pruning.score import FLOAT, Score
from adamwprune.pruning.select.parts import Part


class WeightGradient(Score):
    """Σ |w·∂L/∂w| over all steps, float32. A pruned weight stays pruned."""

    keeps: Mapping[str, int] = {"scores": FLOAT}

    def __init__(self) -> None:
        self._scores: dict[Tensor, Tensor] = {}

    def observe(self, weight: Tensor, full: Tensor, grad: Tensor, rate: float | Tensor) -> None:
        if weight not in self._scores:
            self._scores[weight] = torch.zeros_like(weight, dtype=torch.float32)
        self._scores[weight].add_((weight * grad).abs_())

    def score(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        return part.of(self._scores[weight]).clone()

    def buffers(self) -> dict[str, list[Tensor]]:
        return {"scores": list(self._scores.values())}

    def state_dict(self, weights: list[Tensor]) -> dict[str, Any]:
        return {"scores": [self._scores.get(weight) for weight in weights]}

    def load_state_dict(self, state: Mapping[str, Any], weights: list[Tensor]) -> None:
        scores = zip(weights, state["scores"], strict=True)
        self._scores = {w: s.detach().clone().to(w.device) for w, s in scores if s is not None}


def build(values: Mapping[str, Any]) -> WeightGradient:
    """It has no options of its own."""
    return WeightGradient()
