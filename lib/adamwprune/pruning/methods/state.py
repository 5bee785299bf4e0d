"""Pruning by state: Adam's own moments decide, and nothing is stored for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from adamwprune.pruning.score import Score, wide
from adamwprune.pruning.select.parts import Part

Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]
EPS = 1e-8  # of the hybrid criterion's denominator


def _root(v: Tensor, w: Tensor) -> Tensor:
    """√v where ``w`` is not zero; where it is, √(v + 1), which a factor of zero makes the same.

    On a CPU the square root of a zero takes ten times as long as that of any other number, and
    nine of ten may be zeros.
    """
    return torch.eq(w, 0, out=torch.empty_like(v)).add_(v).sqrt_()


def precond(w: Tensor, m: Tensor, v: Tensor) -> Tensor:
    """w²·√v: Optimal Brain Damage (LeCun, Denker, Solla 1990) in Adam's own metric."""
    return _root(v, w).mul_(w).mul_(w)


def fisher(w: Tensor, m: Tensor, v: Tensor) -> Tensor:
    """w²·v: Optimal Brain Damage with exp_avg_sq as the Fisher diagonal."""
    return v.mul(w).mul_(w)


def taylor(w: Tensor, m: Tensor, v: Tensor) -> Tensor:
    """|w·m|: the first-order change of the loss (Molchanov et al., arXiv 1611.06440)."""
    return (w * m).abs_()


def movement(w: Tensor, m: Tensor, v: Tensor) -> Tensor:
    """−w·m: movement (arXiv 2005.07683) as a moving average instead of a sum."""
    return (w * m).neg_()


def hybrid(w: Tensor, m: Tensor, v: Tensor) -> Tensor:
    """|w·m|·|w|/(√v + eps): the product of a saliency and a normalised magnitude."""
    return (w * m).abs_().mul_(w.abs()).div_(_root(v, w).add_(EPS))


CRITERIA: dict[str, Criterion] = {
    "precond": precond,
    "fisher": fisher,
    "taylor": taylor,
    "movement": movement,
    "hybrid": hybrid,
}


class State(Score):
    """A criterion of the weight w, m = ``exp_avg`` and v = ``exp_avg_sq`` (not bias-corrected).

    A weight that had no gradient so far has moments of zero, and scores 0. Short floating-point
    types are computed with in float32: few of their numbers differ, and v underflows. Raises
    ``ValueError`` for an unknown criterion.
    """

    reads_states = True

    def __init__(self, criterion: str = "precond") -> None:
        if criterion not in CRITERIA:
            raise ValueError(f"Invalid criterion: {criterion} (there are {', '.join(CRITERIA)})")
        self.criterion = criterion
        self.least_at_zero = criterion != "movement"  # which alone has a sign

    def score(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        values = wide(part.of(weight))
        if "exp_avg_sq" not in state:  # no gradient so far
            return torch.zeros_like(values)
        moments = (wide(part.of(state[name])) for name in ("exp_avg", "exp_avg_sq"))
        return CRITERIA[self.criterion](values, *moments)

    def initial(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        """|w|: there are no moments yet. A constant sparsity would be magnitude pruning."""
        return wide(part.of(weight)).abs()


def build(values: Mapping[str, Any]) -> State:
    """Pruning by the run's criterion."""
    return State(values["STATE_CRITERION"])
