"""Hooks by which a pruner takes part in an optimizer's steps and in its saved state."""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from adamwprune.optimizers._base import Base, untraced

# Optimizers that leave a weight at zero if its gradient and its states are zero.
KEEP_ZEROS = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam,
              torch.optim.RAdam)  # fmt: skip
KEY = "pruner"  # the beginning of a pruner's name in the first group of an optimizer's state_dict


class TakesPart(Protocol):
    """What is attached."""

    key: str  # the name of its state in the optimizer's; see free_key

    def before_step(self, optimizer: Optimizer) -> None:
        """Called when all gradients are there."""

    def after_step(self, optimizer: Optimizer) -> None:
        """Called after a step that was made."""

    def state_dict(self) -> dict[str, Any]: ...

    def whole_states(self) -> Iterable[tuple[Tensor, dict[str, Any]]]:
        """Parameters whose states the optimizer keeps in a form of the pruner's, and these in the
        optimizer's own form.
        """

    def refuse_foreign(self, state: Mapping[str, Any]) -> None:
        """Raise ``ValueError`` for a state that cannot be loaded."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Attachment:
    """Hooks of ``pruner`` on ``optimizer``, until they are removed.

    Two kinds of step are not counted: one that a GradScaler makes a fused optimizer skip, and the
    empty one by which torch.distributed.checkpoint makes an optimizer's states. With a GradScaler a
    fused optimizer gets scaled gradients: they are unscaled before the pruner sees them. A ``step``
    that calls its parent class's is one step, although torch may run the hooks of both.

    The pruner's state is saved with the optimizer's ``state_dict`` and loaded with it. It lies in
    the first group, which is what distributed checkpoints keep beside the states, as bytes in a
    uint8 tensor.
    """

    def __init__(self, pruner: TakesPart, optimizer: Optimizer) -> None:
        self.pruner = pruner
        self.optimizer = optimizer
        self._is_step = False  # whether the pruner takes part in the present one
        self._read: dict[str, Any] = {}  # of a checkpoint, until the optimizer has loaded it too
        self._depth = 0  # hooked calls of step() that are running, one within the other
        found = optimizer.param_groups[0].get(pruner.key)
        if isinstance(found, Tensor):  # the optimizer was loaded before
            pruner.load_state_dict(unpacked(found))
        self._hooks = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
            optimizer.register_state_dict_post_hook(self._saving),
            optimizer.register_load_state_dict_pre_hook(self._loading),
            optimizer.register_load_state_dict_post_hook(self._loaded),
        ]
        self._hold_place(optimizer)

    def remove(self) -> None:
        """Take no part any more."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.optimizer.param_groups[0].pop(self.pruner.key, None)

    # -- steps -----------------------------------------------------------------

    def _before(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self._depth and not _is_within_step(optimizer):
            self._depth = 0  # the step before has raised
        self._depth += 1
        if self._depth > 1:
            return None
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._prepare()
            return None
        self._is_step = False
        prepared = self._preparing(closure)
        if len(args) > 1:
            return (args[0], prepared, *args[2:]), kwargs
        return args, {**kwargs, "closure": prepared}

    def _preparing(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """The closure, after which the gradients are there."""
        calls = 0

        def evaluate() -> Any:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise RuntimeError(
                    f"{type(self.optimizer).__name__} evaluates its closure several times a step: "
                    "a pruned optimizer may do so once"
                )
            with torch.enable_grad():
                loss = closure()
            self._prepare()
            return loss

        return evaluate

    @untraced
    @torch.no_grad()
    def _prepare(self) -> None:
        self._is_step = self._unscale() and not self._only_makes_states()
        if self._is_step:
            self.pruner.before_step(self.optimizer)

    @untraced
    @torch.no_grad()
    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._depth -= 1
        if self._is_step and self._depth == 0:
            self.pruner.after_step(optimizer)

    def _unscale(self) -> bool:
        """Divide gradients by a GradScaler's scale; false where it has the step skipped."""
        scale: Tensor | None = getattr(self.optimizer, "grad_scale", None)
        overflow: Tensor | None = getattr(self.optimizer, "found_inf", None)
        if overflow is not None and overflow.item():
            return False
        if scale is not None:
            for gradient in self._gradients():
                gradient.div_(scale.to(gradient.device))
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        return True

    def _only_makes_states(self) -> bool:
        if self.optimizer.state or any(float(g["lr"]) for g in self.optimizer.param_groups):
            return False
        return not any(gradient.any() for gradient in self._gradients())

    def _gradients(self) -> list[Tensor]:
        groups = self.optimizer.param_groups
        return [p.grad for group in groups for p in group["params"] if p.grad is not None]

    # -- state -----------------------------------------------------------------

    def _hold_place(self, optimizer: Optimizer) -> None:
        """Distributed checkpoints read what the first group of a new optimizer has."""
        optimizer.param_groups[0][self.pruner.key] = {}

    def _saving(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> None:
        if state_dict["param_groups"]:
            state_dict["param_groups"][0][self.pruner.key] = packed(self.pruner.state_dict())
        whole = self.pruner.whole_states()
        params = (param for group in optimizer.param_groups for param in group["params"])
        numbers = {id(param): number for number, param in enumerate(params)}
        for weight, states in whole:
            state_dict["state"][numbers[id(weight)]] = states

    def _loading(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        first, *others = state_dict["param_groups"]
        if not isinstance(first.get(self.pruner.key), Tensor):
            names = [n for n, v in first.items() if n.startswith(KEY) and isinstance(v, Tensor)]
            raise ValueError(
                "the optimizer's checkpoint has no state of this pruner"
                + (f", only {', '.join(names)}" if names else ": it was saved without one")
                + "; detach() the pruner to load it all the same"
            )
        self._read = unpacked(first[self.pruner.key])
        self.pruner.refuse_foreign(self._read)
        first = {name: value for name, value in first.items() if name != self.pruner.key}
        return {**state_dict, "param_groups": [first, *others]}

    def _loaded(self, optimizer: Optimizer) -> None:
        """Load the pruner's state after the optimizer's: of neither, if that refuses its own."""
        self._hold_place(optimizer)
        self.pruner.load_state_dict(self._read)
        self._read = {}


def hooked(optimizer: Any) -> Optimizer:
    """The optimizer whose ``step`` runs hooks: that in a wrapper, as Accelerate's and Lightning's.

    Raises ``TypeError`` for what is no optimizer, ``ValueError`` for one that evaluates its closure
    several times a step.
    """
    while "_optimizer_step_pre_hooks" not in getattr(optimizer, "__dict__", ()):
        inner = getattr(optimizer, "optimizer", None)
        if not isinstance(inner, Optimizer) or inner is optimizer:
            kind = type(optimizer).__name__
            raise TypeError(f"{kind} is no torch optimizer whose weights a pruner can follow")
        optimizer = inner
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("LBFGS moves weights several times a step: it cannot be pruned")
    found: Optimizer = optimizer
    return found


def free_key(name: str, optimizer: Optimizer) -> str:
    """A key for the state of a pruner whose first weight is ``name``.

    Pruners of two models that one optimizer trains may have weights of the same names.
    """
    hooks = optimizer._optimizer_step_pre_hooks.values()
    others = [getattr(hook, "__self__", None) for hook in hooks]
    taken = {other.pruner.key for other in others if isinstance(other, Attachment)}
    keys = (f"{KEY} of {name}" + (f" ({n})" if n > 1 else "") for n in itertools.count(1))
    return next(key for key in keys if key not in taken)


def _is_within_step(optimizer: Optimizer) -> bool:
    """Whether the hooked ``step`` that calls a hook runs within another one of ``optimizer``.

    torch hooks ``step`` class by class: that of a subclass and that of its parent.
    """
    step = sys._getframe(2)
    frame = step.f_back
    while frame is not None:
        if frame.f_code is step.f_code and frame.f_locals.get("self") is optimizer:
            return True
        frame = frame.f_back
    return False


def keeps_zeros(optimizer: Optimizer) -> bool:
    """Whether a step leaves a weight at zero if its gradient and its states are zero."""
    return isinstance(optimizer, Base) or type(optimizer) in KEEP_ZEROS


def packed(state: Mapping[str, Any]) -> Tensor:
    """A state as bytes, uint8 [n]; n is a power of two."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    written = buffer.getvalue() + len(buffer.getbuffer()).to_bytes(8, "little")
    size = 1 << len(written).bit_length()
    return torch.frombuffer(bytearray(written.rjust(size, b"\0")), dtype=torch.uint8)


def unpacked(found: Tensor) -> dict[str, Any]:
    """The inverse of :func:`packed`."""
    written = found.cpu().numpy().tobytes()
    number = int.from_bytes(written[-8:], "little")
    buffer = io.BytesIO(written[-8 - number : -8])
    state: dict[str, Any] = torch.load(buffer, map_location="cpu", weights_only=True)
    return state
