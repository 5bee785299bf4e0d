"""Gradients that are released as they are used: each parameter is stepped in ``backward()``, as
soon as its gradient is there, and the gradient is freed.

So no more than one gradient exists at a time, the largest of which is 1/3 of GPT-2's parameters. It
is the step that ``optimizer.step()`` would have made, to the bit. What needs all gradients at once
cannot be done: a norm over them (clipping, SPAM's z-score), accumulation over several batches, a
``GradScaler`` that skips steps with an overflow.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol
from weakref import ref

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from adamwprune.optimizers._base import Base


class Follower(Protocol):
    """A pruner: it takes part in the step of each of its weights."""

    def before_weight(self, weight: Tensor) -> None:
        """Called when the gradient of a parameter is there, before its step."""

    def after_weight(self) -> None:
        """Called after the step of that parameter."""


class ReleasedGradients:
    """Steps the parameters of ``optimizer`` one by one in ``backward()``; ``optimizer.step()`` ends
    the step. ``pruner``: the one that is attached to it, if there is one.

    Raises ``ValueError`` for an optimizer whose step needs all gradients at once.
    """

    # Told each gradient before its step, when the pruner has masked it.
    on_gradient: Callable[[Tensor], None] | None = None

    def __init__(self, optimizer: Optimizer, pruner: Follower | None = None) -> None:
        if isinstance(optimizer, torch.optim.LBFGS):
            raise ValueError(
                "LBFGS needs all gradients at once: they cannot be released one by one"
            )
        if isinstance(optimizer, Base) and (reason := optimizer.needs_all_gradients):
            raise ValueError(f"{reason} needs all gradients at once: they cannot be released")
        self.optimizer = optimizer
        self.pruner = pruner
        self.largest = 0  # bytes of the largest gradient so far
        self._places: dict[int, tuple[int, int]] = {}  # of a parameter: its group, and where in it
        self._hooks: list[RemovableHandle] = []

    def attach(self) -> ReleasedGradients:
        """Release gradients from the next ``backward()`` on; returns the object itself."""
        # A parameter's hooks are kept where Python's collector does not see them: one that held
        # what holds the parameter would never be freed.
        ours = ref(self)

        def step(param: Tensor) -> None:
            if (found := ours()) is not None:
                found._step(param)

        self.optimizer._released_gradients = self  # type: ignore[attr-defined]  # as long as it is
        for number, group in enumerate(self.optimizer.param_groups):
            for index, param in enumerate(group["params"]):
                self._places[id(param)] = number, index
                self._hooks.append(param.register_post_accumulate_grad_hook(step))
        return self

    def detach(self) -> None:
        """Leave gradients where they are."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._places.clear()
        vars(self.optimizer).pop("_released_gradients", None)

    @torch.no_grad()
    def _step(self, param: Tensor) -> None:
        assert param.grad is not None
        self.largest = max(self.largest, param.grad.nbytes)
        if self.pruner is not None:
            self.pruner.before_weight(param)
        self._step_alone(*self._places[id(param)])
        if self.pruner is not None:
            self.pruner.after_weight()
        param.grad = None

    def _step_alone(self, number: int, index: int) -> None:
        """A step of the optimizer, without its hooks, that sees one parameter."""
        optimizer, groups = self.optimizer, self.optimizer.param_groups
        alone = groups[number]["params"][index]  # under a pruner a vector may stand there
        if self.on_gradient is not None:
            self.on_gradient(alone.grad)
        hooks = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks
        optimizer._optimizer_step_pre_hooks = OrderedDict()
        optimizer._optimizer_step_post_hooks = OrderedDict()
        optimizer.param_groups = [
            {**group, "params": [alone] if place == number else []}
            for place, group in enumerate(groups)
        ]
        steps = optimizer.steps if isinstance(optimizer, Base) else 0
        try:
            type(optimizer).step(optimizer)  # a scheduler counts calls of the instance's own
        finally:
            optimizer.param_groups = groups
            optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks = hooks
            if isinstance(optimizer, Base):
                optimizer.steps = steps  # optimizer.step() counts it
