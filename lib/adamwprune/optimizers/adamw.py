"""AdamW: Adam with decoupled weight decay, Loshchilov & Hutter, arXiv 1711.05101."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch.nn import Parameter

from adamwprune.optimizers._adam import AdamFamily, settings
from adamwprune.optimizers._spam import Spam


class AdamW(AdamFamily):
    """Weight decay 1e-4."""

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-4,
        *,
        amsgrad: bool = False,
        max_grad_norm: float = 0.0,
        spam: Spam | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            decoupled=True,
            amsgrad=amsgrad,
            max_grad_norm=max_grad_norm,
            spam=spam or Spam(),
        )


def build(params: Iterable[Parameter], values: Mapping[str, Any]) -> AdamW:
    """AdamW with a run's values."""
    return AdamW(params, **settings(values))
