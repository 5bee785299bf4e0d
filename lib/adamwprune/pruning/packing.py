"""Packed weights in an optimizer's step: a vector of the live numbers stands for each of them.

The optimizer need not know of it. It finds a parameter [1, P] with a gradient and states of that
shape, and does with their numbers what it does with any.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adamwprune.optimizers._base import Base
from adamwprune.pruning.live import Live
from adamwprune.pruning.pruned import PrunedWeights
from adamwprune.pruning.storage import Packed


class _Place(NamedTuple):
    params: list[Tensor]  # of a group
    number: int  # in it
    weight: Tensor
    live: Live
    vector: Tensor


class Packing:
    """Puts vectors in the place of packed weights, and takes them out again.

    A whole gradient is freed once its live numbers are gathered: after the step it is None.
    """

    def __init__(self, pruned: PrunedWeights, masks: Packed) -> None:
        self.pruned = pruned
        self.masks = masks
        self._places: list[_Place] = []  # of the present step

    def attach(self, optimizer: Optimizer) -> None:
        """Give the optimizer's copies whole states."""
        if isinstance(optimizer, Base):
            optimizer.whole_states = (*optimizer.whole_states, self.whole_states)

    def detach(self, optimizer: Optimizer) -> None:
        """Leave the optimizer whole states."""
        for weight, states in self.whole_states():
            optimizer.state[weight] = states
        if isinstance(optimizer, Base):
            others = (each for each in optimizer.whole_states if each != self.whole_states)
            optimizer.whole_states = tuple(others)

    def substitute(self, group: int, name: str) -> None:
        """Before a step: the vector for a weight with a gradient, in the group of this number."""
        optimizer, weight = self._optimizer, self.pruned.weights[name]
        live = self.masks.live(name)
        assert live is not None
        assert weight.grad is not None
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

    def end(self) -> None:
        """After the step."""
        while self._places:
            place, optimizer = self._places.pop(), self._optimizer
            place.live.scatter(place.vector.detach(), place.weight.detach())
            place.params[place.number] = place.weight
            if place.vector in optimizer.state:
                optimizer.state[place.weight] = optimizer.state.pop(place.vector)

    @property
    def _optimizer(self) -> Optimizer:
        assert self.pruned.optimizer is not None  # attached
        return self.pruned.optimizer

    @torch.no_grad()
    def whole_states(self) -> list[tuple[Tensor, dict[str, Any]]]:
        """The weights that are packed, and their states as an optimizer keeps them."""
        self.end()  # a step that has raised an error
        kept = {name: self.pruned.kept_states(name) for name in self.pruned.weights}
        return [
            (self.pruned.weights[name], {k: self.masks.whole(name, v) for k, v in states.items()})
            for name, states in kept.items()
            if states and self.masks.live(name) is not None
        ]
