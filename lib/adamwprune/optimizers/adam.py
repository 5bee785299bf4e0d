"""Adam: Kingma & Ba, arXiv 1412.6980."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch.nn import Parameter

from adamwprune.optimizers._adam import AdamFamily, settings
from adamwprune.optimizers._spam import Spam


class Adam(AdamFamily):
    """Weight decay, where set, is added to the gradient as in the original."""

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
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
            decoupled=False,
            amsgrad=amsgrad,
            max_grad_norm=max_grad_norm,
            spam=spam or Spam(),
        )


def build(params: Iterable[Parameter], values: Mapping[str, Any]) -> Adam:
    """Adam with a run's values."""
    return Adam(params, **settings(values))
