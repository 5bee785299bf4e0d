"""What every optimizer here shares: checks, checkpoints, gradients of a group, clipping."""

from __future__ import annotations

import functools
import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from adamwprune.optimizers import _checkpoint
from adamwprune.optimizers._layout import is_dense, laid_out

Closure = Callable[[], float] | None
F = TypeVar("F", bound=Callable[..., Any])

FLOAT = 4  # bytes of a float32
CLIP_EPS = 1e-6  # torch's, added to the norm that gradients are divided by
KEPT = "adamwprune"  # the entry of the first parameter group, see Base.kept


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

    What an optimizer keeps beside the states of its parameters is in :attr:`kept`. This is an entry
    of the first parameter group: whatever saves, loads or copies ``state`` and ``param_groups``
    takes it along, :mod:`torch.distributed.checkpoint` too.

    A state dict of torch's own optimizer is taken over; settings that older versions did not have
    get the value that torch gives them. ``ValueError`` names a setting or a state that is missing.

    A graph replays kernels: numbers that change from step to step must lie in tensors by then, and
    what Python decides must be the same again. For whoever captures ``step()``
    (:mod:`adamwprune.train.graphs`): :meth:`step_kind` names what Python decides in the next one,
    :meth:`write_rates` has to be called before each replay and :meth:`step_replayed` after it.
    """

    max_grad_norm: float  # 0: no clipping
    # Of a state dict: the settings of a group and the states of a parameter that are needed, and
    # the settings that get a value where they are missing.
    needed_settings: tuple[str, ...] = ("lr",)
    needed_states: tuple[str, ...] = ()
    missing_settings: ClassVar[Mapping[str, Any]] = {}
    # What torch does not know of.
    _own: tuple[str, ...] = ("max_grad_norm", "capturable", "_rates", "_written")
    note = ""  # what a run does without that was asked for, and why
    capturable: bool | None = None  # whether steps are to be captured; None: those on a GPU
    # Told in each step, by an optimizer that looks for spikes, whether its gradient was one, a bool
    # tensor. It is not kept as an attribute: it would be a state, which the ledger does not count.
    on_spike: Callable[[Tensor], None] | None = None
    # Of each pruner that packs states: parameters and their states that are not packed.
    whole_states: tuple[Callable[[], Iterable[tuple[Tensor, dict[str, Any]]]], ...] = ()

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        self.param_groups[0][KEPT] = {"steps": 0}
        self._rates: dict[int, Tensor] = {}  # by group: float32 [2], see _step_rates
        self._written: dict[int, tuple[float, float]] = {}  # what is in them

    @property
    def kept(self) -> dict[str, Any]:
        """What is kept beside the states of parameters: numbers and tensors by name.

        ``steps``, and what a class adds. Its tensors count as states (see the ledger).
        """
        kept = self.param_groups[0].setdefault(KEPT, {"steps": 0})  # groups may have been replaced
        return cast(dict[str, Any], kept)

    @property
    def steps(self) -> int:
        """Steps done."""
        return cast(int, self.kept["steps"])

    @steps.setter
    def steps(self, steps: int) -> None:
        self.kept["steps"] = steps

    @property
    def needs_all_gradients(self) -> str:
        """What of a step needs all gradients at once; empty if nothing does."""
        return "max_grad_norm" if self.max_grad_norm else ""

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
            (name, _hashable(value))
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
        return float(group["lr"]), 1.0

    def __getstate__(self) -> dict[str, Any]:
        """What ``copy.deepcopy`` and ``pickle`` take along: torch's three, and ours.

        States that a pruner has packed are whole in it: a copy has no pruner.
        """
        found = {**super().__getstate__(), **{name: getattr(self, name) for name in self._own}}
        if self.whole_states:
            whole = {weight: states for each in self.whole_states for weight, states in each()}
            found["state"] = defaultdict(dict, {**self.state, **whole})
        return found

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a copy's attributes, or what ``load_state_dict`` has read."""
        name, groups = type(self).__name__, state["param_groups"]
        _checkpoint.check_settings(name, groups, self.needed_settings)
        _checkpoint.check_states(name, groups, state["state"], self.needed_states)
        super().__setstate__(state)
        for group in self.param_groups:
            for setting, value in self.missing_settings.items():
                group.setdefault(setting, value)
            for param in group["params"]:
                self._take_over(param, self.state.get(param, {}))
        params = [param for group in self.param_groups for param in group["params"]]
        if KEPT not in self.param_groups[0]:  # a state dict of torch's own optimizer
            steps = (int(self.state[p].get("step", 0)) for p in params if p in self.state)
            self.param_groups[0][KEPT] = {"steps": max(steps, default=0)}
        for name, value in self.kept.items():
            if isinstance(value, Tensor):
                self.kept[name] = value.to(params[0].device)

    def _take_over(self, param: Tensor, state: dict[str, Any]) -> None:
        """Have the loaded ``state`` of ``param`` as a step needs it."""
        if "step" in state:
            # Before torch 1.12 a number; torch leaves a tensor where it was saved.
            step = torch.as_tensor(state["step"], dtype=torch.float32)
            state["step"] = step.to(param.device)
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == param.shape:
                state[name] = laid_out(param, value)


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


def _hashable(value: Any) -> Hashable:
    """A setting of a group as something to compare; what is kept there is no setting."""
    if isinstance(value, Tensor):
        return tuple(value.flatten().tolist())
    if isinstance(value, list | tuple):
        return tuple(_hashable(each) for each in value)
    return None if isinstance(value, Mapping) else cast(Hashable, value)


def check_rate(lr: float | Tensor) -> None:
    """Raise torch's ``ValueError`` unless ``lr`` is a number, or a tensor of one, from 0."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    check("learning rate", lr, 0)


def checked_betas(betas: tuple[Any, Any]) -> tuple[Any, Any]:
    """Two floats as they are, two tensors of one number as scalars; otherwise torch's errors."""
    for index, beta in enumerate(betas):
        check(f"beta parameter at index {index}", beta, 0, 1)
    if not any(all(isinstance(beta, kind) for beta in betas) for kind in (float, Tensor)):
        raise ValueError("betas must be either both floats or both Tensors")
    for index, beta in enumerate(betas):
        if isinstance(beta, Tensor) and beta.numel() != 1:
            raise ValueError(f"Tensor betas[{index}] must be 1-element")
    first, second = (beta.squeeze() if isinstance(beta, Tensor) else beta for beta in betas)
    return first, second


def check(name: str, value: Any, low: float, high: float = float("inf")) -> None:
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
    """The parameters of a group that have a gradient, which is laid out as the parameter is.

    A sparse one is refused as torch does.
    """
    for param in group["params"]:
        if param.grad is None:
            continue
        if param.grad.is_sparse:
            raise RuntimeError(f"{optimizer} does not support sparse gradients")
        if param.grad.stride() != param.stride() or param.grad.is_conj():
            param.grad = laid_out(param, param.grad.resolve_conj())
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
    norm = get_total_norm([param.grad for param in params if param.grad is not None])
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of sharded ones


def is_capturing() -> bool:
    """Whether a CUDA graph is being captured; does not ask for a driver where there is none."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def can_fuse(params: list[Tensor]) -> bool:
    """Whether torch's fused kernels take these parameters: real numbers without holes between."""
    return all(
        p.device.type in ("cpu", "cuda") and p.is_floating_point() and is_dense(p) for p in params
    )
