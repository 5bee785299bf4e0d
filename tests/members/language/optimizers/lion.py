"""Lion (Chen et al., arXiv 2302.06675, algorithm 2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.nn import Parameter
from torch.nn.utils import clip_grads_with_norm_

from adamwprune.optimizers import _base
from adamwprune.optimizers._base import FLOAT, Closure, StateBytes

# What the tests of every optimizer need not expect of this one, and why.
CONFORMANCE = {
    "test_bfloat16_stays_near_float64": "rounding turns the sign of a small average around",
}


class Lion(_base.Base):
    """c ← β1 · m + (1 − β1) · g;  w ← w − lr · (sign(c) + λ · w);  m ← β2 · m + (1 − β2) · g."""

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        max_grad_norm: float = 0.0,
    ) -> None:
        _base.check("learning rate", lr, 0)
        _base.check("weight_decay value", weight_decay, 0)
        _base.check("max_grad_norm value", max_grad_norm, 0)
        for index, beta in enumerate(betas):
            _base.check(f"beta parameter at index {index}", beta, 0, 1)
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})
        self.max_grad_norm = max_grad_norm

    def declared_states(self) -> Mapping[str, StateBytes]:
        return {"exp_avg": StateBytes(number=FLOAT)}

    @_base.untraced
    @torch.no_grad()
    def step(self, closure: Closure = None) -> float | None:  # type: ignore[override]
        """One step; returns the closure's loss, if there is a closure."""
        loss = _base.evaluated(closure)
        groups = [list(_base.with_gradients(group, "Lion")) for group in self.param_groups]
        everything = [param for params in groups for param in params]
        if self.max_grad_norm and everything:
            norm = _base.gradient_norm(everything)
            clip_grads_with_norm_(everything, self.max_grad_norm, norm)
        for index, params in enumerate(groups):
            rate, group = self.step_size(index), self.param_groups[index]
            beta1, beta2 = group["betas"]
            for param in params:
                average = self.state[param].setdefault("exp_avg", torch.zeros_like(param))
                direction = average.lerp(param.grad, 1 - beta1).sign_()
                param.sub_(rate * (direction + group["weight_decay"] * param))
                average.lerp_(param.grad, 1 - beta2)
        self.steps += 1
        return loss


def build(params: Iterable[Parameter], values: Mapping[str, Any]) -> Lion:
    """Lion with a run's values."""
    return Lion(
        params,
        lr=values["LR"],
        weight_decay=values["WEIGHT_DECAY"],
        max_grad_norm=values["MAX_GRAD_NORM"],
    )
