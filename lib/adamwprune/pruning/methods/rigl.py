"""RigL: drop the smallest weights, grow where the gradient is largest (arXiv 1911.11134)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adamwprune.pruning.regrowth import Regrowth
from adamwprune.pruning.select.parts import Part


class RigL(Regrowth):
    """Rigging the lottery (Evci et al., section 3): |∂L/∂Θ| of all weights decides what grows.

    The gradient is that of the update's own step, which the paper leaves out and which here is
    made as any other, with what was in use. Of that gradient a copy is kept during the step.
    """

    reads_gradients = True

    def exchanged(self, step: int, last: int) -> float:
        """f(t) = α/2·(1 + cos(t·π/T_end)), with T_end the step of the ``last`` update."""
        return self.fraction / 2 * (1 + math.cos(math.pi * min(step / last, 1)))

    def growth(self, weight: Tensor, gradient: Tensor | None, step: int, part: Part) -> Tensor:
        if gradient is None:
            return torch.zeros_like(part.of(weight))
        return part.of(gradient).abs()


def build(values: Mapping[str, Any]) -> RigL:
    """RigL with the run's fraction; its seed is that of the first mask."""
    return RigL(values["REGROW_FRACTION"], values["SEED"])
