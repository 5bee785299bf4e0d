"""Scopes: among which weights the lowest scores are looked for, and how many go in each layer.

A scope is built once, from the layers' shapes ([outputs, inputs, …]), the target and the floor, and
refuses there what it cannot reach. Then :meth:`Scope.k` says how many weights are pruned at a
sparsity, and :meth:`Scope.choose` which ones, as thresholds over scores that are computed part by
part.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from fractions import Fraction

import torch
from torch import Tensor

from adamwprune.base.sparsity import (
    GROUP,
    ZEROS,
    count,
    divides_by_group,
    kept_by_group,
    part_of,
    room_above,
)
from adamwprune.pruning.select.apportionment import apportion, shares
from adamwprune.pruning.select.parts import Part, parts
from adamwprune.pruning.select.selection import Cut, Scores, counts, cut

Shape = tuple[int, ...]


class Scope:
    """Base of all scopes, for layers of these ``shapes``.

    ``floor``: the least number of weights that each layer keeps; a layer that has no more stays
    dense. Raises ``ValueError`` where a ``target`` cannot be reached with it.
    """

    def __init__(self, shapes: Mapping[str, Shape], target: float, floor: int = 0) -> None:
        if floor < 0:
            raise ValueError(f"Invalid floor: {floor}")
        self.shapes = shapes
        self.floor = floor
        self.numels = {name: math.prod(shape) for name, shape in shapes.items()}
        self.room = dict(zip(shapes, room_above(self.numels.values(), floor), strict=True))
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

    def among(self, scores: Scores) -> Scores:
        """The scores of those weights that this scope may choose; of the others NaN."""
        return scores

    def why_not(self, name: str, mask: Tensor, number: int, stride: int) -> str:
        """Why the weights of a layer in a bool ``mask`` cannot all be pruned; empty if they can.

        ``number``: of these, on all ranks that have a part of the layer. ``stride``: see
        :meth:`Scores.input_stride`.
        """
        if number > self.room[name]:
            return f"{number} of {self.numels[name]} are zero, and {self.floor} are to be kept"
        return ""

    def choose(
        self, scores: Scores, k: int, pruned: Mapping[str, int], fraction: float = 0.0
    ) -> list[Cut]:
        """Cuts of low scores (:meth:`among`) so that ``k`` weights are zero with the ``pruned``.

        ``pruned``: the number of weights of each layer that are pruned already, and no candidates;
        under a returning method there are none. Every layer is in one of the cuts. Beyond that this
        ``fraction`` of what is left is chosen, as far as the floor allows: :meth:`leave` lets as
        many grow again.
        """
        raise NotImplementedError

    def leave(self, scores: Scores, k: int, pruned: Mapping[str, int]) -> list[Cut]:
        """Cuts of low scores so that ``k`` weights are zero; of each layer as many as
        :meth:`choose` would have chosen without a fraction, with the same ``pruned``.

        Candidates are all that are zero after it.
        """
        raise NotImplementedError


class Global(Scope):
    """One threshold over all prunable weights together."""

    def choose(
        self, scores: Scores, k: int, pruned: Mapping[str, int], fraction: float = 0.0
    ) -> list[Cut]:
        """The k lowest; with a floor, the k lowest that leave each layer its floor.

        A layer that would lose too much loses what it can, and the rest is looked for in the
        others. They lose more by that: a layer that was at its limit stays there.
        """
        k += min(part_of(sum(self.numels.values()) - k, fraction), sum(self.room.values()) - k)
        room = {name: self.room[name] - pruned[name] for name in scores.sizes}
        full: dict[str, Cut] = {}
        while True:
            rest = [name for name in scores.sizes if name not in full]
            missing = k - sum(pruned.values()) - sum(room[name] for name in full)
            found = cut(scores, rest, missing)
            over = self._over(found, room) if self.floor else []
            if not over:
                return [found, *full.values()]
            full.update({name: cut(scores, [name], room[name]) for name in over})

    def leave(self, scores: Scores, k: int, pruned: Mapping[str, int]) -> list[Cut]:
        return [cut(scores, scores.sizes, k)]

    def _over(self, found: Cut, room: Mapping[str, int]) -> list[str]:
        return [name for name, count in counts(found).items() if count > room[name]]


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
        self, scores: Scores, k: int, pruned: Mapping[str, int], fraction: float = 0.0
    ) -> list[Cut]:
        wanted = self.parts(k, {name: pruned[name] for name in self.shapes})
        for name, zeros in wanted.items():
            left, room = self.numels[name] - zeros, self.room[name] - zeros
            wanted[name] += min(part_of(left, fraction), room)
        # A layer of no part in it is in a cut of nothing.
        return [
            cut(scores, [name], wanted[name] - pruned[name] if name in wanted else 0)
            for name in scores.sizes
        ]

    def leave(self, scores: Scores, k: int, pruned: Mapping[str, int]) -> list[Cut]:
        return [cut(scores, [name], zeros) for name, zeros in self.parts(k, pruned).items()]

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
    """2:4 sparsity: of each 4 neighbouring inputs of an output, 2 are zero (arXiv 2104.08378).

    Of a convolution the inputs are its input channels, at each place of the kernel, as sparse
    tensor cores multiply them. Layers whose inputs do not divide by 4 stay dense. The density is
    its own: at the target, which must be 0.5, half of the weights of the other layers are zero, and
    on the way there at most 2 of 4. Raises ``ValueError`` for another target, and where no layer is
    left or one has not its floor.
    """

    def __init__(self, shapes: Mapping[str, Shape], target: float, floor: int = 0) -> None:
        fitting = {name: shape for name, shape in shapes.items() if divides_by_group(shape)}
        self.fitting = frozenset(fitting)
        if target != ZEROS / GROUP:
            raise ValueError(f"Invalid target sparsity: {target:g} (2:4 has its own, 0.5)")
        if not fitting:
            raise ValueError("2:4 needs a layer whose inputs divide by 4, and there is none")
        short = [name for name, shape in fitting.items() if kept_by_group(shape) < floor]
        if short:
            raise ValueError(f"Invalid floor: 2:4 keeps fewer than {floor} weights of {short[0]}")
        super().__init__(fitting, target, 0)

    def among(self, scores: Scores) -> Scores:
        return _Fours(scores, self.fitting)

    def why_not(self, name: str, mask: Tensor, number: int, stride: int) -> str:
        if name not in self.fitting:
            return "2:4 keeps it dense, because its inputs do not divide by 4"
        most = int(mask.view(-1, GROUP, stride).sum(1).max())
        return f"2:4 allows {ZEROS} zeros of {GROUP}, and it has {most}" if most > ZEROS else ""


class _Fours(Scores):
    """Candidates are the two lowest of each four, those that are pruned already among them."""

    def __init__(self, scores: Scores, fitting: Collection[str]) -> None:
        super().__init__()
        self.scores = scores
        self.fitting = fitting
        self.sizes = {name: self._size(name) for name in scores.sizes}

    def _size(self, name: str) -> int:
        numel = self.layer(name).numel()
        pruned = numel - self.scores.sizes[name]
        return numel // GROUP * ZEROS - pruned if name in self.fitting else 0

    def layer(self, name: str) -> Tensor:
        return self.scores.layer(name)

    def input_stride(self, name: str) -> int:
        return self.scores.input_stride(name)

    def parts(self, name: str) -> Iterator[Part]:
        """Of whole fours, and whole bytes of a mask."""
        return parts(self.layer(name), math.lcm(8, GROUP * self.input_stride(name)))

    def raw(self, name: str, part: Part) -> Tensor:
        return self.scores.raw(name, part)

    def mark(self, name: str, part: Part, scores: Tensor) -> Tensor:
        if name not in self.fitting:
            return scores.fill_(math.nan)
        found = self.scores.mark(name, part, scores)
        return found.masked_fill_(~_two_lowest(found, self.input_stride(name)), math.nan)

    def sample(self, name: str, every: int) -> Tensor:
        if self.input_stride(name) > 1:  # fours that lie apart
            return torch.cat([self.of(name, part)[::every] for part in self.parts(name)])
        numel = self.layer(name).numel()
        columns = [Part(place, numel, GROUP * every) for place in range(GROUP)]
        fours = torch.stack([self.scores.of(name, column) for column in columns], 1).view(-1)
        return fours.masked_fill_(~_two_lowest(fours, 1), math.nan)


def _two_lowest(scores: Tensor, stride: int) -> Tensor:
    """True at the two lowest of each four, by index among equals; NaN is lowest."""
    fours = scores.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    fours = fours.view(-1, GROUP, stride)
    columns = fours.unbind(1)
    higher = torch.zeros_like(fours, dtype=torch.uint8)  # than how many of the other three
    for i, j in itertools.combinations(range(GROUP), 2):
        first = columns[i] <= columns[j]
        higher[:, j] += first
        higher[:, i] += first.logical_not_()
    return (higher < ZEROS).view(-1)


SCOPES: dict[str, type[Scope]] = {"global": Global, "layer": Layer, "erk": Erk, "2-4": TwoOfFour}
