"""The pruner: a score, a schedule and a scope, attached to an optimizer's step by hooks.

Monotone methods: a pruned weight is zero, its gradient is masked before each step and its optimizer
states were zeroed when it was pruned, so that no momentum revives it.

Returning methods (movement): outside the step the parameter holds W ⊙ M; the full W is kept
beside it, put back for the optimizer's step, and masked again after it. The gradient is masked for
the step as well, ∂L/∂W = ∂L/∂W′ ⊙ M: a pruned weight learns nothing until it returns.

Regrowing methods (SET, RigL): as monotone ones between updates; an update may take a weight into
use again, and it goes on from zero.

Gradients are masked where the weight is zero, which needs no mask: an update has just made sure
that these are the pruned ones. A weight that training happens to set to exactly zero misses that
step's gradient, and moves on with its momentum. Only where weights regrow the mask itself is
applied, since a grown weight is zero until it has had a gradient.

The contract (:mod:`adamwprune.pruning.contract`) is checked before and after every mask update and
at the end, never in between: no other step waits for the device. Nothing but an update sets a
weight to zero, so that a weight that was revived in between is found.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from adamwprune.base.sparsity import SETTLING
from adamwprune.optimizers._base import Base, KeepsMoments
from adamwprune.pruning import contract, counts, inputs
from adamwprune.pruning.contract import Sums
from adamwprune.pruning.masking import mask_gradient
from adamwprune.pruning.pruned import PrunedWeights, prunable
from adamwprune.pruning.regrowth import Regrowth
from adamwprune.pruning.schedule import Schedule
from adamwprune.pruning.scope import SCOPES
from adamwprune.pruning.score import Score
from adamwprune.pruning.select.parts import keep_pages
from adamwprune.pruning.select.weight_bins import histogram
from adamwprune.pruning.storage import STORAGES, Implied
from adamwprune.pruning.update import prune, regrow


class Pruner(PrunedWeights):
    """Prunes the weights of ``model`` that :func:`prunable` finds along ``schedule``.

    ``scope``: ``global`` (one threshold over all weights), ``layer`` (the same fraction of each),
    ``erk`` (Erdős–Rényi-kernel: small layers denser) or ``2-4`` (2 of 4 neighbours in a row).
    ``floor``: how many weights of each layer are kept at least. ``storage``: ``bool`` (a mask of
    one byte a weight), ``bits`` (of one bit a weight) or ``implied`` (a weight is pruned where it
    and its Adam states are zero: no bytes; monotone methods under an optimizer of the Adam family
    only; a weight that starts at exactly zero and has no gradient counts as pruned). A schedule of
    constant sparsity prunes in :meth:`attach`, before the first step.

    Raises ``ValueError`` for an unknown scope or storage, for a target that the scope cannot reach
    and for a method that the schedule, scope or storage does not go with,
    :class:`ContractViolation` in a step whose update finds or leaves other zeros than it must
    (:meth:`verify`).
    """

    # Called in place of each mask update, with the update, to measure it.
    around_update: Callable[[Callable[[], None]], None] | None = None

    def __init__(
        self,
        model: nn.Module,
        score: Score,
        schedule: Schedule,
        scope: str = "global",
        storage: str = "bool",
        floor: int = 0,
        names: Sequence[str] | None = None,
    ) -> None:
        _refuse_contradictions(score, schedule, scope, storage)
        weights = prunable(model, names)
        if score.prunes and not weights:
            raise ValueError("the model has no convolution and no linear layer to prune")
        super().__init__(weights, score, STORAGES[storage](weights))
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        self.schedule = schedule
        self.scope = SCOPES[scope](shapes, schedule.target, floor)
        self.updates: list[dict[str, float]] = []
        self._bins_before: list[int] = []  # the weights in bins, just before the first update
        self._groups: dict[str, int] = {}  # which of the optimizer's groups a weight is in
        self._due = False
        self._gradients: dict[str, Tensor] = {}  # unmasked, in the step of an update
        self._observed = inputs.layers_of(model, weights) if score.observes_inputs else []
        self._hooks: list[RemovableHandle] = []

    # -- in the loop ---------------------------------------------------------

    def attach(self, optimizer: Optimizer) -> Pruner:
        """Prune in ``optimizer.step()`` from now on; returns the pruner itself.

        Raises ``ValueError`` for an optimizer that does not keep the states the score or an
        implied mask needs, does not train all weights, or where the pruner is attached already.
        """
        if self.optimizer is not None:
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
            self._hooks = [
                optimizer.register_step_pre_hook(self._before_step),
                optimizer.register_step_post_hook(self._after_step),
                *inputs.observe(self._observed, self.score),
            ]
        self.optimizer = optimizer
        if self.score.prunes and self.schedule.starts_sparse:
            self._start_sparse()
        return self

    def detach(self) -> None:
        """Stop pruning for good. Zeros stay zero until the optimizer moves them."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    @torch.no_grad()
    def _start_sparse(self) -> None:
        """The mask before the first step. A weight that starts at exactly zero, about one of 16
        million, becomes the smallest number that is not: zero would count as pruned.
        """
        for weight in self.weights.values():
            weight.masked_fill_(weight == 0, torch.finfo(weight.dtype).tiny)
        self._call_update()

    @torch.no_grad()
    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if kwargs.get("closure") or (len(args) > 1 and args[1] is not None):
            # It would run the model, and make gradients, after this masked them.
            raise RuntimeError("a pruned optimizer's step() takes no closure")
        rates = _step_sizes(optimizer) if self.score.observes else []
        keeps = self.score.reads_gradients and self._may_update()
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            full = self.full.get(name, weight)
            if rates:  # the gradient is unmasked: pruned weights keep scoring
                self.score.observe(weight, full, weight.grad, rates[self._groups[name]])
            if keeps:
                self._gradients[name] = weight.grad.detach().clone()
            if self.k and self.score.regrows:
                weight.grad.masked_fill_(self.masks.mask(name, {}), 0)
            elif self.k:
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
            self._call_update()
        elif self.score.returns:
            self._apply_masks()
        self._gradients.clear()

    def _may_update(self) -> bool:
        """Whether a mask update may come in the next step."""
        return self._due or self.schedule.is_due(self.steps + 1)

    def step_kind(self) -> Hashable:
        """What the next step does beside arithmetic on tensors; None where a mask update may come.

        For the capture of steps in a CUDA graph; see :class:`~adamwprune.optimizers._base.Base`.
        """
        if not self.score.prunes:
            return ()
        if self._may_update():
            return None
        return self.k > 0

    def step_replayed(self) -> None:
        """Count a step whose kernels a graph has replayed."""
        self.steps += self.score.prunes

    def _settling(self, optimizer: Optimizer) -> bool:
        return isinstance(optimizer, KeepsMoments) and optimizer.steps_since_reset < SETTLING

    # -- one mask update -----------------------------------------------------

    def _call_update(self) -> None:
        if self.around_update:
            self.around_update(self.update)
        else:
            self.update()

    @torch.no_grad()
    def update(self) -> None:
        """Update the masks for the present step, and verify the contract before and after."""
        keep_pages()
        pruned = dict.fromkeys(self.weights, 0)
        if not self.score.returns:
            pruned = contract.verify(self)  # before the choice below prunes again what came back
        if not self.updates:
            self._bins_before = histogram(self.weights.values())
        sparsity = self.schedule.sparsity(self.steps)
        k = self.scope.k(sparsity)
        sums = None
        if isinstance(self.score, Regrowth):
            last = self.schedule.ramp_end
            returned = regrow(self, self.scope, k, pruned, self.score, last, self._gradients)
        else:
            sums = Sums(self)
            returned = prune(self, self.scope, k, pruned, sums)
        self.k = k
        for name, number in returned.items():
            self.returned_by_layer[name] += number
        self.updates.append(
            {"step": self.steps, "target": sparsity, "zeros": k, "returned": sum(returned.values())}
        )
        contract.verify(self, sums)

    def _keep_full_weights(self) -> None:
        for name, weight in self.weights.items():
            if name not in self.full:
                self.full[name] = weight.detach().clone()
            else:
                self.full[name].copy_(weight)

    def _apply_masks(self) -> None:
        if self.k:
            for name, weight in self.weights.items():
                weight.masked_fill_(self.masks.mask(name, {}), 0)

    # -- the contract --------------------------------------------------------

    def verify(self) -> None:
        """Raise :class:`ContractViolation` unless the weights are pruned as they must be by now.

        The contract holds (:func:`adamwprune.pruning.contract.verify`), with the k that the last
        update had to reach and, from the ramp's end on, with the k of the target.
        """
        if not self.score.prunes:
            return
        contract.verify(self)
        wanted = self._wanted_k()
        if self.k != wanted:
            text = f"{self.k} of {self.numel} weights were pruned, not {wanted}"
            raise contract.violation(self, text)

    def _wanted_k(self) -> int:
        if self.steps >= self.schedule.ramp_end:
            return self.scope.target_k
        return self.scope.k(self.updates[-1]["target"]) if self.updates else 0

    # -- counts and state ----------------------------------------------------

    def layers(self) -> list[dict[str, Any]]:
        """See :func:`adamwprune.pruning.counts.layers`."""
        return counts.layers(self)

    def zeros(self) -> int:
        """Zeros among the prunable weights, counted in the weights."""
        return sum(layer["zeros"] for layer in self.layers())

    def sparsity(self) -> float:
        """Fraction of zeros among the prunable weights, counted in the weights."""
        return self.zeros() / self.numel if self.numel else 0.0

    def record(self) -> dict[str, Any]:
        """See :func:`adamwprune.pruning.counts.record`."""
        return counts.record(self, self.schedule.target, self.updates, self._bins_before)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs; implied masks are in the weights already."""
        return {
            "steps": self.steps,
            "k": self.k,
            "returned": dict(self.returned_by_layer),
            "updates": list(self.updates),
            "unpruned": list(self._bins_before),
            "due": self._due,
            "masks": self.masks.state_dict(),
            "kept": dict(self.full),
            "score": self.score.state_dict(list(self.weights.values())),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; the weights are loaded by their model."""
        self.steps, self.k = state["steps"], state["k"]
        self.returned_by_layer, self.updates = dict(state["returned"]), list(state["updates"])
        self._bins_before = list(state["unpruned"])
        self._due = state["due"]
        self.masks.load_state_dict(state["masks"])
        self.full = self._cloned(state["kept"])
        self.score.load_state_dict(state["score"], list(self.weights.values()))

    def _cloned(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: t.detach().clone().to(self.weights[n].device) for n, t in tensors.items()}


def _refuse_contradictions(score: Score, schedule: Schedule, scope: str, storage: str) -> None:
    if scope not in SCOPES:
        raise ValueError(f"Invalid scope: {scope} (there are {', '.join(SCOPES)})")
    if storage not in STORAGES:
        raise ValueError(f"Invalid storage: {storage} (there are {', '.join(STORAGES)})")
    if storage == "implied" and (score.returns or score.regrows):
        raise ValueError("an implied mask needs a method whose pruned weights stay pruned")
    if scope == "2-4" and score.regrows:
        raise ValueError("2:4 needs a method that does not grow weights: they break the fours")
    if schedule.starts_sparse and score.prunes and not score.scores_untrained:
        raise ValueError("a constant sparsity needs a method that scores untrained weights")


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
