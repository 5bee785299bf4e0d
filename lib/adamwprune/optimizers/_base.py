"""What every optimizer here shares: parameter checks, gradients of a group, clipping."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

Closure = Callable[[], float] | None
F = TypeVar("F", bound=Callable[..., Any])

SETTLING = 20  # steps after the start and after a reset in which exp_avg_sq says too little


class Base(torch.optim.Optimizer):
    """torch's base class with gradient-norm clipping, and copies that can go on."""

    max_grad_norm: float  # 0: no clipping
    _own: tuple[str, ...] = ("max_grad_norm",)  # attributes that torch's base class does not know

    def __getstate__(self) -> dict[str, Any]:
        """What ``copy.deepcopy`` and ``pickle`` take along: torch's three, and ours."""
        return {**super().__getstate__(), **{name: getattr(self, name) for name in self._own}}


class KeepsMoments(Base):
    """What pruning by state asks of an optimizer: ``exp_avg`` and ``exp_avg_sq`` in its state."""

    @property
    def steps_since_reset(self) -> int:
        """Steps done with the present moments: since the last reset; large without one."""
        raise NotImplementedError


def untraced(step: F) -> F:
    """A ``step`` that ``torch.compile`` calls as it is, to the same bits and without recompiling.

    torch does not trace into its fused kernels, which are most of a step already; what is left
    counts in Python and looks up states by parameter, and each would be compiled anew.
    """
    return cast(F, torch.compiler.disable(step, reason="it is fused already"))


def check(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise torch's kind of ``ValueError`` unless ``low <= value < high``."""
    if not low <= value < high:
        raise ValueError(f"Invalid {name}: {value}")


def evaluated(closure: Closure) -> float | None:
    """The closure's loss, with gradients enabled as every optimizer does."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def with_gradients(group: dict[str, Any], optimizer: str) -> Iterator[Tensor]:
    """The parameters of a group that have a gradient; a sparse one is refused as torch does."""
    for param in group["params"]:
        if param.grad is None:
            continue
        if param.grad.is_sparse:
            raise RuntimeError(f"{optimizer} does not support sparse gradients")
        yield param


def clip_norm(params: list[Tensor], norm: Tensor, max_norm: float) -> None:
    """Scale gradients whose joint L2 norm is ``norm`` down to ``max_norm``, without a branch."""
    clip_grads_with_norm_(params, max_norm, norm)


def gradient_norm(params: list[Tensor]) -> Tensor:
    """The joint L2 norm of the gradients: a tensor, nothing is read back from the device."""
    return get_total_norm([param.grad for param in params if param.grad is not None])


def can_fuse(params: list[Tensor]) -> bool:
    """Whether torch's fused kernels take these parameters."""
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in params)
