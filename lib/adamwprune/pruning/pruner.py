"""The pruner: a score, a schedule and a scope, attached to an optimizer's step by hooks.

Monotone methods: a pruned weight is zero, its gradient is masked before each step and its optimizer
states were zeroed when it was pruned, so that no momentum revives it. After a step of an optimizer
that moves such weights all the same it is zeroed again.

Returning methods (movement): outside the step the parameter holds W ⊙ M; the full W is kept
beside it, put back for the optimizer's step, and masked again after it. The gradient is masked for
the step as well, ∂L/∂W = ∂L/∂W′ ⊙ M: a pruned weight learns nothing until it returns.

Regrowing methods (SET, RigL): as monotone ones between updates; an update may take a weight into
use again, and it goes on from zero.

A layer without a gradient in a step is left alone by it: its scores, states and kept weights stay
what they were.

The contract (:mod:`adamwprune.pruning.contract`) is checked before and after every mask update and
at the end, never in between: no other step waits for the device.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from adamwprune.base.sparsity import SETTLING, mean_density
from adamwprune.optimizers._base import Base, KeepsMoments
from adamwprune.pruning import contract, counts, inputs, refusals
from adamwprune.pruning.attachment import Attachment, free_key, hooked, keeps_zeros
from adamwprune.pruning.clipping import clip_grad_norm_
from adamwprune.pruning.contract import Sums
from adamwprune.pruning.packing import Packing
from adamwprune.pruning.prunable import Choice, Coverage, Prunable
from adamwprune.pruning.pruned import PrunedWeights
from adamwprune.pruning.ranks import every, ranks_of
from adamwprune.pruning.regrowth import Regrowth
from adamwprune.pruning.schedule import Schedule
from adamwprune.pruning.scope import SCOPES
from adamwprune.pruning.score import Score
from adamwprune.pruning.select.parts import keep_pages
from adamwprune.pruning.select.weight_bins import histogram
from adamwprune.pruning.sparse_start import SparseStart
from adamwprune.pruning.storage import STORAGES, Implied, Packed
from adamwprune.pruning.update import prune, regrow

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

log = logging.getLogger("adamwprune")
_OWNERS: WeakKeyDictionary[Score, ref[Pruner]] = WeakKeyDictionary()  # the pruner that uses a score


class Pruner(PrunedWeights):
    """Prunes weights of ``model`` along ``schedule``.

    ``scope``: ``global`` (one threshold over all weights), ``layer`` (the same fraction of each),
    ``erk`` (Erdős–Rényi-kernel: small layers denser) or ``2-4`` (2 of 4 neighbouring inputs).
    ``floor``: how many weights of each layer are kept at least. ``storage``: ``bool`` (a mask of
    one byte a weight), ``bits`` (of one bit a weight), ``implied`` (a weight is pruned where it
    and its Adam states are zero: no bytes; monotone methods under an optimizer of the Adam family
    only) or ``packed`` (pruned weights have no optimizer states, the others four bytes of an index
    each; no method whose pruned weights keep their values). A schedule that starts sparse prunes in
    :meth:`attach`, before the first step.

    ``weights``, ``exclude``, ``skip_first``, ``skip_last``: which weights count, see
    :class:`~adamwprune.pruning.prunable.Prunable`; :attr:`coverage` says it, and :meth:`attach`
    logs it. ``zeros``: what becomes of zeros that the model has already. ``pruned``: they stay zero
    and count as pruned. ``live``: they are trained. A layer of nothing but zeros is always live: it
    was initialised so.

    ``group``: the ranks that train the model together, each on examples of its own, with gradients
    averaged over them; by default those of a ``model`` that is a ``DistributedDataParallel``. All
    ranks choose the same masks, and each update checks that (:mod:`adamwprune.pruning.ranks`).

    Raises ``ValueError`` for an unknown scope or storage, for a target that the scope cannot reach
    and for a method that the schedule, scope or storage does not go with. A step raises
    :class:`ContractViolation` if its mask update finds, or leaves, the wrong weights pruned
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
        weights: Iterable[str] | Choice | None = None,
        exclude: Iterable[str] = (),
        *,
        skip_first: bool = False,
        skip_last: bool = False,
        zeros: str = "pruned",
        group: ProcessGroup | None = None,
    ) -> None:
        refusals.refuse_contradictions(score, schedule, scope, storage, zeros)
        found = Prunable(model, weights, exclude, skip_first=skip_first, skip_last=skip_last)
        if score.prunes and not found.weights:
            raise ValueError(f"the model has no weight to prune: {found.coverage}")
        super().__init__(found.weights, score, STORAGES[storage], found.inputs)
        if self.shards is not None:
            refusals.refuse_sharded(self, scope)
        self.coverage: Coverage = found.coverage
        self.schedule = schedule
        self.scope = SCOPES[scope](found.shapes(), schedule.target, floor)
        self.key = ""  # of its state in the optimizer's
        self.taken = 0  # weights that were zero when the pruner was attached, and stay so
        self.updates: list[dict[str, float]] = []
        self._options = {"scope": scope, "storage": storage, "floor": floor}
        self._zeros = zeros
        self._places = found.places()
        self._bins_before: list[int] = []  # the weights in bins, just before the first update
        self._groups: dict[str, int] = {}  # which of the optimizer's groups a weight is in
        self._has_begun = False
        self._due = False
        self._gradients: dict[str, Tensor] = {}  # unmasked, in the step of an update
        self._open: set[str] = set()  # layers with a gradient in the present step
        # Of sharded weights no two ranks hold the same.
        self.ranks = None if self.shards is not None else ranks_of(model, group, score)
        self._observed = inputs.layers_of(model, found.weights) if score.observes_inputs else []
        self._hooks: list[RemovableHandle] = []
        self._attachment: Attachment | None = None
        packed = self.masks if isinstance(self.masks, Packed) else None
        self._packing = None if packed is None else Packing(self, packed)

    # -- in the loop ---------------------------------------------------------

    def attach(self, optimizer: Optimizer) -> Pruner:
        """Prune in ``optimizer.step()`` from now on; returns the pruner itself.

        The pruner's state is in the optimizer's ``state_dict()`` from then on, and is loaded with
        it. A wrapper around an optimizer (Accelerate's) is taken for what it wraps.

        Raises ``ValueError`` for an optimizer that does not keep the states the score or an
        implied mask needs, does not train all weights, cannot hold a weight at zero, or has another
        pruner for it; where the pruner is attached already; and where another rank has other
        settings. The first step raises it for a
        model with more zeros than the schedule or the scope allows.
        """
        if self.optimizer is not None:
            raise ValueError("the pruner of these weights is attached already")
        optimizer = hooked(optimizer)
        groups = refusals.groups_of(self.parameters, optimizer)
        if self.score.prunes:
            refusals.refuse_optimizer(self, optimizer)
            owner = _OWNERS.get(self.score, lambda: None)()
            if owner is not None and owner is not self:
                raise ValueError("the score keeps the weights of another pruner: make one for each")
            self._groups = groups
            self.optimizer = optimizer
            if not self._has_begun:
                self.score.begin(list(self.weights.values()))
            self._refuse_other_ranks()
            log.info("%s", self.coverage)
            self.key = free_key(next(iter(self.weights)), optimizer)
            try:
                self._hook()
                self._apply_before_steps()
            except Exception:
                self.detach()
                raise
        self.optimizer = optimizer
        return self

    def _refuse_other_ranks(self) -> None:
        """Raise ``ValueError`` on all ranks where not all have the same pruner."""
        found = self.ranks or self.shards
        if found is not None:
            device = next(iter(self.weights.values())).device
            refusals.refuse_unequal(every(found.group, device, self._signature()))

    def detach(self) -> None:
        """Stop pruning. Zeros stay zero until an optimizer moves them; the pruner may be attached
        again, to another optimizer, and goes on.
        """
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self._attachment is not None:
            self._attachment.remove()
        if self.optimizer is not None and self._packing is not None:
            self._packing.detach(self.optimizer)
        self._attachment = self.optimizer = None
        _OWNERS.pop(self.score, None)

    @torch.no_grad()
    def _apply_before_steps(self) -> None:
        """Prune what is pruned before the first step under a new optimizer."""
        if self._has_begun:  # and other optimizers may have moved pruned weights since
            self._apply_masks()
        elif self.schedule.starts_sparse:
            self._begin()
            self._call_update()

    def _hook(self) -> None:
        assert self.optimizer is not None
        _OWNERS[self.score] = ref(self)
        self._attachment = Attachment(self, self.optimizer)
        self._hooks = inputs.observe(self._observed, self.score)
        if self._packing is not None:
            self._packing.attach(self.optimizer)

    @torch.no_grad()
    def _begin(self) -> None:
        """Count zeros that the model has already.

        Not before the first step: until then a checkpoint may be loaded. The score begins again
        with what was.
        """
        refusals.refuse_devices(self.weights)
        self.score.begin(list(self.weights.values()))
        self.k = self.taken = SparseStart(self, self.scope, self._zeros).apply()
        self._has_begun = True

    def before_step(self, optimizer: Optimizer) -> None:
        """Let the score see the gradients, then mask them; called when all are there."""
        self.after_weight()  # of a step that has raised an error
        if not self._has_begun:
            self._begin()
        if self.ranks is not None:
            self.ranks.add_up(self.score.sums_over_examples())
        rates = _step_sizes(optimizer) if self.score.observes else []
        for name, weight in self.weights.items():
            if (gradient := self.gradient(name)) is not None:
                self._before_layer(name, weight, gradient, rates)

    def before_weight(self, weight: Tensor) -> None:
        """:meth:`before_step` of one parameter, where gradients are released one by one."""
        assert self.optimizer is not None
        if self.ranks is not None or self.shards is not None:
            raise RuntimeError("a gradient that is to be averaged over ranks cannot be released")
        if not self._has_begun:
            self._begin()
        for name, each in self.weights.items():
            if each is weight and weight.grad is not None:
                rates = _step_sizes(self.optimizer) if self.score.observes else []
                self._before_layer(name, weight, weight.grad, rates)

    def after_weight(self) -> None:
        """After the step of the parameter that was given to :meth:`before_weight`."""
        self._unpacked = None
        if self._packing is not None:
            self._packing.end()

    def _before_layer(
        self, name: str, weight: Tensor, gradient: Tensor, rates: list[float | Tensor]
    ) -> None:
        if gradient.layout is not torch.strided:
            raise ValueError(f"the gradient of {name} is sparse: leave it out with exclude=")
        full = self._full_weight(name)
        if rates:  # the gradient is unmasked: pruned weights keep scoring
            self.score.observe(weight, full, gradient, rates[self._groups[name]])
        if self.score.reads_gradients and self._may_update():
            self._gradients[name] = gradient.detach().clone()
        self._open.add(name)
        if self._packing is not None and self.masks.live(name) is not None:
            self._packing.substitute(self._groups[name], name)
        elif self.k:
            self.masks.zero(name, gradient, self.states(name))
        if full is not weight:
            weight.copy_(full)

    def after_step(self, optimizer: Optimizer) -> None:
        """Update the masks if an update is due, and mask weights that the step moved."""
        self.after_weight()
        self.steps += 1
        if self.score.returns:
            self._keep_full_weights()
        self._due = self._due or self.schedule.is_due(self.steps)
        forced = self.schedule.is_forced(self.steps)
        updates = self._due and (forced or not self._settling(optimizer))
        if updates and not keeps_zeros(optimizer) and not self.score.returns:
            self._apply_masks()
        if updates:
            self._due = False
            self._call_update()
        elif self.score.returns or not keeps_zeros(optimizer):
            self._apply_masks()
        self._gradients.clear()
        self._open.clear()

    def clip_grad_norm_(self, max_norm: float, norm_type: float = 2.0) -> Tensor:
        """Scale all gradients of the optimizer so that the norm of those that are trained is at
        most ``max_norm``; return that norm.

        To be called where ``torch.nn.utils.clip_grad_norm_`` is, which counts the gradients of
        pruned weights as well. Raises ``RuntimeError`` for a pruner that is not attached.
        """
        return clip_grad_norm_(self, max_norm, norm_type)

    def _may_update(self) -> bool:
        """Whether a mask update may come in the next step."""
        return self._due or self.schedule.is_due(self.steps + 1)

    def step_kind(self) -> Hashable:
        """What the next step does beside arithmetic on tensors; None where a mask update may come.

        For the capture of steps in a CUDA graph; see :class:`~adamwprune.optimizers._base.Base`.
        """
        if not self.score.prunes:
            return ()
        if self._may_update() or (self.k and isinstance(self.masks, Packed)):
            return None  # each update of a packed one makes its tensors anew
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
        """Update the masks for the present step, and verify the contract before and after; with
        several ranks on all of them.
        """
        keep_pages()
        refusals.refuse_replaced(self.parameters, self._places)
        sparsity, k, pruned = self.planned_update()
        if sum(pruned.values()) > self.k:
            refusals.refuse_excess(self, self.scope)
        if not self.updates:
            self._bins_before = self.summed(histogram(self.weights.values()))
        sums = None
        if isinstance(self.score, Regrowth):
            last = self.schedule.ramp_end
            returned = regrow(self, self.scope, k, pruned, self.score, last, self._gradients)
        else:
            sums = Sums(self)
            returned = prune(self, self.scope, k, pruned, sums)
        self._note_update(sparsity, k, returned)
        contract.verify(self, sums)
        if self.ranks is not None:
            self.ranks.compare(self)
        self._unpacked = None

    def planned_update(self) -> tuple[float, int, dict[str, int]]:
        """Return the sparsity that a mask update would reach now, its k, and how many weights of
        each layer are pruned and stay so.

        Raises :class:`ContractViolation` for weights that came back: a choice would prune them.
        """
        returns = self.score.returns
        pruned = dict.fromkeys(self.weights, 0) if returns else contract.verify(self)
        sparsity = self.schedule.sparsity(self.steps)
        return sparsity, max(self.scope.k(sparsity), self.taken, sum(pruned.values())), pruned

    def _note_update(self, sparsity: float, k: int, returned: Mapping[str, int]) -> None:
        for name, number in returned.items():
            self.returned_by_layer[name] += number
        again = sum(returned.values())
        newly_pruned = k - self.k + again
        self.updates.append(
            {
                "step": self.steps,
                "target": sparsity,
                "zeros": k,
                "returned": again,
                "changed": newly_pruned + again,
            }
        )
        self.k = k

    def _keep_full_weights(self) -> None:
        """Of the layers that were trained; the others show theirs again, for an update."""
        for name, weight in self.weights.items():
            if name not in self.full:
                self.full[name] = weight.detach().clone()
            elif name in self._open:
                self.full[name].copy_(weight)
            else:
                weight.copy_(self._full_weight(name))

    def _full_weight(self, name: str) -> Tensor:
        """The weight with the kept values of what is pruned of it.

        What is live may have been set since the last step: clamped, averaged or loaded.
        """
        weight, full = self.weights[name], self.full.get(name)
        if full is None:
            return weight
        return full.copy_(torch.where(self.masks.mask(name, {}), full, weight))

    def _apply_masks(self) -> None:
        """Zero what is pruned, and its states."""
        if not self.k:
            return
        for name in self.weights:
            for tensor in self.zeroed(name):
                if tensor.is_floating_point():
                    self.masks.zero(name, tensor, self.states(name))

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
        if self.k < wanted or (self.k > wanted and not isinstance(self.masks, Implied)):
            text = f"{self.k} of {self.numel} weights were pruned, not {wanted}"
            raise contract.violation(self, text)

    def _wanted_k(self) -> int:
        if self.steps >= self.schedule.ramp_end:
            return max(self.scope.target_k, self.taken)
        scheduled = self.scope.k(self.updates[-1]["target"]) if self.updates else 0
        return max(scheduled, self.taken)

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
        found = counts.record(self, self.schedule.target, self.updates, self._bins_before)
        density = mean_density(self.numel, self.taken, self.updates, self.steps)
        left = [{"name": n, "reason": reason} for n, reason in self.coverage.left_out.items()]
        return {
            **found,
            "mean_density": density,
            "parameters": self.coverage.parameters,
            "left_out": left,
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs; implied masks are in the weights already."""
        return {
            "of": self._signature(),
            "steps": self.steps,
            "k": self.k,
            "taken": self.taken,
            "begun": self._has_begun,
            "returned": dict(self.returned_by_layer),
            "updates": list(self.updates),
            "unpruned": list(self._bins_before),
            "due": self._due,
            "masks": self.masks.state_dict(),
            "kept": dict(self.full),
            "score": self.score.state_dict(list(self.weights.values())),
        }

    def whole_states(self) -> Iterable[tuple[Tensor, dict[str, Any]]]:
        """Weights whose states are packed, and these states as an optimizer without a pruner has
        them, for its ``state_dict()``.
        """
        return () if self._packing is None else self._packing.whole_states()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; the weights are loaded by their model.

        Raises ``ValueError`` for the state of a pruner that is not the same, naming what differs.
        """
        self.refuse_foreign(state)
        self.steps, self.k, self.taken = state["steps"], state["k"], state["taken"]
        self._has_begun = state["begun"]
        self.returned_by_layer, self.updates = dict(state["returned"]), list(state["updates"])
        self._bins_before = list(state["unpruned"])
        self._due = state["due"]
        self._unpacked = None
        self.masks.load_state_dict(state["masks"])
        self.full = self._cloned(state["kept"])
        self.score.load_state_dict(state["score"], list(self.weights.values()))
        if self.ranks is not None:
            self.ranks.note(self.score.sums_over_examples())

    def refuse_foreign(self, state: Mapping[str, Any]) -> None:
        """Raise ``ValueError`` for the state of a pruner that is not the same."""
        refusals.refuse_foreign(state.get("of", {}), self._signature())

    def _signature(self) -> dict[str, Any]:
        """By which a pruner knows a state as its own."""
        return {
            "score": {"method": type(self.score).__name__, **self.score.options()},
            "schedule": asdict(self.schedule),
            **self._options,
            "weights": {name: list(each.shape) for name, each in self.parameters.items()},
        }

    def _cloned(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: t.detach().clone().to(self.weights[n].device) for n, t in tensors.items()}

    def __getstate__(self) -> dict[str, Any]:
        """For ``copy.deepcopy`` and ``pickle``, with the model and optimizer: all but the hooks and
        the other ranks.
        """
        left: dict[str, Any] = {"_hooks": [], "_attachment": None, "around_update": None}
        left["ranks"] = None
        return {**vars(self), **left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.optimizer is not None and self.score.prunes:
            self._hook()


def _step_sizes(optimizer: Optimizer) -> list[float | Tensor]:
    """Of the step to come, by group; negative where it goes up the gradient."""
    sizes = [
        optimizer.step_size(index) if isinstance(optimizer, Base) else group["lr"]
        for index, group in enumerate(optimizer.param_groups)
    ]
    pairs = zip(sizes, optimizer.param_groups, strict=True)
    return [-size if group.get("maximize") else size for size, group in pairs]
