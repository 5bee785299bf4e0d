"""Connection sensitivity: |w · g| (Lee, Ajanthan & Torr, arXiv 1810.02340)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adamwprune.pruning.score import FLOAT, Score
from adamwprune.pruning.select.parts import Part


class Saliency(Score):
    """|w · g| with the gradient of the step of the update. Keeps a copy of it."""

    least_at_zero = True
    keeps: Mapping[str, int] = {"gradients": FLOAT}

    def __init__(self) -> None:
        self._gradients: dict[Tensor, Tensor] = {}

    def observe(self, weight: Tensor, full: Tensor, grad: Tensor, rate: float | Tensor) -> None:
        if weight not in self._gradients:
            self._gradients[weight] = torch.empty_like(weight)
        self._gradients[weight].copy_(grad)

    def score(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        return (part.of(weight) * part.of(self._gradients[weight])).abs_()

    def buffers(self) -> dict[str, list[Tensor]]:
        return {"gradients": list(self._gradients.values())}

    def state_dict(self, weights: list[Tensor]) -> dict[str, Any]:
        return {"gradients": [self._gradients[w] for w in weights if w in self._gradients]}

    def load_state_dict(self, state: Mapping[str, Any], weights: list[Tensor]) -> None:
        kept = zip(weights, state["gradients"], strict=True) if state["gradients"] else ()
        self._gradients = {w: g.detach().clone().to(w.device) for w, g in kept}


def build(values: Mapping[str, Any]) -> Saliency:
    """It has no options of its own."""
    return Saliency()
