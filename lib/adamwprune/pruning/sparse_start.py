"""Zeros that a model has before it is pruned: which of them count as pruned."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from adamwprune.pruning.pruned import PrunedWeights
from adamwprune.pruning.scope import Scope
from adamwprune.pruning.select.parts import parts
from adamwprune.pruning.storage import Implied, tiny

log = logging.getLogger("adamwprune")
CHANCE = 0.01  # up to this share of zeros they are there by chance: in bfloat16 1 of 256 is


class SparseStart:
    """What is to be done about zeros, once the first step begins.

    Zeros of layers that are not wholly zero are marked as pruned; a wholly zero one is initialised
    so. ``zeros``: ``pruned`` or, where none count, ``live``. With an implied mask a live weight
    that is zero becomes the smallest number that is not. Raises ``ValueError`` for more zeros than
    the target of the scope, or where it has none.
    """

    @torch.no_grad()
    def __init__(self, pruned: PrunedWeights, scope: Scope, zeros: str) -> None:
        self.pruned = pruned
        masks = {name: _zeros(pruned, name) for name in pruned.weights}
        numbers = torch.stack([mask.sum() for mask in masks.values()]).tolist()
        counts = dict(zip(masks, pruned.summed(numbers), strict=True))
        partly = {n: c for n, c in counts.items() if 0 < c < pruned.numels[n]}
        total = sum(partly.values())
        counted = zeros == "pruned" and total > CHANCE * pruned.numel
        if pruned.score.regrows and total > scope.target_k:
            counted = False  # weights that grew are zero as long as they had no gradient
        self.taken = total if counted else 0
        self._taken = {name: masks[name] for name in partly if counted}
        self._live = {n: masks[n] for n, c in counts.items() if c and n not in self._taken}
        if self.taken > scope.target_k:
            raise ValueError(
                f"{total} weights are zero already, more than the {scope.target_k} that the target "
                "prunes: choose a higher one, or zeros='live' to train them"
            )
        for name, mask in self._taken.items():
            _refuse(pruned, scope, name, mask, counts[name])

    @torch.no_grad()
    def apply(self) -> int:
        """Do it; return how many weights are pruned by that."""
        for name, mask in self._taken.items():
            for part in parts(mask):
                self.pruned.masks.put(name, part, part.of(mask))
            self.pruned.settle(name)
        if isinstance(self.pruned.masks, Implied):
            for name, mask in self._live.items():
                weight = self.pruned.weights[name]
                weight.masked_fill_(mask, tiny(weight.dtype))
        if self.taken:
            log.warning(
                "%d of %d weights are zero already and count as pruned (zeros='live' trains them)",
                self.taken,
                self.pruned.numel,
            )
        return self.taken


def _zeros(pruned: PrunedWeights, name: str) -> Tensor:
    """Weights that are zero and have no moments: bool, of the weight's shape."""
    found = pruned.weights[name] == 0
    for moment in pruned.moments(name).values():
        found &= moment == 0
    return found


def _refuse(pruned: PrunedWeights, scope: Scope, name: str, mask: Tensor, number: int) -> None:
    if reason := scope.why_not(name, mask.reshape(-1), number, pruned.input_stride(name)):
        raise ValueError(
            f"the zeros of {name} cannot stay: {reason} (zeros='live' trains the weights)"
        )
