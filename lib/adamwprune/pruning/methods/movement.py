"""Movement pruning: weights that move towards zero go (Sanh, Wolf, Rush, arXiv 2005.07683)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adamwprune.pruning.score import FLOAT, Score, wide
from adamwprune.pruning.select.parts import Part


class Movement(Score):
    """S ← S − α·(∂L/∂W′)·W, accumulated over all steps, with W′ = W ⊙ M (section 4, eq. 3).

    The gradient with respect to W′ passes straight through the mask to S, so that a pruned weight
    keeps scoring and can return; W itself gets it masked, and a pruned weight its old value back.
    The learning rate α of S is that of W: only its course matters, a constant factor would scale
    all scores alike. It follows the schedule as it does in the paper's experiments, where W and S
    decay together: a mask that keeps moving after W has slowed down leaves nothing that adapts to
    it. The mask follows the schedule that all methods share: it is recomputed at the schedule's
    updates, not at every step, and stays as it is after the ramp's end.
    Memory: one float32 a weight for the scores, another for the full weight.
    """

    returns = True
    keeps: Mapping[str, int] = {"scores": FLOAT}

    def __init__(self) -> None:
        self._scores: dict[Tensor, Tensor] = {}

    def observe(self, weight: Tensor, full: Tensor, grad: Tensor, rate: float | Tensor) -> None:
        if weight not in self._scores:
            self._scores[weight] = torch.zeros_like(weight, dtype=torch.float32)
        grad, full = wide(grad), wide(full)
        if isinstance(rate, Tensor):
            self._scores[weight].addcmul_(grad * rate, full, value=-1)
        else:
            self._scores[weight].addcmul_(grad, full, value=-rate)

    def score(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        if weight not in self._scores:  # no gradient so far
            return torch.zeros_like(part.of(weight), dtype=torch.float32)
        return part.of(self._scores[weight]).clone()

    def buffers(self) -> dict[str, list[Tensor]]:
        return {"scores": list(self._scores.values())}

    def state_dict(self, weights: list[Tensor]) -> dict[str, Any]:
        return {"scores": [self._scores.get(weight) for weight in weights]}

    def load_state_dict(self, state: Mapping[str, Any], weights: list[Tensor]) -> None:
        scores = zip(weights, state["scores"], strict=True)
        self._scores = {w: s.detach().clone().to(w.device) for w, s in scores if s is not None}


def build(values: Mapping[str, Any]) -> Movement:
    """Movement pruning; it has no options of its own."""
    return Movement()
