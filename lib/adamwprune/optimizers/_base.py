"""What every optimizer here shares: parameter checks, gradients of a group, clipping."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

Closure = Callable[[], float] | None
F = TypeVar("F", bound=Callable[..., Any])

FLOAT = 4  # bytes of a float32
CLIP_EPS = 1e-6  # torch's, added to the norm that gradients are divided by


class StateBytes(NamedTuple):
    """What a state takes, in bytes: for each number of the parameters, for each parameter tensor
    whatever its size, and once for all.
    """

    number: int = 0
    tensor: int = 0
    once: int = 0

    def of(self, numbers: int, tensors: int) -> int:
        """Bytes for this number of numbers in this number of parameter tensors."""
        return self.number * numbers + self.tensor * tensors + self.once


class Base(torch.optim.Optimizer):
    """torch's base class with gradient-norm clipping, copies that can go on, and steps that a CUDA
    graph can hold.

    A graph replays kernels: numbers that change from step to step must lie in tensors by then, and
    what Python decides must be the same again. For whoever captures ``step()``
    (:mod:`adamwprune.train.graphs`): :meth:`step_kind` names what Python decides in the next one,
    :meth:`write_rates` has to be called before each replay and :meth:`step_replayed` after it.
    """

    max_grad_norm: float  # 0: no clipping
    steps = 0  # steps done
    # What torch does not know of.
    _own: tuple[str, ...] = ("max_grad_norm", "steps", "capturable", "_rates", "_written")
    capturable: bool | None = None  # whether steps are to be captured; None: those on a GPU
    # Told in each step, by an optimizer that looks for spikes, whether its gradient was one, a bool
    # tensor. It is not kept as an attribute: it would be a state, which the ledger does not count.
    on_spike: Callable[[Tensor], None] | None = None

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        self._rates: dict[int, Tensor] = {}  # by group: float32 [2], see _step_rates
        self._written: dict[int, tuple[float, float]] = {}  # what is in them

    def declared_states(self) -> Mapping[str, StateBytes]:
        """What float32 parameters take in the optimizer, by the names that the ledger
        (:mod:`adamwprune.train.measure.ledger`) gives to states.
        """
        raise NotImplementedError(f"{type(self).__name__} does not declare its states")

    def step_kind(self) -> Hashable:
        """What the next step does beside arithmetic on tensors; equal for steps that do the same.

        None for a step that is like no other. The first step of a kind may make states.
        """
        return tuple(
            (name, value)
            for group in self.param_groups
            for name, value in group.items()
            if name not in ("params", "lr", "initial_lr")
        )

    def may_be_captured(self, params: list[Tensor]) -> bool:
        """Whether a step on ``params`` must read nothing back and hold no number that changes."""
        if self.capturable is not None:
            return self.capturable and bool(params)
        return any(param.device.type == "cuda" for param in params[:1])

    def step_replayed(self) -> None:
        """Count a step whose kernels a graph has replayed."""
        self.steps += 1

    def write_rates(self) -> None:
        """Put the next step's rates where its kernels read them, if they lie in tensors."""
        for index, group in enumerate(self.param_groups):
            params = group["params"]
            if not self.may_be_captured(params):
                self._rates.pop(index, None)
                continue
            rates = self._step_rates(group)
            if index not in self._rates:
                device = params[0].device
                self._rates[index] = torch.tensor(rates, dtype=torch.float32, device=device)
            elif rates != self._written[index]:
                pairs = zip(rates, self._written[index], strict=True)
                for place, (rate, before) in enumerate(pairs):
                    if rate != before:
                        self._rates[index][place].fill_(rate)
            self._written[index] = rates

    def step_size(self, index: int) -> float | Tensor:
        """The next step's size in the group of this index, for kernels that a graph may hold."""
        if not is_capturing():
            self.write_rates()
        if index in self._rates:
            return self._rates[index][0]
        return self._step_rates(self.param_groups[index])[0]

    @property
    def rate(self) -> float:
        """The next step's size in the first group: its ``lr``, times that of a warm-up."""
        return self._step_rates(self.param_groups[0])[0]

    def _step_rates(self, group: dict[str, Any]) -> tuple[float, float]:
        """The next step's step size, and the factor of decoupled decay where that is apart."""
        return group["lr"], 1.0

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

    Most of a step are torch's fused kernels, into which the compiler does not trace. The rest
    counts in Python and looks up states by parameter, which would be compiled anew each time. The
    compiler takes as long to import as torch itself: the step is excluded once somebody imports it.
    """
    excluded: list[F] = []

    @functools.wraps(step)
    def outer(*arguments: Any, **named: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return step(*arguments, **named)
        if not excluded:
            excluded.append(cast(F, torch.compiler.disable(step, reason="it is fused already")))
        return excluded[0](*arguments, **named)

    return cast(F, outer)


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


def clip_norm(params: list[Tensor], norm: Tensor, max_norm: float) -> Tensor | None:
    """Scale gradients whose joint L2 norm is ``norm`` down to ``max_norm``, without a branch.

    Where torch's fused kernels can do it on their way they are left to: returned is what they
    divide gradients by, a float32 scalar, otherwise None.
    """
    if can_fuse(params) and all(p.dtype is not torch.float64 for p in params):
        return ((norm.float() + CLIP_EPS) / max_norm).clamp_(min=1.0)
    clip_grads_with_norm_(params, max_norm, norm)
    return None


def gradient_norm(params: list[Tensor]) -> Tensor:
    """The joint L2 norm of the gradients: a tensor, nothing is read back from the device."""
    return get_total_norm([param.grad for param in params if param.grad is not None])


def is_capturing() -> bool:
    """Whether a CUDA graph is being captured; does not ask for a driver where there is none."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def can_fuse(params: list[Tensor]) -> bool:
    """Whether torch's fused kernels take these parameters."""
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in params)
