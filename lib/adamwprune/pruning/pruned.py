"""The weights that a pruner prunes, and all it knows of each: mask, optimizer states, counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from adamwprune.pruning.score import Score
from adamwprune.pruning.select.parts import Part
from adamwprune.pruning.storage import Masks

# Optimizer states that stay zero while the weight and its gradient are zero.
MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")


class PrunedWeights:
    """Prunable ``weights`` by name; the ``masks`` say which of them are pruned, ``k`` how many.

    A monotone method zeroes a pruned weight and its optimizer states. A returning one keeps the
    full weight (:attr:`full`) and leaves the states alone.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        score: Score,
        masks: Masks,
        inputs: Mapping[str, int] | None = None,
    ) -> None:
        self.weights = weights
        self.inputs = inputs or dict.fromkeys(weights, 1)  # the dimension of a layer's inputs
        self.score = score
        self.masks = masks
        self.optimizer: Optimizer | None = None  # None: not attached
        self.steps = 0  # optimizer steps seen
        self.k = 0  # weights that are to be pruned now
        self.returned_by_layer = dict.fromkeys(weights, 0)  # pruned weights that came back
        self.full: dict[str, Tensor] = {}  # unmasked weights of a returning method

    @property
    def numel(self) -> int:
        """Number of prunable weights."""
        return sum(weight.numel() for weight in self.weights.values())

    def input_stride(self, name: str) -> int:
        """How far apart in a layer two weights of neighbouring inputs are, flattened."""
        return math.prod(self.weights[name].shape[self.inputs[name] + 1 :])

    @property
    def returned(self) -> int:
        """Pruned weights that came back, summed over all updates."""
        return sum(self.returned_by_layer.values())

    def states(self, name: str) -> Mapping[str, Any]:
        """The optimizer's states of a weight; none before :meth:`Pruner.attach`."""
        if self.optimizer is None:
            return {}
        states: Mapping[str, Any] = self.optimizer.state.get(self.weights[name], {})
        return states

    def moments(self, name: str) -> dict[str, Tensor]:
        """The states that must be zero where a weight is pruned, by their names."""
        states = {} if self.score.returns else self.states(name)
        return {moment: states[moment] for moment in MOMENTS if states.get(moment) is not None}

    def zeroed(self, name: str) -> list[Tensor]:
        """The tensors that are zeroed where a weight is pruned: the weight and, unless the method
        is a returning one, all its states of the same shape.
        """
        weight = self.weights[name]
        states = {} if self.score.returns else self.states(name)
        same = [s for s in states.values() if isinstance(s, Tensor) and s.shape == weight.shape]
        return [weight, *same]

    def mask_part(self, name: str, part: Part) -> Tensor:
        """The mask of a part [n], True = pruned."""
        if self.k == 0:
            return torch.zeros_like(part.of(self.weights[name]), dtype=torch.bool)
        return self.masks.part(name, part, self.states(name))

    def buffers(self) -> dict[str, list[Tensor]]:
        """Every tensor that pruning keeps from step to step, by owner."""
        own = {"kept_weights": list(self.full.values()), "masks": self.masks.tensors()}
        return {name: found for name, found in {**self.score.buffers(), **own}.items() if found}
