"""The one step behind every optimizer of the Adam family; the members are presets of it.

The arithmetic is torch's own (``torch.optim.adam.adam``, fused where it can be); what is added
is spike handling and clipping before it. State per parameter, named as in torch: ``step``,
``exp_avg``, ``exp_avg_sq`` and, under AMSGrad, ``max_exp_avg_sq``; beside them, under Stable-SPAM,
``gradient_statistics``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.optimizer import ParamsT

from adamwprune.base.compilers import missing_for_triton
from adamwprune.optimizers import _base, _stable
from adamwprune.optimizers._base import FLOAT, Closure, StateBytes
from adamwprune.optimizers._layout import as_real, laid_out
from adamwprune.optimizers._preset import Preset
from adamwprune.optimizers._spam import WINDOW, NormWindow, Spam, clip_elements

MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")


class AdamFamily(_base.KeepsMoments):
    """Adam (Kingma & Ba, arXiv 1412.6980) with every ingredient of the family an option.

    ``weight_decay``: decoupled (arXiv 1711.05101) but in :class:`Adam`. ``amsgrad``: arXiv
    1904.09237. ``max_grad_norm``: clip the gradient's norm over all parameters (0: never).
    ``maximize``: climb, as in torch. ``spam``: see :class:`~adamwprune.optimizers._spam.Spam`.
    None is what the class presets, and beside SPAM as published what its paper does.
    ``lr`` is torch's; that of a run is Kconfig's, which goes with a schedule. It and ``betas``
    may be tensors as in torch; their values are read in each step.

    Order within a step: momentum reset, z-score damping, element-wise clipping or Stable-SPAM's
    AdaClip and AdaGN, norm clipping, Adam. What changes a gradient changes ``param.grad``, as
    ``clip_grad_norm_`` does. Raises ``ValueError`` for values out of range.
    """

    preset = Preset()
    needed_settings = ("lr", "betas", "eps", "weight_decay")
    needed_states = ("step", "exp_avg", "exp_avg_sq")
    _own = (*_base.KeepsMoments._own, "spam")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] | tuple[Tensor, Tensor] = (0.9, 0.999),
        eps: float | None = None,
        weight_decay: float | None = None,
        *,
        amsgrad: bool | None = None,
        maximize: bool = False,
        max_grad_norm: float | None = None,
        spam: Spam | None = None,
    ) -> None:
        preset = self.preset.with_spam(spam)
        decay = preset.weight_decay if weight_decay is None else weight_decay
        eps = preset.eps if eps is None else eps
        self.max_grad_norm = preset.max_grad_norm if max_grad_norm is None else max_grad_norm
        self.spam = preset.spam
        _base.check_rate(lr)
        _base.check("epsilon value", eps, 0)
        _base.check("weight_decay value", decay, 0)
        _base.check("max_grad_norm value", self.max_grad_norm, 0)
        defaults = {
            "lr": lr,
            "betas": _base.checked_betas(betas),
            "eps": eps,
            "weight_decay": decay,
            "amsgrad": preset.amsgrad if amsgrad is None else amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": preset.decoupled,
        }
        super().__init__(params, defaults)

    @classmethod
    def from_values(cls, params: ParamsT, values: Mapping[str, Any]) -> Self:
        """The optimizer with a run's values."""
        spam, note = Spam.from_values(values), ""
        # Without a GPU nobody misses its kernel. To count GPUs does not start CUDA here.
        if spam.triton and torch.cuda.device_count() and (missing := missing_for_triton()):
            spam, note = replace(spam, triton=False), f"SPAM_TRITON: trained without, {missing}"
        optimizer = cls(
            params,
            lr=values["LR"],
            betas=(values["BETA1"], values["BETA2"]),
            eps=values["EPS"],
            weight_decay=values["WEIGHT_DECAY"],
            amsgrad=values["AMSGRAD"] == "on",
            max_grad_norm=values["MAX_GRAD_NORM"],
            spam=spam,
        )
        optimizer.note = note
        return optimizer

    @property
    def needs_all_gradients(self) -> str:
        """See :class:`~adamwprune.optimizers._base.Base`."""
        return super().needs_all_gradients or ("SPAM's z-score" if self.spam.zscore else "")

    def declared_states(self) -> Mapping[str, StateBytes]:
        """Adam's, and those of the spike handling that is on."""
        states = {
            "step": StateBytes(tensor=FLOAT),
            "exp_avg": StateBytes(number=FLOAT),
            "exp_avg_sq": StateBytes(number=FLOAT),
        }
        if any(group["amsgrad"] for group in self.param_groups):
            states["max_exp_avg_sq"] = StateBytes(number=FLOAT)
        if self.spam.zscore:
            states["spam_norms"] = StateBytes(once=FLOAT * WINDOW)
            states["spam_count"] = StateBytes(once=8)  # int64
        if self.spam.gammas:
            states[_stable.STATISTICS] = StateBytes(tensor=4 * 8)  # four float64
        return states

    @property
    def missing_settings(self) -> Mapping[str, Any]:  # type: ignore[override]
        """Where torch's older state dicts have none; they say by their class how decay is meant."""
        decoupled = self.preset.decoupled
        return {"amsgrad": False, "maximize": False, "decoupled_weight_decay": decoupled}

    @property
    def _window(self) -> NormWindow:
        return NormWindow(self.kept, self.spam.triton)

    @property
    def steps_since_reset(self) -> int:
        """Steps done with the present moments: since the last reset; large without one."""
        return self.spam.since_reset(self.steps) + 1

    def step_kind(self) -> Hashable:
        """See :class:`~adamwprune.optimizers._base.Base`; a step that resets stands alone."""
        if self.spam.resets_before(self.steps + 1):
            return None
        return super().step_kind(), self.spam.clips_at(self.steps + 1)

    def _step_rates(self, group: dict[str, Any]) -> tuple[float, float]:
        lr = float(group["lr"])
        return lr * self.spam.scale(self.steps + 1), 1 - lr * group["weight_decay"]

    @_base.untraced
    @torch.no_grad()
    def step(self, closure: Closure = None) -> float | None:  # type: ignore[override]
        """One step; returns the closure's loss, if there is a closure."""
        loss = _base.evaluated(closure)
        name = type(self).__name__
        groups = [list(_base.with_gradients(group, name)) for group in self.param_groups]
        if not _base.is_capturing():
            self.write_rates()
        self.steps += 1
        for group, params in zip(self.param_groups, groups, strict=True):
            self._initialise(params, group["amsgrad"])
        divisor = self._handle_spikes(groups) if any(groups) else None
        for index, params in enumerate(groups):
            if params:
                self._update(index, params, divisor)
        return loss

    def _initialise(self, params: list[Tensor], amsgrad: bool) -> None:
        """Zero states where there are none yet: of a new parameter, of an option switched on."""
        for param in params:
            state = self.state[param]
            if "step" not in state:
                # The fused kernel reads the step from the parameter's device.
                state["step"] = torch.zeros((), dtype=torch.float32, device=param.device)
            for moment in MOMENTS[: 3 if amsgrad else 2]:
                if moment not in state:
                    state[moment] = torch.zeros_like(param, memory_format=torch.preserve_format)
                elif state[moment].stride() != param.stride():  # since a change of memory format
                    state[moment] = laid_out(param, state[moment])
            if self.spam.gammas and _stable.STATISTICS not in state:
                state[_stable.STATISTICS] = _stable.no_statistics(param)

    def _handle_spikes(self, groups: list[list[Tensor]]) -> Tensor | None:
        """Everything that happens to moments and gradients before Adam's own arithmetic.

        Returns what Adam has yet to divide the gradients by, if anything.
        """
        params = [param for group in groups for param in group]
        if self.spam.resets_before(self.steps):
            self._reset(params)
        norm = None
        if self.spam.zscore:
            norm = _base.gradient_norm(params)
            spike = self._window.is_spike(norm)
            if self.on_spike is not None:
                self.on_spike(spike)
            self._damp(params, spike)
        if self.spam.gammas:
            self._stabilise(groups, self.spam.gammas)
        clips = self.spam.clips_at(self.steps)
        if clips:
            squares = as_real(self._all("exp_avg_sq", params))
            clip_elements(as_real(_gradients(params)), squares, self.spam.theta)
        if self.max_grad_norm:
            if norm is None or clips:  # otherwise it is still that of what would be clipped
                norm = _base.gradient_norm(params)
            return _base.clip_norm(params, norm, self.max_grad_norm)
        return None

    def _stabilise(self, groups: list[list[Tensor]], gammas: tuple[float, float, float]) -> None:
        """Stable-SPAM's AdaClip and AdaGN, with the ε of each group."""
        for group, params in zip(self.param_groups, groups, strict=True):
            filled = [param for param in params if param.numel()]
            if filled:
                statistics = self._all(_stable.STATISTICS, filled)
                gradients = as_real(_gradients(filled))
                _stable.stabilise(gradients, statistics, gammas, group["eps"])

    def _all(self, name: str, params: list[Tensor]) -> list[Tensor]:
        return [self.state[param][name] for param in params]

    def _reset(self, params: list[Tensor]) -> None:
        """Zero moments, AMSGrad's maximum among them, or it would stay the denominator.

        SPAM keeps the step counter, so that the bias correction stays near 1 and the warm-up has
        to hold the first updates down. Stable-SPAM begins anew: the next step is number 1.
        """
        moments = [self.state[p][name] for p in params for name in MOMENTS if name in self.state[p]]
        steps = self._all("step", params) if self.spam.gammas else []
        torch._foreach_zero_(moments + steps)

    def _damp(self, params: list[Tensor], spike: Tensor) -> None:
        """After a spike: exp_avg × 0.5, exp_avg_sq and its maximum × 0.9.

        On a CPU nothing has to be waited for, and a step without a spike touches no moment. On a
        GPU every step multiplies, by one in most of them.
        """
        if params[0].device.type == "cpu" and not self.may_be_captured(params) and not spike:
            return
        # float64: a factor of 0.9 rounded to float32 would not be 0.9 for float64 moments.
        one = torch.ones((), dtype=torch.float64, device=spike.device)
        half, most = torch.where(spike, 0.5, one), torch.where(spike, 0.9, one)
        if all(param.dtype is torch.float32 for param in params):
            half, most = half.float(), most.float()  # or each multiplication would do it
        for name, factor in zip(MOMENTS, (half, most, most), strict=True):
            moments = [self.state[p][name] for p in params if name in self.state[p]]
            if moments:
                torch._foreach_mul_(moments, factor)

    def _update(self, index: int, params: list[Tensor], divisor: Tensor | None) -> None:
        """Adam's arithmetic over one group, after dividing its gradients by ``divisor``."""
        group = self.param_groups[index]
        # The functional form, not super().step(): torch wraps step() class by class to run
        # hooks, and a step() that calls its parent's would run all of them twice.
        states = [self.state[param] for param in params]
        # The warm-up after a reset scales the step and never group["lr"], where it would
        # compound; decoupled decay is lr * weight_decay and stays what it was.
        scale, decay = self.spam.scale(self.steps), group["weight_decay"]
        rate: float | Tensor
        decays_apart = decay and group["decoupled_weight_decay"] and self.spam.warmup_steps
        if index in self._rates:
            rate, keep = self._rates[index].unbind()
            if decays_apart:
                torch._foreach_mul_(params, keep)
                decay = 0.0
        else:
            rate = float(group["lr"]) * scale
            if decays_apart:
                decay /= scale
        adam(
            params,
            _gradients(params),
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [state["max_exp_avg_sq"] for state in states] if group["amsgrad"] else [],
            [state["step"] for state in states],
            fused=_base.can_fuse(params),
            foreach=False,
            grad_scale=divisor,
            decoupled_weight_decay=group["decoupled_weight_decay"],
            amsgrad=group["amsgrad"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=rate,
            weight_decay=decay,
            eps=group["eps"],
            maximize=group["maximize"],
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; takes one of torch's Adam or AdamW, too."""
        super().load_state_dict(state_dict)
        self._restore_statistics(state_dict)

    def _restore_statistics(self, state_dict: Mapping[str, Any]) -> None:
        """As they were saved: torch turns every state into its parameter's type."""
        numbers = (n for group in state_dict["param_groups"] for n in group["params"])
        params = (param for group in self.param_groups for param in group["params"])
        for param, number in zip(params, numbers, strict=True):
            saved = state_dict["state"].get(number, {}).get(_stable.STATISTICS)
            if saved is not None:
                self.state[param][_stable.STATISTICS] = saved.detach().clone().to(param.device)


def _gradients(params: list[Tensor]) -> list[Tensor]:
    """The gradients of parameters that have one."""
    return [param.grad for param in params if param.grad is not None]
