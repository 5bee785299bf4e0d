"""The contract of a pruner (:mod:`adamwprune.pruning.pruner`), counted in its tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from adamwprune.pruning.select.parts import Part, parts
from adamwprune.pruning.storage import Implied

if TYPE_CHECKING:
    from adamwprune.pruning.pruner import Pruner

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


@torch.no_grad()
def verify(pruner: Pruner, sums: Sums | None = None) -> dict[str, int]:
    """Raise :class:`ContractViolation` unless k weights are zero, those that are masked, and so are
    their moments, but for grown weights; how many are masked in each layer.

    ``sums``: of all parts as they are now, where these have been looked at.
    """
    if pruner._regrowth is None:
        zeros = (sums or _sums(pruner)).zeros(pruner.k)
        if zeros is not None:
            return zeros
    counts = _counts(pruner)
    number = sum(each.zeros for each in counts.values())
    if number != pruner.k and pruner._regrowth is None:
        text = f"{number} of {pruner.numel} weights are zero, {pruner.k} were pruned"
        raise violation(pruner, text)
    pruned = sum(each.pruned for each in counts.values())
    if pruned != pruner.k:
        raise violation(pruner, f"{pruned} weights are masked, {pruner.k} were pruned")
    for name, each in counts.items():
        _verify_layer(pruner, name, each)
    return {name: each.pruned for name, each in counts.items()}


def violation(pruner: Pruner, text: str) -> ContractViolation:
    """To be raised: ``text``, and when it was found."""
    return ContractViolation(f"after step {pruner.steps}: {text}")


def _verify_layer(pruner: Pruner, name: str, each: Counts) -> None:
    if each.regrown:
        raise violation(pruner, f"{each.regrown} pruned weights of {name} are not zero")
    if each.stale:
        raise violation(pruner, f"{each.stale} moments of pruned weights of {name} are not 0")
    grown = pruner._returned[name]
    if each.zeros - each.pruned > grown:
        text = (
            f"{each.zeros} weights of {name} are zero, {each.pruned} were pruned and {grown} grown"
        )
        raise violation(pruner, text)


def _moments(pruner: Pruner, weight: Tensor) -> dict[str, Tensor]:
    """What must be zero where a weight is pruned, by name."""
    states = {} if pruner.score.returns else pruner._states(weight)
    return {name: states[name] for name in MOMENTS if states.get(name) is not None}


def _counts(pruner: Pruner) -> dict[str, Counts]:
    """Of each layer; the device is asked once."""
    rows = torch.stack([_layer_counts(pruner, name) for name in pruner.weights]).tolist()
    return {name: Counts(*row) for name, row in zip(pruner.weights, rows, strict=True)}


def _layer_counts(pruner: Pruner, name: str) -> Tensor:
    """As in :class:`Counts`, int64 [4]."""
    weight = pruner.weights[name]
    moments = _moments(pruner, weight).values()
    counts = torch.zeros(len(Counts._fields), dtype=torch.int64, device=weight.device)
    for part in parts(weight):
        zero, mask = part.of(weight) == 0, pruner._pruned_part(name, part)
        stale = [(mask & (part.of(moment) != 0)).sum() for moment in moments]
        left = torch.stack(stale).sum() if stale else counts.new_zeros(())
        counts += torch.stack([zero.sum(), mask.sum(), (mask & ~zero).sum(), left])
    return counts


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
        for state, moment in _moments(pruner, weight).items():
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


def _sums(pruner: Pruner) -> Sums:
    """Of all parts."""
    sums = Sums(pruner)
    for name, weight in pruner.weights.items():
        for part in parts(weight):
            sums.add(name, part)
    return sums
