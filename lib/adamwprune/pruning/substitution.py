"""Packed weights in an optimizer's step: a vector of the live numbers stands for each of them.

The optimizer need not know of it. It finds a parameter [1, P] with a gradient and states of that
shape, and does with their numbers what it does with any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer

from adamwprune.pruning.live import Live
from adamwprune.pruning.storage import Packed


class _Place(NamedTuple):
    params: list[Tensor]  # of a group
    index: int  # in it
    weight: Tensor
    live: Live
    vector: Tensor


class Substitution:
    """Puts vectors in the place of packed weights, and takes them out again.

    A whole gradient is freed once its live numbers are gathered: after the step it is None.
    """

    def __init__(self, weights: Mapping[str, Tensor], masks: Packed) -> None:
        self.weights = weights
        self.masks = masks
        self._places: list[_Place] = []

    def begin(self, optimizer: Optimizer, group: int, name: str) -> None:
        """Before a step, of a weight with a gradient, in the group of this number."""
        weight, live = self.weights[name], self.masks.live(name)
        assert live is not None and weight.grad is not None
        vector = nn.Parameter(live.gather(weight))
        vector.grad = live.gather(weight.grad)
        weight.grad = None
        states = optimizer.state.pop(weight, None)
        if states is not None:  # whole ones are of a checkpoint, or of steps without a pruner
            packed = {key: self.masks.packed(name, value) for key, value in states.items()}
            optimizer.state[vector] = packed
        params = optimizer.param_groups[group]["params"]
        index = next(place for place, param in enumerate(params) if param is weight)
        params[index] = vector
        self._places.append(_Place(params, index, weight, live, vector))

    def end(self, optimizer: Optimizer) -> None:
        """After the step."""
        while self._places:
            place = self._places.pop()
            place.live.scatter(place.vector.detach(), place.weight.detach())
            place.params[place.index] = place.weight
            if place.vector in optimizer.state:
                optimizer.state[place.weight] = optimizer.state.pop(place.vector)
