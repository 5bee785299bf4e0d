"""One mask update: choose the weights to prune, then apply the choice, layer by layer in parts.

Nothing is written before all is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from adamwprune.pruning.contract import Sums
from adamwprune.pruning.masking import zero_up_to
from adamwprune.pruning.pruned import PrunedWeights
from adamwprune.pruning.regrowth import Regrowth, exchange
from adamwprune.pruning.scope import Scope
from adamwprune.pruning.score import Score
from adamwprune.pruning.select.parts import Part, whole
from adamwprune.pruning.select.selection import Chooser, Cut, Scores, masks
from adamwprune.pruning.storage import Implied, tiny


def prune(
    weights: PrunedWeights, scope: Scope, k: int, pruned: Mapping[str, int], sums: Sums
) -> dict[str, int]:
    """Prune the lowest scores, so that ``k`` weights are pruned with those that are.

    ``pruned``: how many of each layer were, and stay so. ``sums``: are given all parts as they are
    afterwards. Returns how many pruned weights of each layer came back.
    """
    candidates = scope.among(_Candidates(weights, pruned, weights.score))
    returned: dict[str, Tensor] = {}
    for cut in scope.choose(candidates, k, pruned):
        returned.update(_apply(weights, cut, sums))
    return _read(returned)


def kept_by(
    score: Score, weights: PrunedWeights, scope: Scope, k: int, pruned: Mapping[str, int]
) -> dict[str, Tensor]:
    """Return the weights that :func:`prune` would keep by another ``score``, as bool tensors.

    Nothing is pruned. ``score``: needs weights alone, no optimizer states.
    """
    candidates = scope.among(_Candidates(weights, pruned, score))
    kept = masks(candidates, scope.choose(candidates, k, pruned))
    for name, mask in kept.items():
        mask.logical_not_()
        if pruned[name]:  # no candidate
            mask.logical_and_(weights.masks.mask(name, weights.states(name)).logical_not())
    return kept


def regrow(
    weights: PrunedWeights,
    scope: Scope,
    k: int,
    pruned: Mapping[str, int],
    score: Regrowth,
    last: int,
    gradients: Mapping[str, Tensor],
) -> dict[str, int]:
    """Drop the lowest scores and grow others, so that ``k`` weights are pruned.

    ``last``: the step of the last update. ``gradients``: of all weights in this step, by layer.
    Returns how many pruned weights of each layer were grown.
    """
    step = weights.steps

    def drop(name: str, part: Part) -> Tensor:
        return _scores(weights, score, name, part)

    def grow(name: str, part: Part) -> Tensor:
        return score.growth(weights.weights[name], gradients.get(name), step, part)

    before = {name: weights.masks.mask(name, {}) for name in weights.weights}
    fraction = score.exchanged(step, last) if step else 0.0
    after = exchange(scope, before, pruned, k, fraction, drop=drop, grow=grow)
    returned = {name: (before[name] & ~mask).sum() for name, mask in after.items()}
    for name, mask in after.items():
        weights.masks.put(name, whole(mask), mask.view(-1))
        for tensor in weights.zeroed(name):
            tensor.masked_fill_(mask, 0)
        weights.settle(name)
    return _read(returned)


class _Candidates(Scores):
    """Scores of weights that are not pruned yet; ``pruned``: how many of each layer are."""

    def __init__(self, weights: PrunedWeights, pruned: Mapping[str, int], score: Score) -> None:
        super().__init__()
        self.weights = weights
        self.score = score
        self.pruned = pruned
        self.sizes = {name: numel - pruned[name] for name, numel in weights.numels.items()}
        self.shards = weights.shards

    def layer(self, name: str) -> Tensor:
        return self.weights.weights[name]

    def input_stride(self, name: str) -> int:
        return self.weights.input_stride(name)

    def raw(self, name: str, part: Part) -> Tensor:
        return _scores(self.weights, self.score, name, part)

    def unmarked(self) -> Scores | None:
        if not self.score.least_at_zero or not any(self.pruned.values()):
            return None
        return _Candidates(self.weights, dict.fromkeys(self.pruned, 0), self.score)

    def mark(self, name: str, part: Part, scores: Tensor) -> Tensor:
        """A live weight that is zero goes first: without it the network stays what it is."""
        if not self.score.least_at_zero:
            values = part.of(self.layer(name))
            zero = values.abs() <= tiny(values.dtype)
            scores.masked_fill_(zero, torch.finfo(scores.dtype).min)
        if not self.pruned[name]:
            return scores
        live = 1 - self.weights.masks.flags(name, part, self.weights.states(name))
        return scores.mul_(live.div_(live))  # 1/1 or 0/0


def _scores(weights: PrunedWeights, score: Score, name: str, part: Part) -> Tensor:
    """A fresh tensor [n]: scores of all weights of a part, pruned or not."""
    score_of = score.score if weights.steps else score.initial
    return score_of(weights.weights[name], weights.states(name), part)


def _apply(weights: PrunedWeights, cut: Cut, sums: Sums) -> dict[str, Tensor]:
    """Prune the chosen weights; return how many pruned ones of each layer came back."""
    chooser, returned = Chooser(cut), {}
    for name in cut.names:
        weight = weights.weights[name]
        count = torch.zeros((), dtype=torch.int64, device=weight.device)
        chooser.enter(name)
        for part in cut.scores.parts(name):
            values = cut.scores.of(name, part)
            bound = chooser.bound(values)
            if not isinstance(weights.masks, Implied):
                count += _store(weights, name, part, values <= bound)
            for tensor in weights.zeroed(name):
                part.put(tensor, zero_up_to(part.of(tensor), values, bound))
            sums.add(name, part)  # while it is in the cache
        weights.settle(name)
        returned[name] = count
    return returned


def _store(weights: PrunedWeights, name: str, part: Part, chosen: Tensor) -> Tensor:
    """Store a part of the mask; how many pruned weights of it came back."""
    before = weights.mask_part(name, part)
    if weights.score.returns:
        returned = (before & ~chosen).sum()
    else:  # a pruned weight is no candidate any more, and stays pruned
        chosen = chosen.logical_or_(before)
        returned = chosen.new_zeros((), dtype=torch.int64)
    weights.masks.put(name, part, chosen)
    return returned


def _read(counts: Mapping[str, Tensor]) -> dict[str, int]:
    """The numbers, read back from the device at once."""
    found: list[int] = torch.stack([*counts.values()]).tolist()
    return dict(zip(counts, found, strict=True))
