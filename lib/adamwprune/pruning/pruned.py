"""The weights that a pruner prunes, and all it knows of each: mask, optimizer states, counts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from adamwprune.pruning.score import Score
from adamwprune.pruning.select.parts import Part
from adamwprune.pruning.shards import local, shards_of
from adamwprune.pruning.storage import Masks, Packed

# Optimizer states that stay zero while the weight and its gradient are zero.
MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")


class Whole(Mapping[str, Any]):
    """Packed optimizer states of a weight, each unpacked when it is asked for and kept."""

    def __init__(self, name: str, states: Mapping[str, Any], masks: Packed) -> None:
        self.name = name
        self._states, self._masks = states, masks
        self._whole: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in self._whole:
            self._whole[key] = self._masks.whole(self.name, self._states[key])
        return self._whole[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)


class PrunedWeights:
    """Prunable ``weights`` by name; the ``masks`` say which of them are pruned, ``k`` how many.

    Of ``parameters`` that are sharded the weights are what this rank holds; numbers and counts are
    those of all ranks. A monotone method zeroes a pruned weight and its optimizer states. A
    returning one keeps the full weight (:attr:`full`) and leaves the states alone.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        score: Score,
        masks: type[Masks],
        inputs: Mapping[str, int] | None = None,
    ) -> None:
        self.parameters = parameters
        self.shards = shards_of(parameters)
        weights: dict[str, Tensor] = {name: local(each) for name, each in parameters.items()}
        self.weights = weights
        self.numels = {name: each.numel() for name, each in parameters.items()}
        self.inputs = inputs or dict.fromkeys(weights, 1)  # the dimension of a layer's inputs
        self.score = score
        self.masks = masks(weights)
        self.optimizer: Optimizer | None = None  # None: not attached
        self.steps = 0  # optimizer steps seen
        self.k = 0  # weights that are to be pruned now
        self.returned_by_layer = dict.fromkeys(weights, 0)  # pruned weights that came back
        self.full: dict[str, Tensor] = {}  # unmasked weights of a returning method
        self._unpacked: Whole | None = None  # states of one layer, while they are read

    @property
    def numel(self) -> int:
        """Number of prunable weights."""
        return sum(self.numels.values())

    def summed(self, counts: Sequence[int]) -> list[int]:
        """Counts of this rank's weights, over all ranks."""
        return list(counts) if self.shards is None else self.shards.total(counts)

    def gradient(self, name: str) -> Tensor | None:
        """Of a weight, if it has one."""
        gradient = self.parameters[name].grad
        return gradient if self.shards is None else local(gradient)

    def input_stride(self, name: str) -> int:
        """How far apart in a layer two weights of neighbouring inputs are, flattened."""
        return math.prod(self.weights[name].shape[self.inputs[name] + 1 :])

    @property
    def returned(self) -> int:
        """Pruned weights that came back, summed over all updates."""
        return sum(self.returned_by_layer.values())

    def states(self, name: str) -> Mapping[str, Any]:
        """The optimizer's states of a weight, packed ones as :class:`Whole`; none before
        :meth:`Pruner.attach`.
        """
        states = self.kept_states(name)
        if not isinstance(self.masks, Packed) or self.masks.live(name) is None:
            return states
        if self._unpacked is None or self._unpacked.name != name:
            self._unpacked = Whole(name, states, self.masks)
        return self._unpacked

    def kept_states(self, name: str) -> MutableMapping[str, Any]:
        """The optimizer's states of a weight as it keeps them."""
        if self.optimizer is None:
            return {}
        states: MutableMapping[str, Any] = self.optimizer.state.get(self.parameters[name], {})
        if self.shards is None:
            return states
        return {key: local(value) for key, value in states.items()}

    def settle(self, name: str) -> None:
        """Called when the mask of a layer has changed, and its weights and states with it."""
        self._unpacked = None
        self.masks.settle(name, self.kept_states(name))

    def moments(self, name: str) -> dict[str, Tensor]:
        """The states that must be zero where a weight is pruned, by their names."""
        states = self._states_to_zero(name)
        return {moment: states[moment] for moment in MOMENTS if states.get(moment) is not None}

    def zeroed(self, name: str) -> list[Tensor]:
        """The tensors that are zeroed where a weight is pruned: the weight and, unless the method
        is a returning one, all its states of the same shape.
        """
        weight = self.weights[name]
        states = self._states_to_zero(name)
        same = [s for s in states.values() if isinstance(s, Tensor) and s.shape == weight.shape]
        return [weight, *same]

    def _states_to_zero(self, name: str) -> Mapping[str, Any]:
        """Of a layer that is packed pruned weights have none."""
        is_packed = self.masks.live(name) is not None
        return {} if self.score.returns or is_packed else self.kept_states(name)

    def mask_part(self, name: str, part: Part) -> Tensor:
        """The mask of a part [n], True = pruned."""
        if self.k == 0:
            return torch.zeros_like(part.of(self.weights[name]), dtype=torch.bool)
        return self.masks.part(name, part, self.states(name))

    def buffers(self) -> dict[str, list[Tensor]]:
        """Every tensor that pruning keeps from step to step, by owner."""
        own = {"kept_weights": list(self.full.values()), "masks": self.masks.tensors()}
        return {name: found for name, found in {**self.score.buffers(), **own}.items() if found}
