"""Spike-aware momentum: what SPAM and its z-score heuristic do to gradients and states.

Three modes: the z-score of the gradient norm damps the moments after a spike; SPAM proper (Huang
et al., arXiv 2501.06842) clips single elements, resets the moments at an interval and warms the
step size up again after each reset, and the first mode can have these mechanics too; Stable-SPAM
(arXiv 2502.17055) bounds and rescales each gradient (:mod:`adamwprune.optimizers._stable`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from adamwprune.base.sparsity import SETTLING
from adamwprune.optimizers import _base, _stable

WINDOW = 100  # gradient norms that the z-score looks back on
FEWEST = 10  # norms before which it says nothing
DEVIATIONS = 2.0  # above the mean: a spike


@dataclass(frozen=True)
class Spam:
    """Settings. ``theta`` 0: no clipping; ``interval`` 0: no resets.

    Raises ``ValueError`` for values out of range, and for ``gammas`` beside anything but an
    ``interval``: Stable-SPAM has a clipping of its own, and its resets need no warm-up.
    """

    zscore: bool = False
    theta: float = 0.0  # a ratio of squares: clip where g² > theta · v
    interval: int = 0  # steps between resets
    warmup_steps: int = 0  # steps of reduced step size after a reset
    gammas: tuple[float, float, float] | None = None  # decay rates of Stable-SPAM; None: not it
    published: bool = False  # what the optimizer's caller leaves open is as in the paper, too
    triton: bool = False  # the z-score by a kernel of our own on a GPU

    def __post_init__(self) -> None:
        _base.check("theta", self.theta, 0)
        _base.check("interval", self.interval, 0)
        _base.check("warmup_steps", self.warmup_steps, 0)
        for index, gamma in enumerate(self.gammas or ()):
            _base.check(f"gamma at index {index}", gamma, 0, 1)
        if self.gammas is not None and (self.zscore or self.theta or self.warmup_steps):
            raise ValueError("Invalid gammas: Stable-SPAM has no zscore, theta or warmup_steps")

    @classmethod
    def zscore_mode(cls) -> Spam:
        """The heuristic: moments damped after a spike of the gradient's norm."""
        return cls(zscore=True)

    @classmethod
    def paper_mode(cls) -> Spam:
        """arXiv 2501.06842: θ = 5000, ΔT = 500, N = 150.

        An optimizer with it has no AMSGrad, no norm clipping, no weight decay and ε = 1e-6, where
        its caller does not say otherwise.
        """
        return cls(theta=5000.0, interval=500, warmup_steps=150, published=True)

    @classmethod
    def stable_mode(cls) -> Spam:
        """arXiv 2502.17055: γ = (0.7, 0.9, 0.999), ΔT = 1000."""
        return cls(interval=1000, gammas=_stable.GAMMAS)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Spam:
        """The settings of a run."""
        if values["SPAM_MODE"] == "none":
            return cls()
        if values["SPAM_MODE"] == "stable":
            gammas = values["SPAM_GAMMA1"], values["SPAM_GAMMA2"], values["SPAM_GAMMA3"]
            return cls(interval=values["SPAM_INTERVAL"], gammas=gammas)
        return cls(
            zscore=values["SPAM_MODE"] == "zscore",
            theta=values["SPAM_THETA"] if values["SPAM_ENABLE_CLIP"] else 0.0,
            interval=values["SPAM_INTERVAL"],
            warmup_steps=values["SPAM_WARMUP_STEPS"],
            published=values["SPAM_MODE"] == "paper",
            triton=values["SPAM_MODE"] == "zscore" and values["SPAM_TRITON"],
        )

    def resets_before(self, step: int) -> bool:
        """Whether the moments are reset before step number ``step`` (from 1): ΔT, 2ΔT, …"""
        return bool(self.interval) and step % self.interval == 0

    def since_reset(self, step: int) -> int:
        """Steps done since the last reset when step number ``step`` begins; large without one."""
        if not self.interval or step < self.interval:
            return 1 << 30
        return step % self.interval

    def clips_at(self, step: int) -> bool:
        """Whether elements are clipped in step t = ``step`` (from 1): t ≥ 20 and t mod ΔT ≥ 20."""
        return self.theta > 0 and step >= SETTLING and self.since_reset(step) >= SETTLING

    def scale(self, step: int) -> float:
        """Factor of the step size: 1 − 0.495 · (1 + cos(π c / (N + 1))) for c < N after a reset.

        c is 0 in the step that resets.
        """
        since = self.since_reset(step)
        if since >= self.warmup_steps:
            return 1.0
        return 1 - 0.495 * (1 + math.cos(math.pi * since / (self.warmup_steps + 1)))


def clip_elements(grads: list[Tensor], exp_avg_sqs: list[Tensor], theta: float) -> None:
    """g ← sign(g)·√(θ·v) where g² > θ·v, in place; not where v is 0.

    An element that has had no gradient yet has nothing to be a spike against, and clipped to 0
    it would never have one.
    """
    for grad, exp_avg_sq in zip(grads, exp_avg_sqs, strict=True):
        limit = exp_avg_sq.mul(theta).sqrt_().masked_fill_(exp_avg_sq == 0, math.inf)
        torch.clamp(grad, -limit, limit, out=grad)


class NormWindow:
    """The last gradient norms, on the device, and the z-score of a new one against them.

    They lie in ``kept``, an optimizer's :attr:`~adamwprune.optimizers._base.Base.kept`. With
    ``triton`` a GPU computes the z-score by one kernel, which must be there.
    """

    def __init__(self, kept: dict[str, Any], triton: bool = False) -> None:
        self._kept = kept
        self._triton = triton

    @property
    def norms(self) -> Tensor | None:
        """A ring of float32 [WINDOW], zero where there is no norm yet; None before the first."""
        return self._kept.get("spam_norms")

    @property
    def count(self) -> Tensor | None:
        """Norms that joined the window: int64 [1], None before the first."""
        return self._kept.get("spam_count")

    def is_spike(self, norm: Tensor) -> Tensor:
        """Whether ``norm`` lies above mean + 2 deviations of those before; a bool tensor.

        Population deviation; without deviation, and with fewer than ten norms, never. The
        norm then joins the window. Nothing is read back from the device.

        A norm that is no finite float32 (an overflow, a NaN) is a spike once there are ten others,
        and does not join: it would hide every spike until it leaves the window.
        """
        if self.norms is None:
            self._kept["spam_norms"] = torch.zeros(WINDOW, dtype=torch.float32, device=norm.device)
            self._kept["spam_count"] = torch.zeros(1, dtype=torch.int64, device=norm.device)
        ring, count = self._kept["spam_norms"], self._kept["spam_count"]
        if self._triton and norm.is_cuda:
            from adamwprune.optimizers import _spam_triton  # Triton may be missing

            return _spam_triton.is_spike(norm, ring, count, FEWEST, DEVIATIONS)
        norms, seen = ring.double(), count.clamp(1, WINDOW)
        mean = norms.sum() / seen  # those not seen yet are zero
        is_seen = torch.arange(WINDOW, device=norm.device) < seen
        deviation = (((norms - mean).square() * is_seen).sum() / seen).sqrt()
        is_far = (deviation > 0) & (norm - mean > DEVIATIONS * deviation)
        joining = norm.detach().float().reshape(1)
        is_finite = joining < math.inf
        spike = ((is_far | ~is_finite) & (count >= FEWEST)).squeeze(0)
        place = count % WINDOW
        ring.index_copy_(0, place, torch.where(is_finite, joining, ring[place]))
        count += is_finite
        return cast(Tensor, spike)
