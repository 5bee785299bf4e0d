"""The contract of a pruner (:mod:`adamwprune.pruning.pruner`), counted in its tensors.

Exactly k weights are pruned. Each of them is zero, and so are its moments. Live weights that happen
to be zero are no part of it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from adamwprune.pruning.pruned import PrunedWeights
from adamwprune.pruning.select.parts import Part, parts
from adamwprune.pruning.storage import ADAM_MOMENTS, SQUARES, Implied


class ContractViolation(RuntimeError):
    """The weights that were pruned are not zero, or not as many as they must be."""


class Counts(NamedTuple):
    """Of one layer, counted in its tensors."""

    pruned: int  # in the mask
    revived: int  # of these, those that are not zero
    stale: int  # moments of these that are not zero


@torch.no_grad()
def verify(pruned: PrunedWeights, sums: Sums | None = None) -> dict[str, int]:
    """Return how many weights of each layer are pruned.

    Raises :class:`ContractViolation` unless exactly k weights are pruned, all of these are zero,
    and their moments with them. With an implied mask they may be more than k: whatever cannot be
    told from a pruned weight is one. ``sums``: of all parts, if they were taken during the update.
    """
    found = (sums or _sums(pruned)).pruned(pruned.k)
    if found is not None:
        return found
    counts = _counts(pruned)
    number = sum(each.pruned for each in counts.values())
    if not _is_right(pruned, number):
        text = f"{number} of {pruned.numel} weights are pruned, not {pruned.k}"
        raise violation(pruned, text)
    for name, each in counts.items():
        if each.revived:
            what = "NaN" if pruned.weights[name].isnan().any() else "not zero"
            raise violation(pruned, f"{each.revived} pruned weights of {name} are {what}")
        if each.stale:
            raise violation(pruned, f"{each.stale} moments of pruned weights of {name} are not 0")
    return {name: each.pruned for name, each in counts.items()}


def _is_right(pruned: PrunedWeights, number: int) -> bool:
    implied = isinstance(pruned.masks, Implied)
    return number == pruned.k or (implied and number > pruned.k)


def violation(pruned: PrunedWeights, text: str) -> ContractViolation:
    """An error to raise: ``text``, and after which step it was found."""
    return ContractViolation(f"after step {pruned.steps}: {text}")


def _counts(pruned: PrunedWeights) -> dict[str, Counts]:
    """Of each layer; the device is asked once."""
    counts = torch.stack([_layer_counts(pruned, name) for name in pruned.weights])
    rows = (counts if pruned.shards is None else pruned.shards.sum(counts)).tolist()
    return {name: Counts(*row) for name, row in zip(pruned.weights, rows, strict=True)}


def _layer_counts(pruned: PrunedWeights, name: str) -> Tensor:
    """As in :class:`Counts`, int64 [3]."""
    weight = pruned.weights[name]
    moments = pruned.moments(name).values()
    counts = torch.zeros(len(Counts._fields), dtype=torch.int64, device=weight.device)
    for part in parts(weight):
        zero, mask = part.of(weight) == 0, pruned.mask_part(name, part)
        stale = [(mask & (part.of(moment) != 0)).sum() for moment in moments]
        left = torch.stack(stale).sum() if stale else counts.new_zeros(())
        counts += torch.stack([mask.sum(), (mask & ~zero).sum(), left])
    return counts


class Sums:
    """Sums that show whether the contract holds.

    With b = 1 where a weight w is pruned and z = 1 where it is zero, Σb = Σb·z = k means that
    exactly k are pruned and all of them zero, and Σb·|m| = 0 that each moment m is zero there.
    Comparisons would take several times as long on a CPU.
    """

    def __init__(self, pruned: PrunedWeights) -> None:
        self.weights = pruned
        self._layers: list[str] = []  # of each part that was added
        self._pruned: list[Tensor] = []
        self._zeros: list[Tensor] = []
        self._stale: list[Tensor] = []

    def add(self, name: str, part: Part) -> None:
        """Add a part of a layer; nothing is read back from the device."""
        weights = self.weights
        flags = weights.masks.flags(name, part, weights.states(name))
        self._layers.append(name)
        self._pruned.append(flags.sum())
        known: tuple[str, ...] = ()  # to be zero by what the mask is
        if isinstance(weights.masks, Implied):
            known = ADAM_MOMENTS
        else:
            values = part.of(weights.weights[name])
            zero = torch.eq(values, 0, out=torch.empty_like(values, dtype=torch.float32))
            self._zeros.append(zero.dot(flags))
        for state, moment in weights.moments(name).items():
            if state in known:
                continue
            left = part.of(moment)
            left = left if state in SQUARES else left.abs()
            self._stale.append(flags.to(left.dtype).dot(left))

    def pruned(self, k: int) -> dict[str, int] | None:
        """How many weights of each layer are pruned, if the contract holds; None if it may not.

        The device is asked once.
        """
        kinds = [len(self._pruned), len(self._zeros), len(self._stale)]
        sums = [*self._pruned, *self._zeros, *self._stale]
        flat = torch.stack(sums).tolist() if sums else []  # none: a rank that holds no weight
        pruned, rest = flat[: kinds[0]], flat[kinds[0] :]
        zeros, stale = rest[: kinds[1]], rest[kinds[1] :]
        found = dict.fromkeys(self.weights.weights, 0)
        for name, number in zip(self._layers, pruned, strict=True):
            found[name] += int(number)
        numbers = [*found.values(), int(sum(zeros)), sum(map(bool, stale))]
        *by_layer, zero, wrong = self.weights.summed(numbers)
        if sum(by_layer) != k or (zeros and zero != k) or wrong:
            return None
        return dict(zip(found, by_layer, strict=True))


def _sums(pruned: PrunedWeights) -> Sums:
    """Of all parts."""
    sums = Sums(pruned)
    for name, weight in pruned.weights.items():
        for part in parts(weight):
            sums.add(name, part)
    return sums
