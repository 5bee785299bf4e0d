"""What is counted to see that exactly what was pruned is zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from adamwprune.pruning._parts import Part
from adamwprune.pruning._storage import Implied

if TYPE_CHECKING:
    from adamwprune.pruning._pruner import Pruner

# Optimizer states that stay zero while the weight and its gradient are.
MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")
SQUARES = ("exp_avg_sq", "max_exp_avg_sq")  # of them, those that are never negative


class ContractViolation(RuntimeError):
    """The zeros in the weights are not the ones that were pruned."""


class Counts(NamedTuple):
    """Of one layer, counted in its tensors."""

    zeros: int
    pruned: int  # in the mask
    regrown: int  # of these, those that are not zero
    stale: int  # moments of these that are not zero


class Sums:
    """Whether all is as it must be, found without comparisons, which take several times as long
    on a CPU: with z the zeros among the weights and b the mask, both 0 or 1, Σz = Σb = Σz·b = k
    means z = b, and Σz·|m| = 0 that of no moment m anything is left there.
    """

    def __init__(self, pruner: Pruner) -> None:
        self.pruner = pruner
        self._layers: list[str] = []  # of each part that was added
        self._zeros: list[Tensor] = []
        self._masked: list[Tensor] = []
        self._stale: list[Tensor] = []

    def add(self, name: str, part: Part) -> None:
        """Look at a part of a layer; nothing is read back from the device."""
        pruner = self.pruner
        weight = pruner.weights[name]
        values = part.of(weight)
        zero = torch.eq(values, 0, out=torch.empty_like(values, dtype=torch.float32))
        self._layers.append(name)
        self._zeros.append(zero.sum())
        if not isinstance(pruner.masks, Implied):
            mask = pruner.masks.part(name, part, {}).float()
            self._masked += [mask.sum(), zero.dot(mask)]
        for state, moment in pruner._moments(weight).items():
            left = part.of(moment)
            left = left if state in SQUARES else left.abs()
            self._stale.append(zero.to(left.dtype).dot(left))

    def zeros(self, k: int) -> dict[str, int] | None:
        """How many weights of each layer are zero, if all is as it must be; None if it may not be.

        The device is asked once.
        """
        kinds = [len(self._zeros), len(self._masked), len(self._stale)]
        flat = torch.stack([*self._zeros, *self._masked, *self._stale]).split(kinds)
        zeros, masked, stale = (numbers.tolist() for numbers in flat)
        if sum(zeros) != k or any(stale):
            return None
        if masked and not sum(masked[::2]) == sum(masked[1::2]) == k:
            return None
        found = dict.fromkeys(self.pruner.weights, 0)
        for name, number in zip(self._layers, zeros, strict=True):
            found[name] += int(number)
        return found
