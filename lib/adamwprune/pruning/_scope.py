"""Scopes: among which weights the lowest scores are looked for, and how many go in each layer.

A scope is built once, from the layers' shapes, the target and the floor, and refuses there what it
cannot reach. Then :meth:`Scope.k` says how many weights are zero at a sparsity, and
:meth:`Scope.choose` which ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from adamwprune.pruning._schedule import count
from adamwprune.pruning._selection import apportion, lowest, refuse_nan, shares

Shape = tuple[int, ...]
GROUP, ZEROS = 4, 2  # of N:M sparsity: 2 of 4


class Scope:
    """Base of all scopes, for layers of these ``shapes``.

    ``floor``: so many weights of each layer are kept at least; a layer that has no more stays
    dense. Raises ``ValueError`` where a ``target`` cannot be reached with it.
    """

    def __init__(self, shapes: Mapping[str, Shape], target: float, floor: int = 0) -> None:
        if floor < 0:
            raise ValueError(f"Invalid floor: {floor}")
        self.shapes = shapes
        self.floor = floor
        self.numels = {name: math.prod(shape) for name, shape in shapes.items()}
        self.room = {name: max(0, numel - floor) for name, numel in self.numels.items()}
        self.target_k = self.k(target)
        if self.target_k > sum(self.room.values()):
            raise ValueError(
                f"Invalid floor: with {floor} weights kept in each layer at most "
                f"{sum(self.room.values())} of {sum(self.numels.values())} can be pruned, "
                f"a sparsity of {target:g} needs {self.target_k}"
            )

    def k(self, sparsity: float) -> int:
        """How many of the prunable weights are zero at ``sparsity``."""
        return count(sparsity, sum(self.numels.values()))

    def choose(
        self, scores: Mapping[str, Tensor], k: int, pruned: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Bool tensors, True at ``k`` weights of low score, and at all that are ``pruned``.

        The latter score −∞ already; a method whose weights can return passes none.
        """
        raise NotImplementedError


class Global(Scope):
    """One threshold over all prunable weights together."""

    def choose(
        self, scores: Mapping[str, Tensor], k: int, pruned: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The k lowest; with a floor, the k lowest that leave each layer its floor.

        A layer that would lose too much loses what it can, and the rest is looked for in the
        others. They lose more by that: a layer that was at its limit stays there.
        """
        full: dict[str, Tensor] = {}
        while True:
            rest = {name: score for name, score in scores.items() if name not in full}
            masks = lowest(rest, k - sum(self.room[name] for name in full))
            over = [name for name in masks if self._is_over(name, masks[name])]
            if not over:
                return {name: full[name] if name in full else masks[name] for name in scores}
            for name in over:
                full.update(lowest({name: scores[name]}, self.room[name]))

    def _is_over(self, name: str, mask: Tensor) -> bool:
        return self.floor > 0 and int(mask.sum()) > self.room[name]


class Layer(Scope):
    """The same fraction of each layer: of a layer's n weights ε·n are kept, ε as it must be.

    On the way to the target each layer has the same part of its own zeros behind it,
    zerosᵢ·k/k_target, rounded by largest remainder so that they add up to exactly k.
    """

    def __init__(self, shapes: Mapping[str, Shape], target: float, floor: int = 0) -> None:
        super().__init__(shapes, target, floor)
        numels = self.numels.values()
        kept = shares(
            sum(numels) - self.target_k,
            [self.weight(shape) for shape in shapes.values()],
            [min(floor, numel) for numel in numels],
            list(numels),
        )
        self.zeros = [numel - share for numel, share in zip(numels, kept, strict=True)]

    def weight(self, shape: Shape) -> int:
        """What the number of kept weights in a layer is proportional to."""
        return math.prod(shape)

    def choose(
        self, scores: Mapping[str, Tensor], k: int, pruned: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        parts = self.parts(k, _counts(scores, pruned))
        masks: dict[str, Tensor] = {}
        for name, score in scores.items():
            masks.update(lowest({name: score}, parts[name]))
        return masks

    def parts(self, k: int, pruned: Mapping[str, int]) -> dict[str, int]:
        """How many of the ``k`` zeros are in each layer; never fewer than are ``pruned``."""
        done = Fraction(k, self.target_k) if self.target_k else Fraction(0)
        quotas = [zeros * done for zeros in self.zeros]
        parts = apportion(k, quotas, list(pruned.values()), list(self.room.values()))
        return dict(zip(self.shapes, parts, strict=True))


class Erk(Layer):
    """Erdős–Rényi-kernel: small layers stay denser (Evci et al., RigL, arXiv 1911.11134, §3).

    The density of a layer is ε·(n_in + n_out + w + h)/(n_in·n_out·w·h), for a linear layer without
    w and h: ε times the sum of its dimensions weights are kept. Densities are capped at 1, and ε
    is the one at which exactly the target is reached with that.
    """

    def weight(self, shape: Shape) -> int:
        return sum(shape)


class TwoOfFour(Layer):
    """2:4 sparsity: of each 4 neighbours in a row, 2 are zero (arXiv 2104.08378).

    A row is what one output reads: a weight of shape [n, …] is a matrix of n rows. Layers whose
    rows do not divide by 4 stay dense. The density is its own: at the target, which must be 0.5,
    half of the weights of the other layers are zero, and on the way there at most 2 of 4. Raises
    ``ValueError`` for another target, and where no layer is left or one has not its floor.
    """

    def __init__(self, shapes: Mapping[str, Shape], target: float, floor: int = 0) -> None:
        fitting = {n: s for n, s in shapes.items() if math.prod(s[1:]) % GROUP == 0}
        self.fitting = frozenset(fitting)
        if target != ZEROS / GROUP:
            raise ValueError(f"Invalid target sparsity: {target:g} (2:4 has its own, 0.5)")
        if not fitting:
            raise ValueError("2:4 needs a layer whose rows divide by 4, and there is none")
        short = [n for n, s in fitting.items() if math.prod(s) * ZEROS // GROUP < floor]
        if short:
            raise ValueError(f"Invalid floor: 2:4 keeps fewer than {floor} weights of {short[0]}")
        super().__init__(fitting, target, 0)

    def choose(
        self, scores: Mapping[str, Tensor], k: int, pruned: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        refuse_nan(scores)  # also where no weight is a candidate
        masks = {n: torch.zeros_like(s, dtype=torch.bool) for n, s in scores.items()}
        fitting = {n: s for n, s in scores.items() if n in self.fitting}
        parts = self.parts(k, _counts(fitting, pruned))
        for name, score in fitting.items():
            # Candidates first, and out of them the lowest: at any time at most 2 of 4.
            groups = score.reshape(-1, GROUP)
            two = groups.argsort(dim=1, stable=True)[:, :ZEROS].sort(1).values
            chosen = lowest({name: groups.gather(1, two)}, parts[name])[name]
            masks[name].view(-1, GROUP).scatter_(1, two, chosen)
        return masks


SCOPES: dict[str, type[Scope]] = {"global": Global, "layer": Layer, "erk": Erk, "2-4": TwoOfFour}


def _counts(scores: Mapping[str, Tensor], pruned: Mapping[str, Tensor]) -> dict[str, int]:
    """How many weights of each layer are pruned already, read back at once."""
    if not pruned:
        return dict.fromkeys(scores, 0)
    counts = torch.stack([pruned[name].sum() for name in scores]).tolist()
    return dict(zip(scores, counts, strict=True))
