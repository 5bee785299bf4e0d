"""The contract of a pruner (:mod:`adamwprune.pruning.pruner`), counted in its tensors.

Exactly k weights are zero, the masked ones, and so are their moments. Where weights regrow, a grown
weight may be zero as well.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from adamwprune.pruning.pruned import PrunedWeights
from adamwprune.pruning.select.parts import Part, parts
from adamwprune.pruning.storage import Implied

SQUARES = ("exp_avg_sq", "max_exp_avg_sq")  # moments that are never negative


class ContractViolation(RuntimeError):
    """The zeros in the weights are not the ones that were pruned."""


class Counts(NamedTuple):
    """Of one layer, counted in its tensors."""

    zeros: int
    pruned: int  # in the mask
    regrown: int  # of these, those that are not zero
    stale: int  # moments of these that are not zero


@torch.no_grad()
def verify(pruned: PrunedWeights, sums: Sums | None = None) -> dict[str, int]:
    """Return how many weights of each layer are masked.

    Raises :class:`ContractViolation` unless exactly k weights are zero, the masked ones, and their
    moments with them; where weights regrow, unless exactly k are masked, all of these are zero, and
    no more others than were grown. ``sums``: of all parts, if they were taken during the update.
    """
    regrows = pruned.score.regrows
    if not regrows:
        zeros = (sums or _sums(pruned)).zeros(pruned.k)
        if zeros is not None:
            return zeros
    counts = _counts(pruned)
    number = sum(each.zeros for each in counts.values())
    if number != pruned.k and not regrows:
        text = f"{number} of {pruned.numel} weights are zero, {pruned.k} were pruned"
        raise violation(pruned, text)
    masked = sum(each.pruned for each in counts.values())
    if masked != pruned.k:
        raise violation(pruned, f"{masked} weights are masked, {pruned.k} were pruned")
    for name, each in counts.items():
        _verify_layer(pruned, name, each)
    return {name: each.pruned for name, each in counts.items()}


def violation(pruned: PrunedWeights, text: str) -> ContractViolation:
    """An error to raise: ``text``, and after which step it was found."""
    return ContractViolation(f"after step {pruned.steps}: {text}")


def _verify_layer(pruned: PrunedWeights, name: str, each: Counts) -> None:
    if each.regrown:
        raise violation(pruned, f"{each.regrown} pruned weights of {name} are not zero")
    if each.stale:
        raise violation(pruned, f"{each.stale} moments of pruned weights of {name} are not 0")
    grown = pruned.returned_by_layer[name]
    if each.zeros - each.pruned > grown:
        text = (
            f"{each.zeros} weights of {name} are zero, {each.pruned} were pruned and {grown} grown"
        )
        raise violation(pruned, text)


def _counts(pruned: PrunedWeights) -> dict[str, Counts]:
    """Of each layer; the device is asked once."""
    rows = torch.stack([_layer_counts(pruned, name) for name in pruned.weights]).tolist()
    return {name: Counts(*row) for name, row in zip(pruned.weights, rows, strict=True)}


def _layer_counts(pruned: PrunedWeights, name: str) -> Tensor:
    """As in :class:`Counts`, int64 [4]."""
    weight = pruned.weights[name]
    moments = pruned.moments(name).values()
    counts = torch.zeros(len(Counts._fields), dtype=torch.int64, device=weight.device)
    for part in parts(weight):
        zero, mask = part.of(weight) == 0, pruned.mask_part(name, part)
        stale = [(mask & (part.of(moment) != 0)).sum() for moment in moments]
        left = torch.stack(stale).sum() if stale else counts.new_zeros(())
        counts += torch.stack([zero.sum(), mask.sum(), (mask & ~zero).sum(), left])
    return counts


class Sums:
    """Sums that show whether the contract holds.

    With z = 1 where a weight is zero and b = 1 where it is masked, Σz = Σb = Σz·b = k means z = b,
    and Σz·|m| = 0 means that each moment m is zero there. Comparisons would take several times as
    long on a CPU.
    """

    def __init__(self, pruned: PrunedWeights) -> None:
        self.pruned = pruned
        self._layers: list[str] = []  # of each part that was added
        self._zeros: list[Tensor] = []
        self._masked: list[Tensor] = []
        self._stale: list[Tensor] = []

    def add(self, name: str, part: Part) -> None:
        """Add a part of a layer; nothing is read back from the device."""
        values = part.of(self.pruned.weights[name])
        zero = torch.eq(values, 0, out=torch.empty_like(values, dtype=torch.float32))
        self._layers.append(name)
        self._zeros.append(zero.sum())
        if not isinstance(self.pruned.masks, Implied):
            mask = self.pruned.masks.part(name, part, {}).float()
            self._masked += [mask.sum(), zero.dot(mask)]
        for state, moment in self.pruned.moments(name).items():
            left = part.of(moment)
            left = left if state in SQUARES else left.abs()
            self._stale.append(zero.to(left.dtype).dot(left))

    def zeros(self, k: int) -> dict[str, int] | None:
        """How many weights of each layer are zero, if the contract holds; None if it may not.

        The device is asked once.
        """
        kinds = [len(self._zeros), len(self._masked), len(self._stale)]
        flat = torch.stack([*self._zeros, *self._masked, *self._stale]).split(kinds)
        zeros, masked, stale = (numbers.tolist() for numbers in flat)
        if sum(zeros) != k or any(stale):
            return None
        if masked and not sum(masked[::2]) == sum(masked[1::2]) == k:
            return None
        found = dict.fromkeys(self.pruned.weights, 0)
        for name, number in zip(self._layers, zeros, strict=True):
            found[name] += int(number)
        return found


def _sums(pruned: PrunedWeights) -> Sums:
    """Of all parts."""
    sums = Sums(pruned)
    for name, weight in pruned.weights.items():
        for part in parts(weight):
            sums.add(name, part)
    return sums
