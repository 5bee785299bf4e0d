"""AdamWSpam: AdamWAdv that damps its momentum after gradient spikes (after arXiv 2501.06842)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch.nn import Parameter

from adamwprune.optimizers._adam import settings
from adamwprune.optimizers._spam import Spam
from adamwprune.optimizers.adamwadv import AdamWAdv


class AdamWSpam(AdamWAdv):
    """AdamWAdv with :meth:`Spam.zscore_mode`; ``spam=Spam.paper_mode()`` is SPAM as published."""

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
            spam=Spam.zscore_mode() if spam is None else spam,
        )


def build(params: Iterable[Parameter], values: Mapping[str, Any]) -> AdamWSpam:
    """AdamWSpam with a run's values."""
    return AdamWSpam(params, **settings(values))
