"""The pruner: a score, a schedule and a scope, attached to an optimizer's step by hooks.

Monotone methods (magnitude, state): a pruned weight is zero, its gradient is masked before each
step and its optimizer states were zeroed when it was pruned, so that no momentum revives it.

Returning methods (movement): outside the step the parameter holds W ⊙ M; the full W is kept
beside it, put back for the optimizer's step, and masked again after it. The gradient is masked for
the step as well, ∂L/∂W = ∂L/∂W′ ⊙ M: a pruned weight learns nothing until it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adamwprune.optimizers._base import SETTLING, KeepsMoments
from adamwprune.pruning import _selection
from adamwprune.pruning._schedule import Schedule, count
from adamwprune.pruning._score import Score

SCOPES = ("global", "layer")
STORAGES = ("bool", "implied")


class ContractViolation(RuntimeError):
    """The zeros in the weights are not the ones that were pruned."""


def prunable(model: nn.Module) -> dict[str, Tensor]:
    """Trained weights of convolutions and linear layers by name; no biases, no normalisation."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    found: dict[Tensor, str] = {}  # tied weights are one, under the first name
    for name, module in model.named_modules():
        if isinstance(module, kinds) and module.weight.requires_grad:
            found.setdefault(module.weight, f"{name}.weight".lstrip("."))
    return {name: weight for weight, name in found.items()}


class Pruner:
    """Prunes the convolutions and linear layers of ``model`` along ``schedule``.

    ``scope``: ``global`` (one threshold over all weights) or ``layer`` (the same fraction of
    each). ``storage``: ``bool`` (a mask of one byte a weight) or ``implied`` (a weight is pruned
    where it and its Adam states are zero: no bytes; monotone methods under an optimizer of the
    Adam family only; a weight that starts at exactly zero and has no gradient counts as pruned).

    Raises ``ValueError`` for an unknown scope or storage, :class:`ContractViolation` after an
    update whose zeros, counted in the weights, are not exactly k.
    """

    def __init__(
        self,
        model: nn.Module,
        score: Score,
        schedule: Schedule,
        scope: str = "global",
        storage: str = "bool",
    ) -> None:
        if scope not in SCOPES:
            raise ValueError(f"Invalid scope: {scope} (there are {', '.join(SCOPES)})")
        if storage not in STORAGES:
            raise ValueError(f"Invalid storage: {storage} (there are {', '.join(STORAGES)})")
        if storage == "implied" and score.returns:
            raise ValueError("an implied mask needs a method whose pruned weights stay pruned")
        self.weights = prunable(model)
        if score.prunes and not self.weights:
            raise ValueError("the model has no convolution and no linear layer to prune")
        self.score = score
        self.schedule = schedule
        self.scope = scope
        self.storage = storage
        self.steps = 0  # optimizer steps seen
        self.k = 0  # weights that are to be zero now
        self.returned = 0  # pruned weights that came back, summed over all updates
        self.updates: list[dict[str, float]] = []
        self._due = False
        self._masks: dict[str, Tensor] = {}  # True = pruned
        self._kept: dict[str, Tensor] = {}  # full weights of a returning method
        self._optimizer: Optimizer | None = None

    # -- in the loop ---------------------------------------------------------

    def attach(self, optimizer: Optimizer) -> Pruner:
        """Prune in ``optimizer.step()`` from now on; returns the pruner itself.

        Raises ``ValueError`` for an optimizer that does not keep the states the score or an
        implied mask needs, does not train all weights, or where the pruner is attached already.
        """
        if self._optimizer is not None:
            raise ValueError("the pruner is attached already")
        trained = {id(param) for group in optimizer.param_groups for param in group["params"]}
        if any(id(weight) not in trained for weight in self.weights.values()):
            raise ValueError("the optimizer does not train all weights of the model")
        if self.score.prunes:
            adam = isinstance(optimizer, (KeepsMoments, torch.optim.Adam))
            if self.storage == "implied" and not adam:
                raise ValueError("an implied mask needs an optimizer of the Adam family")
            if self.score.reads_states and not adam:
                raise ValueError("pruning by state needs an optimizer of the Adam family")
            optimizer.register_step_pre_hook(self._before_step)
            optimizer.register_step_post_hook(self._after_step)
        self._optimizer = optimizer
        return self

    @torch.no_grad()
    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if kwargs.get("closure") or (len(args) > 1 and args[1] is not None):
            # It would run the model, and make gradients, after this masked them.
            raise RuntimeError("a pruned optimizer's step() takes no closure")
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            if name in self._kept:
                weight.copy_(self._kept[name])
            self.score.observe(weight, weight.grad)  # unmasked: pruned weights keep scoring
            if self.k:
                weight.grad.masked_fill_(self._pruned(name), 0)

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.steps += 1
        if self.score.returns:
            self._keep_full_weights()
        self._due = self._due or self.schedule.is_due(self.steps)
        forced = self.steps == self.schedule.ramp_end
        if self._due and (forced or not self._settling(optimizer)):
            self._due = False
            self._update()
        elif self.score.returns:
            self._apply_masks()

    def _settling(self, optimizer: Optimizer) -> bool:
        return isinstance(optimizer, KeepsMoments) and optimizer.steps_since_reset < SETTLING

    # -- one mask update -----------------------------------------------------

    def _update(self) -> None:
        if not self.score.returns:
            self.verify()  # before the choice below prunes again what came back since the last
        sparsity = self.schedule.sparsity(self.steps)
        self.k = count(sparsity, self.numel)
        before = {name: self._pruned(name) for name in self.weights}
        masks = dict(zip(self.weights, self._choose(before), strict=True))
        self.returned += sum(int((before[n] & ~masks[n]).sum()) for n in masks)
        for name, mask in masks.items():
            self._prune(name, mask)
        self.updates.append({"step": self.steps, "target": sparsity, "zeros": self.k})
        self.verify()

    def _choose(self, before: Mapping[str, Tensor]) -> list[Tensor]:
        """The new masks: exactly k weights, and all of ``before`` unless weights can return."""
        scores = [self._scores(name, before[name]) for name in self.weights]
        if self.scope == "global":
            return _selection.lowest(scores, self.k)
        numels = [score.numel() for score in scores]
        fixed = [0 if self.score.returns else int(before[name].sum()) for name in self.weights]
        parts = _selection.apportion(self.k, numels, fixed)
        return [
            _selection.lowest([score], part)[0] for score, part in zip(scores, parts, strict=True)
        ]

    def _scores(self, name: str, pruned: Tensor) -> Tensor:
        assert self._optimizer is not None
        weight = self.weights[name]
        scores = self.score.score(weight, self._optimizer.state[weight])
        # A pruned weight of a monotone method scores lowest of all and so stays pruned.
        return scores if self.score.returns else scores.masked_fill(pruned, -torch.inf)

    def _prune(self, name: str, mask: Tensor) -> None:
        assert self._optimizer is not None
        weight = self.weights[name]
        weight.masked_fill_(mask, 0)
        if self.storage == "bool":
            self._masks[name] = mask.clone()  # a view would keep the whole selection alive
        if self.score.returns:
            return
        for state in self._optimizer.state[weight].values():
            if isinstance(state, Tensor) and state.shape == weight.shape:
                state.masked_fill_(mask, 0)

    def _pruned(self, name: str) -> Tensor:
        """The mask of one weight, True = pruned."""
        weight = self.weights[name]
        if self.k == 0 or (self.storage == "bool" and name not in self._masks):
            return torch.zeros_like(weight, dtype=torch.bool)
        if self.storage == "bool":
            return self._masks[name]
        assert self._optimizer is not None
        exp_avg_sq: Tensor = self._optimizer.state[weight]["exp_avg_sq"]
        return (weight == 0) & (exp_avg_sq == 0)

    def _keep_full_weights(self) -> None:
        for name, weight in self.weights.items():
            if name not in self._kept:
                self._kept[name] = weight.detach().clone()
            else:
                self._kept[name].copy_(weight)

    def _apply_masks(self) -> None:
        for name, mask in self._masks.items():
            self.weights[name].masked_fill_(mask, 0)

    # -- what is there -------------------------------------------------------

    @property
    def numel(self) -> int:
        """Number of prunable weights."""
        return sum(weight.numel() for weight in self.weights.values())

    def layers(self) -> list[dict[str, Any]]:
        """Name, number of weights and number of zeros of each layer, counted in the weights."""
        return [
            {"name": name, "numel": weight.numel(), "zeros": int((weight == 0).sum())}
            for name, weight in self.weights.items()
        ]

    def zeros(self) -> int:
        """Zeros among the prunable weights, counted in the weights."""
        return sum(layer["zeros"] for layer in self.layers())

    def sparsity(self) -> float:
        """Fraction of zeros among the prunable weights, counted in the weights."""
        return self.zeros() / self.numel if self.numel else 0.0

    def verify(self) -> None:
        """Raise :class:`ContractViolation` unless exactly k weights are zero."""
        zeros = self.zeros()
        if self.score.prunes and zeros != self.k:
            raise ContractViolation(
                f"after step {self.steps}: {zeros} of {self.numel} weights are zero, "
                f"{self.k} were pruned"
            )

    def buffers(self) -> dict[str, list[Tensor]]:
        """Every tensor that pruning keeps from step to step, by owner."""
        own = {"kept_weights": list(self._kept.values()), "masks": list(self._masks.values())}
        return {name: found for name, found in {**self.score.buffers(), **own}.items() if found}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs; implied masks are in the weights already."""
        return {
            "steps": self.steps,
            "k": self.k,
            "returned": self.returned,
            "updates": list(self.updates),
            "due": self._due,
            "masks": dict(self._masks),
            "kept": dict(self._kept),
            "score": self.score.state_dict(list(self.weights.values())),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; the weights are loaded by their model."""
        self.steps, self.k = state["steps"], state["k"]
        self.returned, self.updates = state["returned"], list(state["updates"])
        self._due = state["due"]
        self._masks = self._cloned(state["masks"])
        self._kept = self._cloned(state["kept"])
        self.score.load_state_dict(state["score"], list(self.weights.values()))

    def _cloned(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: t.detach().clone().to(self.weights[n].device) for n, t in tensors.items()}
