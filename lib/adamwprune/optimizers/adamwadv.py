"""AdamWAdv: AdamW with AMSGrad, gradient-norm clipping and a stronger weight decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch.nn import Parameter

from adamwprune.optimizers._adam import settings
from adamwprune.optimizers._spam import Spam
from adamwprune.optimizers.adamw import AdamW


class AdamWAdv(AdamW):
    """AdamW, weight decay 0.01, AMSGrad (arXiv 1904.09237), gradient norm clipped at 1.

    Its recipe also anneals the learning rate along a cosine; schedules are torch's, outside.
    """

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        amsgrad: bool = True,
        max_grad_norm: float = 1.0,
        spam: Spam | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad=amsgrad,
            max_grad_norm=max_grad_norm,
            spam=spam,
        )


def build(params: Iterable[Parameter], values: Mapping[str, Any]) -> AdamWAdv:
    """AdamWAdv with a run's values."""
    return AdamWAdv(params, **settings(values))
