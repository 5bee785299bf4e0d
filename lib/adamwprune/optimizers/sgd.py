"""SGD with momentum, in torch's form (Sutskever et al., ICML 2013), and gradient-norm clipping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT
from torch.optim.sgd import sgd

from adamwprune.optimizers import _base
from adamwprune.optimizers._base import FLOAT, Closure, StateBytes
from adamwprune.optimizers._layout import laid_out


class SGD(_base.Base):
    """b ← momentum · b + g + weight_decay · w;  w ← w − lr · b.

    The gradient's norm over all parameters is first clipped to ``max_grad_norm`` (0: never).
    ``maximize``: climb, as in torch. ``lr`` may be a tensor as in torch; its value is read in each
    step. A group, or a state dict, may also have torch's ``dampening`` and ``nesterov``.
    State: ``momentum_buffer``. Raises ``ValueError`` for values out of range.
    """

    needed_settings = ("lr", "momentum", "dampening", "weight_decay")
    needed_states = ("momentum_buffer",)
    missing_settings: ClassVar = {"nesterov": False, "maximize": False}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        max_grad_norm: float = 0.0,
    ) -> None:
        _base.check_rate(lr)
        _base.check("momentum value", momentum, 0, 1)
        _base.check("weight_decay value", weight_decay, 0)
        _base.check("max_grad_norm value", max_grad_norm, 0)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": 0.0,
            "weight_decay": weight_decay,
            "nesterov": False,
            "maximize": maximize,
        }
        super().__init__(params, defaults)
        self.max_grad_norm = max_grad_norm

    def declared_states(self) -> Mapping[str, StateBytes]:
        """The momentum buffer, if there is momentum."""
        if not any(group["momentum"] for group in self.param_groups):
            return {}
        return {"momentum_buffer": StateBytes(number=FLOAT)}

    @_base.untraced
    @torch.no_grad()
    def step(self, closure: Closure = None) -> float | None:  # type: ignore[override]
        """One step; returns the closure's loss, if there is a closure."""
        loss = _base.evaluated(closure)
        groups = [list(_base.with_gradients(group, "SGD")) for group in self.param_groups]
        if not _base.is_capturing():
            self.write_rates()
        self.steps += 1
        everything = [param for params in groups for param in params]
        divisor = None
        if self.max_grad_norm and everything:
            norm = _base.gradient_norm(everything)
            divisor = _base.clip_norm(everything, norm, self.max_grad_norm)
        for index, params in enumerate(groups):
            if params:
                self._update(index, params, divisor)
        return loss

    def _update(self, index: int, params: list[Tensor], divisor: Tensor | None) -> None:
        group = self.param_groups[index]
        # The functional form, not super().step(): torch wraps step() class by class to run
        # hooks, and a step() that calls its parent's would run all of them twice.
        buffers = [self._buffer(param) for param in params]
        sgd(
            params,
            [param.grad for param in params],  # type: ignore[misc]
            buffers,
            fused=_base.can_fuse(params),
            foreach=False,
            grad_scale=divisor,
            lr=self._rates[index][0] if index in self._rates else float(group["lr"]),
            momentum=group["momentum"],
            weight_decay=group["weight_decay"],
            dampening=group["dampening"],
            nesterov=group["nesterov"],
            maximize=group["maximize"],
        )
        if group["momentum"]:
            for param, buffer in zip(params, buffers, strict=True):
                self.state[param]["momentum_buffer"] = buffer

    def _buffer(self, param: Tensor) -> Tensor | None:
        buffer: Tensor | None = self.state[param].get("momentum_buffer")
        return None if buffer is None else laid_out(param, buffer)


def build(params: ParamsT, values: Mapping[str, Any]) -> SGD:
    """SGD with a run's values."""
    return SGD(
        params,
        lr=values["LR"],
        momentum=values["SGD_MOMENTUM"],
        weight_decay=values["WEIGHT_DECAY"],
        max_grad_norm=values["MAX_GRAD_NORM"],
    )
