"""The pruner: a score, a schedule and a scope, attached to an optimizer's step by hooks.

Monotone methods (all but movement): a pruned weight is zero, its gradient is masked before each
step and its optimizer states were zeroed when it was pruned, so that no momentum revives it.

Returning methods (movement): outside the step the parameter holds W ⊙ M; the full W is kept
beside it, put back for the optimizer's step, and masked again after it. The gradient is masked for
the step as well, ∂L/∂W = ∂L/∂W′ ⊙ M: a pruned weight learns nothing until it returns.

Gradients are masked where the weight is zero, which needs no mask: an update has just made sure
that these are the pruned ones. A weight that training happens to set to exactly zero misses that
step's gradient, and moves on with its momentum.

The contract, counted in the tensors before and after every mask update and at the end, never in
between, so that no other step waits for the device: exactly k weights are zero, those that were
pruned among them, and their moments are zero where the method is monotone. Nothing but an update
sets a weight to zero: what was revived in between has not become zero again by itself.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adamwprune.optimizers._base import SETTLING, Base, KeepsMoments
from adamwprune.pruning._histogram import LIMIT, histogram
from adamwprune.pruning._schedule import Schedule
from adamwprune.pruning._scope import SCOPES
from adamwprune.pruning._score import Score
from adamwprune.pruning._storage import STORAGES, Implied

# Optimizer states that stay zero while the weight and its gradient are.
MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")


class ContractViolation(RuntimeError):
    """The zeros in the weights are not the ones that were pruned."""


class _Counts(NamedTuple):
    """Of one layer, counted in its tensors."""

    zeros: int
    pruned: int  # in the mask
    regrown: int  # of these, those that are not zero
    stale: int  # moments of these that are not zero


def prunable(model: nn.Module) -> dict[str, Tensor]:
    """Trained weights of convolutions and linear layers by name; no biases, no normalisation."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    found: dict[Tensor, str] = {}  # tied weights are one, under the first name
    for name, module in model.named_modules():
        if isinstance(module, kinds) and module.weight.requires_grad:
            found.setdefault(module.weight, f"{name}.weight".lstrip("."))
    return {name: weight for weight, name in found.items()}


def _group_of(weight: Tensor, optimizer: Optimizer) -> int:
    for index, group in enumerate(optimizer.param_groups):
        if any(param is weight for param in group["params"]):
            return index
    raise ValueError("the optimizer does not train all weights of the model")


def _step_sizes(optimizer: Optimizer) -> list[float | Tensor]:
    """Of the step to come, by group."""
    if isinstance(optimizer, Base):
        return [optimizer.step_size(index) for index in range(len(optimizer.param_groups))]
    return [group["lr"] for group in optimizer.param_groups]


@torch.no_grad()
def mask_gradient(weight: Tensor) -> None:
    """Zero the gradient of ``weight``, in place, where the weight is zero."""
    assert weight.grad is not None
    # The derivative of hardshrink: a gradient passes where |w| > 0. One pass without a mask, five
    # to ten times as fast on a CPU as a comparison and masked_fill_.
    torch.ops.aten.hardshrink_backward.grad_input(weight.grad, weight, 0.0, grad_input=weight.grad)


class Pruner:
    """Prunes the convolutions and linear layers of ``model`` along ``schedule``.

    ``scope``: ``global`` (one threshold over all weights), ``layer`` (the same fraction of each),
    ``erk`` (Erdős–Rényi-kernel: small layers denser) or ``2-4`` (2 of 4 neighbours in a row).
    ``floor``: how many weights of each layer are kept at least. ``storage``: ``bool`` (a mask of
    one byte a weight), ``bits`` (of one bit a weight) or ``implied`` (a weight is pruned where it
    and its Adam states are zero: no bytes; monotone methods under an optimizer of the Adam family
    only; a weight that starts at exactly zero and has no gradient counts as pruned).

    Raises ``ValueError`` for an unknown scope or storage and for a target that the scope cannot
    reach, :class:`ContractViolation` in a step whose update finds or leaves other zeros than it
    must (:meth:`verify`).
    """

    def __init__(
        self,
        model: nn.Module,
        score: Score,
        schedule: Schedule,
        scope: str = "global",
        storage: str = "bool",
        floor: int = 0,
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
        shapes = {name: tuple(weight.shape) for name, weight in self.weights.items()}
        self.scope = SCOPES[scope](shapes, schedule.target, floor)
        self.masks = STORAGES[storage](self.weights)
        self.steps = 0  # optimizer steps seen
        self.k = 0  # weights that are to be zero now
        self.updates: list[dict[str, float]] = []
        self._unpruned: list[int] = []  # the weights in bins, just before the first update
        self._groups: dict[str, int] = {}  # which of the optimizer's groups a weight is in
        self._due = False
        self._returned = dict.fromkeys(self.weights, 0)  # pruned weights that came back
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
        groups = {name: _group_of(weight, optimizer) for name, weight in self.weights.items()}
        if self.score.prunes:
            adam = isinstance(optimizer, (KeepsMoments, torch.optim.Adam))
            if isinstance(self.masks, Implied) and not adam:
                raise ValueError("an implied mask needs an optimizer of the Adam family")
            if self.score.reads_states and not adam:
                raise ValueError("pruning by state needs an optimizer of the Adam family")
            self.score.begin(list(self.weights.values()))
            self._groups = groups
            optimizer.register_step_pre_hook(self._before_step)
            optimizer.register_step_post_hook(self._after_step)
        self._optimizer = optimizer
        return self

    @torch.no_grad()
    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if kwargs.get("closure") or (len(args) > 1 and args[1] is not None):
            # It would run the model, and make gradients, after this masked them.
            raise RuntimeError("a pruned optimizer's step() takes no closure")
        rates = _step_sizes(optimizer)
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            full = self._kept.get(name, weight)
            # The gradient is unmasked: pruned weights keep scoring.
            self.score.observe(weight, full, weight.grad, rates[self._groups[name]])
            if self.k:
                mask_gradient(weight)
            if full is not weight:
                weight.copy_(full)

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.steps += 1
        if self.score.returns:
            self._keep_full_weights()
        self._due = self._due or self.schedule.is_due(self.steps)
        forced = self.schedule.is_forced(self.steps)
        if self._due and (forced or not self._settling(optimizer)):
            self._due = False
            self._update()
        elif self.score.returns:
            self._apply_masks()

    def step_kind(self) -> Hashable:
        """What the next step does beside arithmetic on tensors; None where a mask update may come.

        For whoever captures steps in a CUDA graph; see
        :class:`~adamwprune.optimizers._base.Base`.
        """
        if not self.score.prunes:
            return ()
        if self._due or self.schedule.is_due(self.steps + 1):
            return None
        return self.k > 0

    def step_replayed(self) -> None:
        """Count a step whose kernels a graph has replayed."""
        self.steps += self.score.prunes

    def _settling(self, optimizer: Optimizer) -> bool:
        return isinstance(optimizer, KeepsMoments) and optimizer.steps_since_reset < SETTLING

    # -- one mask update -----------------------------------------------------

    def _update(self) -> None:
        if not self.score.returns:
            self._verify_masks()  # before the choice below prunes again what came back
        if not self.updates:
            self._unpruned = histogram(self.weights.values())
        sparsity = self.schedule.sparsity(self.steps)
        before = {name: self._pruned(name) for name in self.weights}
        self.k = self.scope.k(sparsity)
        scores = {name: self._scores(name, mask) for name, mask in before.items()}
        masks = self.scope.choose(scores, self.k, {} if self.score.returns else before)
        returned = self._count_returned(before, masks)
        for name, mask in masks.items():
            self._prune(name, mask)
        update = {"step": self.steps, "target": sparsity, "zeros": self.k, "returned": returned}
        self.updates.append(update)
        self._verify_masks()

    def _scores(self, name: str, pruned: Tensor) -> Tensor:
        assert self._optimizer is not None
        weight = self.weights[name]
        scores = self.score.score(weight, self._optimizer.state[weight])
        # A pruned weight of a monotone method scores lowest of all and so stays pruned.
        return scores if self.score.returns else scores.masked_fill(pruned, -torch.inf)

    def _count_returned(self, before: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> int:
        counts = torch.stack([(before[name] & ~masks[name]).sum() for name in self.weights])
        found: list[int] = counts.tolist()
        for name, count in zip(self.weights, found, strict=True):
            self._returned[name] += count
        return sum(found)

    def _prune(self, name: str, mask: Tensor) -> None:
        weight = self.weights[name]
        weight.masked_fill_(mask, 0)
        self.masks[name] = mask
        if self.score.returns:
            return
        for state in self._states(weight).values():
            if isinstance(state, Tensor) and state.shape == weight.shape:
                state.masked_fill_(mask, 0)

    def _states(self, weight: Tensor) -> Mapping[str, Any]:
        states: Mapping[str, Any] = self._optimizer.state[weight] if self._optimizer else {}
        return states

    def _pruned(self, name: str) -> Tensor:
        """The mask of one weight, True = pruned."""
        if self.k == 0:
            return torch.zeros_like(self.weights[name], dtype=torch.bool)
        return self.masks.mask(name, self._states(self.weights[name]))

    def _keep_full_weights(self) -> None:
        for name, weight in self.weights.items():
            if name not in self._kept:
                self._kept[name] = weight.detach().clone()
            else:
                self._kept[name].copy_(weight)

    def _apply_masks(self) -> None:
        if self.k:
            for name, weight in self.weights.items():
                weight.masked_fill_(self._pruned(name), 0)

    # -- the contract --------------------------------------------------------

    def verify(self) -> None:
        """Raise :class:`ContractViolation` unless the weights are pruned as they must be by now.

        Exactly k weights are zero, k being the number that the last update had to reach and, from
        the ramp's end on, the one of the target; each pruned weight is zero; and under a monotone
        method the moments of each pruned weight are.
        """
        if not self.score.prunes:
            return
        self._verify_masks()
        wanted = self._wanted_k()
        if self.k != wanted:
            raise self._violation(f"{self.k} of {self.numel} weights were pruned, not {wanted}")

    def _wanted_k(self) -> int:
        if self.steps >= self.schedule.ramp_end:
            return self.scope.target_k
        return self.scope.k(self.updates[-1]["target"]) if self.updates else 0

    @torch.no_grad()
    def _verify_masks(self) -> None:
        counts = self._counts()
        zeros = sum(each.zeros for each in counts.values())
        if zeros != self.k:
            raise self._violation(f"{zeros} of {self.numel} weights are zero, {self.k} were pruned")
        pruned = sum(each.pruned for each in counts.values())
        if pruned != self.k:
            raise self._violation(f"{pruned} weights are masked, {self.k} were pruned")
        for name, each in counts.items():
            if each.regrown:
                raise self._violation(f"{each.regrown} pruned weights of {name} are not zero")
            if each.stale:
                raise self._violation(f"{each.stale} moments of pruned weights of {name} are not 0")

    def _violation(self, text: str) -> ContractViolation:
        return ContractViolation(f"after step {self.steps}: {text}")

    def _counts(self) -> dict[str, _Counts]:
        """Of each layer; the device is asked once."""
        flat = [number for name in self.weights for number in self._layer_counts(name)]
        rows = torch.stack(flat).view(-1, len(_Counts._fields)).tolist()
        return {name: _Counts(*row) for name, row in zip(self.weights, rows, strict=True)}

    def _layer_counts(self, name: str) -> Iterator[Tensor]:
        weight, mask = self.weights[name], self._pruned(name)
        zero = weight == 0
        yield zero.sum()
        yield mask.sum()
        yield (mask & ~zero).sum()
        states = {} if self.score.returns else self._states(weight)
        moments = [states[moment] for moment in MOMENTS if states.get(moment) is not None]
        stale = [(mask & (moment != 0)).sum() for moment in moments]
        yield sum(stale, torch.zeros_like(mask.sum()))

    # -- what is there -------------------------------------------------------

    @property
    def numel(self) -> int:
        """Number of prunable weights."""
        return sum(weight.numel() for weight in self.weights.values())

    @property
    def returned(self) -> int:
        """Pruned weights that came back, summed over all updates."""
        return sum(self._returned.values())

    def layers(self) -> list[dict[str, Any]]:
        """Each layer: its name, number of weights, number of zeros counted in the weights,
        density (the fraction that is not zero), and how many pruned weights returned.
        """
        weights = self.weights.values()
        zeros = torch.stack([(w == 0).sum() for w in weights]).tolist() if weights else []
        return [
            {
                "name": name,
                "numel": weight.numel(),
                "zeros": count,
                "density": 1 - count / weight.numel(),
                "returned": self._returned[name],
            }
            for (name, weight), count in zip(self.weights.items(), zeros, strict=True)
        ]

    def zeros(self) -> int:
        """Zeros among the prunable weights, counted in the weights."""
        return sum(layer["zeros"] for layer in self.layers())

    def sparsity(self) -> float:
        """Fraction of zeros among the prunable weights, counted in the weights."""
        return self.zeros() / self.numel if self.numel else 0.0

    def record(self) -> dict[str, Any]:
        """What a run's record says of its pruning, as plain data.

        ``requested``: the target sparsity; ``k``: how many zeros that means in this scope and is
        now; ``zeros``: counted; ``prunable``: of so many weights; ``layers``; ``updates``: step,
        target, k and number of weights that returned of each; ``returned``; ``histogram``: the
        weights that are not zero in bins of equal width from ``low`` to ``high``, ``before`` the
        first update (None without one) and ``after`` training.
        """
        layers = self.layers()
        return {
            "requested": self.schedule.target,
            "k": self.k,
            "zeros": sum(layer["zeros"] for layer in layers),
            "prunable": self.numel,
            "layers": layers,
            "updates": list(self.updates),
            "returned": self.returned,
            "histogram": {
                "low": -LIMIT,
                "high": LIMIT,
                "before": self._unpruned or None,
                "after": histogram(self.weights.values()),
            },
        }

    def buffers(self) -> dict[str, list[Tensor]]:
        """Every tensor that pruning keeps from step to step, by owner."""
        own = {"kept_weights": list(self._kept.values()), "masks": self.masks.tensors()}
        return {name: found for name, found in {**self.score.buffers(), **own}.items() if found}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs; implied masks are in the weights already."""
        return {
            "steps": self.steps,
            "k": self.k,
            "returned": dict(self._returned),
            "updates": list(self.updates),
            "unpruned": list(self._unpruned),
            "due": self._due,
            "masks": self.masks.state_dict(),
            "kept": dict(self._kept),
            "score": self.score.state_dict(list(self.weights.values())),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; the weights are loaded by their model."""
        self.steps, self.k = state["steps"], state["k"]
        self._returned, self.updates = dict(state["returned"]), list(state["updates"])
        self._unpruned = list(state["unpruned"])
        self._due = state["due"]
        self.masks.load_state_dict(state["masks"])
        self._kept = self._cloned(state["kept"])
        self.score.load_state_dict(state["score"], list(self.weights.values()))

    def _cloned(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: t.detach().clone().to(self.weights[n].device) for n, t in tensors.items()}
