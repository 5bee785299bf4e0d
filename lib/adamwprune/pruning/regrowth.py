"""Regrowth: at each update some of the weights in use are dropped and as many others grown.

What is dropped are the smallest |w|. What is grown has its score (:meth:`Regrowth.growth`), and
starts at zero with optimizer states of zero, but is in use from then on: only the mask tells it
from a pruned weight. The sparsity is the schedule's, and the scope says in which layers: where the
sparsity rises, more is dropped than grown. What is dropped is a candidate to be grown, as in
RigL's algorithm 1 (arXiv 1911.11134); one that is grown at once keeps its value and its states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from adamwprune.pruning.scope import Scope
from adamwprune.pruning.score import Score
from adamwprune.pruning.select.hashed_numbers import Numbers
from adamwprune.pruning.select.parts import Part
from adamwprune.pruning.select.selection import Scores, masks

ScoreOf = Callable[[str, Part], Tensor]  # scores [n] of a part of the layer of this name


class Regrowth(Score):
    """Base of the methods: |w| decides what is dropped, a subclass what is grown.

    ``fraction``: of the weights in use, how much an update exchanges. ``seed``: of the mask
    that training starts with where the sparsity is constant, the one of random pruning. Raises
    ``ValueError`` for a fraction outside [0, 1] or a seed beyond 32 bits.
    """

    regrows = True
    scores_untrained = True

    def __init__(self, fraction: float = 0.3, seed: int = 0) -> None:
        if not 0 <= fraction <= 1:
            raise ValueError(f"Invalid fraction: {fraction}")
        self.fraction = fraction
        self.seed = seed
        self._numbers = Numbers(seed)

    def begin(self, weights: list[Tensor]) -> None:
        self._numbers.begin(weights)

    def initial(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        return self._numbers.of(weight, part)

    def score(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        return part.of(weight).abs()

    def exchanged(self, step: int, last: int) -> float:
        """The fraction that is exchanged after ``step``; none at the ``last`` update's or later:
        what is grown then would not be trained with a mask that still adapts to it.
        """
        return self.fraction if step < last else 0.0

    def growth(self, weight: Tensor, gradient: Tensor | None, step: int, part: Part) -> Tensor:
        """The scores [n] by which a ``part`` of ``weight`` grows after ``step``, higher = grow.

        ``gradient``: of the loss with respect to all weights, pruned ones too, in this step; None
        where there is none or it is not asked for. A fresh tensor, as a score.
        """
        raise NotImplementedError


def exchange(
    scope: Scope,
    before: Mapping[str, Tensor],
    pruned: Mapping[str, int],
    k: int,
    fraction: float,
    *,
    drop: ScoreOf,
    grow: ScoreOf,
) -> dict[str, Tensor]:
    """The bool masks after an update, True = pruned, ``k`` in all; ``before``: those before it.

    ``pruned``: how many of each layer were. Of what is left at ``k`` the ``fraction`` with the
    lowest ``drop`` scores is dropped beyond that, and as many of all that are pruned by then have
    the highest ``grow`` scores and are not. Raises ``ValueError`` if a score is NaN.
    """
    active = _Among({name: ~mask for name, mask in before.items()}, drop)
    dropped = masks(active, scope.choose(active, k, pruned, fraction))
    # In place: a candidate that was not dropped is in use; all other weights may grow.
    for name, mask in active.candidates.items():
        mask.logical_and_(dropped[name].logical_not_()).logical_not_()
    pool = _Among(active.candidates, grow)
    return masks(pool, scope.leave(pool, k, pruned))


class _Among(Scores):
    """Scores of the ``candidates``: bool tensors by layer."""

    def __init__(self, candidates: Mapping[str, Tensor], score: ScoreOf) -> None:
        super().__init__()
        self.candidates = candidates
        self.score = score
        self.sizes = {name: int(mask.sum()) for name, mask in candidates.items()}

    def layer(self, name: str) -> Tensor:
        return self.candidates[name]

    def raw(self, name: str, part: Part) -> Tensor:
        return self.score(name, part)

    def mark(self, name: str, part: Part, scores: Tensor) -> Tensor:
        return scores.masked_fill_(part.of(self.candidates[name]).logical_not(), float("nan"))
