"""AdaClip and AdaGN: what Stable-SPAM (arXiv 2502.17055) does to a gradient before Adam sees it.

The third part, MoRet, is the momentum reset of :mod:`adamwprune.optimizers._spam`, with Adam's
step counter set back as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

GAMMAS = (0.7, 0.9, 0.999)  # the paper's: of the norm, of its square, of the largest entry
STATISTICS = "gradient_statistics"  # the name in an optimizer's state


def no_statistics(param: Tensor) -> Tensor:
    """Of a parameter without a past: T, m, s and t of :func:`stabilise`, float64 [4], zero.

    float64 for parameters of any type: 1 − γ₃ᵗ begins at 0.001, of which float32 keeps four
    digits and bfloat16 none.
    """
    return torch.zeros(4, dtype=torch.float64, device=param.device)


def stabilise(
    grads: list[Tensor], statistics: list[Tensor], gammas: Sequence[float], eps: float
) -> None:
    """AdaClip, then AdaGN, on each gradient by itself and in place. No branch on data.

    With x̂ = x / (1 − γᵗ) for the average that γ makes, and t the gradients seen so far::

        AdaClip  T ← γ₃·T + (1 − γ₃)·max|g|;  g ← g·T̂/max|g| where |g| > T̂
        AdaGN    n = ‖g‖₂ of what is left;  m ← γ₁·m + (1 − γ₁)·n;  s ← γ₂·s + (1 − γ₂)·n²
                 g ← (g/n)·m̂/(√ŝ + ε)

    ``statistics`` holds T, m, s and t of each, float64 [4]. This t is not Adam's step: a reset
    sets that back, and T̂ = T/(1 − γ₃) would be a thousand times too high to clip anything. A
    gradient of zero stays zero. The gradients have at least one entry and share a device.
    """
    gamma1, gamma2, gamma3 = gammas
    top, mean, square, steps = torch.stack(statistics).unbind(1)
    steps = steps + 1
    largest = _norms(grads, math.inf)
    top = gamma3 * top + (1 - gamma3) * largest
    _clip(grads, largest, top / (1 - gamma3**steps))
    norm = _norms(grads, 2.0)
    mean = gamma1 * mean + (1 - gamma1) * norm
    square = gamma2 * square + (1 - gamma2) * norm * norm
    deviation = (square / (1 - gamma2**steps)).sqrt()
    _rescale(grads, norm, mean / (1 - gamma1**steps) / (deviation + eps))
    kept = torch.stack((top, mean, square, steps), dim=1)
    torch._foreach_copy_(statistics, list(kept.unbind()))


def _norms(grads: list[Tensor], order: float) -> Tensor:
    """The norm of each gradient, float64 [number of gradients]."""
    return torch.stack(torch._foreach_norm(grads, order, dtype=torch.float64))


def _clip(grads: list[Tensor], largest: Tensor, limits: Tensor) -> None:
    """g ← g·limit/max|g| where |g| > limit."""
    ratios = limits / largest  # of 0/0 nothing is used: no entry lies above the limit then
    for grad, limit, ratio in zip(grads, limits.unbind(), ratios.unbind(), strict=True):
        grad.copy_(torch.where(grad.abs() > limit, grad * ratio, grad))


def _rescale(grads: list[Tensor], norms: Tensor, lengths: Tensor) -> None:
    """g ← g/‖g‖ · length, in this order: length/‖g‖ may be more than a float32 can hold."""
    divisors = torch.where(norms > 0, norms, 1.0)
    for grad, divisor, length in zip(grads, divisors.unbind(), lengths.unbind(), strict=True):
        grad.div_(divisor).mul_(length)
