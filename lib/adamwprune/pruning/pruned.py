"""The weights that a pruner prunes, and all it knows of each: mask, optimizer states, counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adamwprune.pruning.score import Score
from adamwprune.pruning.select.parts import Part
from adamwprune.pruning.storage import Masks

# Optimizer states that stay zero while the weight and its gradient are zero.
MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")


def prunable(model: nn.Module, names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """The weights that pruning may touch, by name: the parameters of these ``names``, or else
    the trained weights of convolutions and linear layers.

    No biases and no normalisation; no embeddings, so that a head that is tied to one stays as well.
    """
    if names is not None:
        return {name: model.get_parameter(name) for name in names}
    modules = list(model.named_modules())
    kept = {module.weight for _, module in modules if isinstance(module, nn.Embedding)}
    found: dict[Tensor, str] = {}  # tied weights are one, under the first name
    for name, module in modules:
        is_layer = isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))
        if is_layer and module.weight.requires_grad and module.weight not in kept:
            found.setdefault(module.weight, f"{name}.weight".lstrip("."))
    return {name: weight for weight, name in found.items()}


class PrunedWeights:
    """Prunable ``weights`` by name; the ``masks`` say which of them are pruned, ``k`` how many.

    A monotone method zeroes a pruned weight and its optimizer states. A returning one keeps the
    full weight (:attr:`full`) and leaves the states alone.
    """

    def __init__(self, weights: Mapping[str, Tensor], score: Score, masks: Masks) -> None:
        self.weights = weights
        self.score = score
        self.masks = masks
        self.optimizer: Optimizer | None = None  # None: not attached
        self.steps = 0  # optimizer steps seen
        self.k = 0  # weights that are to be zero now
        self.returned_by_layer = dict.fromkeys(weights, 0)  # pruned weights that came back
        self.full: dict[str, Tensor] = {}  # unmasked weights of a returning method

    @property
    def numel(self) -> int:
        """Number of prunable weights."""
        return sum(weight.numel() for weight in self.weights.values())

    @property
    def returned(self) -> int:
        """Pruned weights that came back, summed over all updates."""
        return sum(self.returned_by_layer.values())

    def states(self, name: str) -> Mapping[str, Any]:
        """The optimizer's states of a weight; none before :meth:`Pruner.attach`."""
        if self.optimizer is None:
            return {}
        states: Mapping[str, Any] = self.optimizer.state[self.weights[name]]
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
