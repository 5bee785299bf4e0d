"""Movement pruning, simplified: weights that came nearer to zero since the start go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adamwprune.pruning.score import FLOAT, Score, wide
from adamwprune.pruning.select.parts import Part


class MovementSeed(Score):
    """W·(W − W⁰), with the weights W⁰ that training began with.

    It is positive where a weight moved away from zero and negative where it moved towards it or
    beyond: the direction that movement pruning (arXiv 2005.07683) scores, read off the weights in
    place of the gradients. A pruned weight stays pruned.
    Memory: one number a weight, of the weight's type, for W⁰.
    """

    keeps: Mapping[str, int] = {"initial_weights": FLOAT}

    def __init__(self) -> None:
        self._initial: dict[Tensor, Tensor] = {}

    def begin(self, weights: list[Tensor]) -> None:
        self._initial = {weight: weight.detach().clone() for weight in weights}

    def score(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        now = wide(part.of(weight))
        return (now - wide(part.of(self._initial[weight]))).mul_(now)

    def buffers(self) -> dict[str, list[Tensor]]:
        return {"initial_weights": list(self._initial.values())}

    def state_dict(self, weights: list[Tensor]) -> dict[str, Any]:
        return {"initial_weights": [self._initial[weight] for weight in weights]}

    def load_state_dict(self, state: Mapping[str, Any], weights: list[Tensor]) -> None:
        initial = zip(weights, state["initial_weights"], strict=True)
        self._initial = {w: values.detach().clone().to(w.device) for w, values in initial}


def build(values: Mapping[str, Any]) -> MovementSeed:
    """Simplified movement pruning; it has no options of its own."""
    return MovementSeed()
