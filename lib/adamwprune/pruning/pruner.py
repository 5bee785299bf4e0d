"""The pruner: a score, a schedule and a scope, attached to an optimizer's step by hooks.

Monotone methods (all but movement): a pruned weight is zero, its gradient is masked before each
step and its optimizer states were zeroed when it was pruned, so that no momentum revives it.

Returning methods (movement): outside the step the parameter holds W ⊙ M; the full W is kept
beside it, put back for the optimizer's step, and masked again after it. The gradient is masked for
the step as well, ∂L/∂W = ∂L/∂W′ ⊙ M: a pruned weight learns nothing until it returns.

Regrowing methods (SET, RigL): as monotone ones between updates; an update may take a weight into
use again, and it goes on from zero.

Gradients are masked where the weight is zero, which needs no mask: an update has just made sure
that these are the pruned ones. A weight that training happens to set to exactly zero misses that
step's gradient, and moves on with its momentum. Only where weights regrow the mask itself is
applied, since a grown weight is zero until it has had a gradient.

The contract, counted in the tensors before and after every mask update and at the end, never in
between, so that no other step waits for the device: exactly k weights are zero, those that were
pruned among them, and their moments are zero unless the method is a returning one. Nothing but an
update sets a weight to zero: what was revived in between has not become zero again by itself. Where
weights regrow, exactly k are masked, and all of these are zero; zero beside them can only be
weights that were grown and have not moved, at most as many as were grown.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adamwprune.optimizers._base import SETTLING, Base, KeepsMoments
from adamwprune.pruning import contract
from adamwprune.pruning.contract import Sums
from adamwprune.pruning.regrowth import Regrowth, exchange
from adamwprune.pruning.schedule import Schedule
from adamwprune.pruning.scope import SCOPES
from adamwprune.pruning.score import Score
from adamwprune.pruning.select.parts import Part, keep_pages, parts, whole
from adamwprune.pruning.select.selection import Chooser, Cut, Scores
from adamwprune.pruning.select.weight_bins import LIMIT, histogram
from adamwprune.pruning.storage import STORAGES, Implied


def prunable(model: nn.Module, names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """The weights that pruning may touch, by name: the parameters of these ``names``, or else
    the trained weights of convolutions and linear layers.

    No biases and no normalisation; no embeddings, so that a head that is tied to one stays as well.
    """
    if names is not None:
        return {name: model.get_parameter(name) for name in names}
    modules = list(model.named_modules())
    kept = {module.weight for _, module in modules if isinstance(module, nn.Embedding)}
    found: dict[Tensor, str] = {}  # tied weights are one, under the first name
    for name, module in modules:
        is_layer = isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))
        if is_layer and module.weight.requires_grad and module.weight not in kept:
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


def _zero_up_to(values: Tensor, scores: Tensor, bound: float) -> Tensor:
    """``values`` with zeros where the scores are at most ``bound``; in place."""
    if values.dtype != scores.dtype:
        return values.masked_fill_(scores <= bound, 0)
    # The derivative of threshold: a gradient passes where x > threshold. See mask_gradient.
    torch.ops.aten.threshold_backward.grad_input(values, scores, bound, grad_input=values)
    return values


class _Candidates(Scores):
    """A pruner's scores; what a monotone method has ``pruned``, so many of each layer, is none."""

    def __init__(self, pruner: Pruner, pruned: Mapping[str, int]) -> None:
        super().__init__()
        self.pruner = pruner
        self.pruned = pruned
        self.sizes = {name: w.numel() - pruned[name] for name, w in pruner.weights.items()}

    def layer(self, name: str) -> Tensor:
        return self.pruner.weights[name]

    def raw(self, name: str, part: Part) -> Tensor:
        return self.pruner._raw_scores(name, part)

    def unmarked(self) -> Scores | None:
        if not self.pruner.score.least_at_zero or not any(self.pruned.values()):
            return None
        return _Candidates(self.pruner, dict.fromkeys(self.pruned, 0))

    def mark(self, name: str, part: Part, scores: Tensor) -> Tensor:
        if not self.pruned[name]:
            return scores
        kept = torch.ne(part.of(self.layer(name)), 0, out=torch.empty_like(scores))
        return scores.mul_(kept.div_(kept))  # 1/1 or 0/0


class Pruner:
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

    # Makes the mask updates that it is called with: for whoever measures them.
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
        if scope not in SCOPES:
            raise ValueError(f"Invalid scope: {scope} (there are {', '.join(SCOPES)})")
        if storage not in STORAGES:
            raise ValueError(f"Invalid storage: {storage} (there are {', '.join(STORAGES)})")
        if storage == "implied" and (score.returns or isinstance(score, Regrowth)):
            raise ValueError("an implied mask needs a method whose pruned weights stay pruned")
        if scope == "2-4" and isinstance(score, Regrowth):
            raise ValueError("2:4 needs a method that does not grow weights: they break the fours")
        if schedule.starts_sparse and score.prunes and not score.scores_untrained:
            raise ValueError("a constant sparsity needs a method that scores untrained weights")
        self.weights = prunable(model, names)
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
        self._regrowth = score if isinstance(score, Regrowth) else None
        self._dense: dict[str, Tensor] = {}  # gradients of all weights, in the step of an update
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
        if self.score.prunes and self.schedule.starts_sparse:
            self._start_sparse()
        return self

    @torch.no_grad()
    def _start_sparse(self) -> None:
        """The mask before the first step. A weight that starts at exactly zero, about one of 16
        million, becomes the smallest number that is not: zero is what is pruned.
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
        keeps = self._regrowth and self._regrowth.reads_gradients and self._may_update()
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            full = self._kept.get(name, weight)
            if rates:  # the gradient is unmasked: pruned weights keep scoring
                self.score.observe(weight, full, weight.grad, rates[self._groups[name]])
            if keeps:
                self._dense[name] = weight.grad.detach().clone()
            if self.k and self._regrowth:
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
        self._dense.clear()

    def _may_update(self) -> bool:
        """Whether a mask update may come in the next step."""
        return self._due or self.schedule.is_due(self.steps + 1)

    def step_kind(self) -> Hashable:
        """What the next step does beside arithmetic on tensors; None where a mask update may come.

        For whoever captures steps in a CUDA graph; see
        :class:`~adamwprune.optimizers._base.Base`.
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
            self.around_update(self._update)
        else:
            self._update()

    def _update(self) -> None:
        """Choose, then apply: part by part of one layer after the other, both of them.

        Nothing is written before all is chosen.
        """
        keep_pages()
        pruned = dict.fromkeys(self.weights, 0)
        if not self.score.returns:
            pruned = contract.verify(self)  # before the choice below prunes again what came back
        if not self.updates:
            self._unpruned = histogram(self.weights.values())
        sparsity = self.schedule.sparsity(self.steps)
        k = self.scope.k(sparsity)
        sums = None
        if self._regrowth:
            counts = [self._regrow(self._regrowth, k, pruned)]
        else:
            scores = self.scope.among(_Candidates(self, pruned))
            cuts = self.scope.choose(scores, k, pruned)
            sums = Sums(self)
            counts = [self._apply(each, sums) for each in cuts]
        self.k = k
        returned = self._count_returned(counts)
        update = {"step": self.steps, "target": sparsity, "zeros": self.k, "returned": returned}
        self.updates.append(update)
        contract.verify(self, sums)

    def _regrow(self, score: Regrowth, k: int, pruned: Mapping[str, int]) -> dict[str, Tensor]:
        """Choose all masks, then apply them; how many pruned weights of each layer returned."""
        step = self.steps

        def grow(name: str, part: Part) -> Tensor:
            return score.growth(self.weights[name], self._dense.get(name), step, part)

        before = {name: self.masks.mask(name, {}) for name in self.weights}
        fraction = score.exchanged(step, self.schedule.ramp_end) if step else 0.0
        after = exchange(self.scope, before, pruned, k, fraction, drop=self._raw_scores, grow=grow)
        returned = {name: (before[name] & ~mask).sum() for name, mask in after.items()}
        for name, mask in after.items():
            self.masks.put(name, whole(mask), mask.view(-1))
            for tensor in self._zeroed(self.weights[name]):
                tensor.masked_fill_(mask, 0)
        return returned

    def _raw_scores(self, name: str, part: Part) -> Tensor:
        """A fresh tensor [n]: of all weights of a part, pruned or not."""
        weight = self.weights[name]
        score = self.score.score if self.steps else self.score.initial
        return score(weight, self._states(weight), part)

    def _apply(self, cut: Cut, sums: Sums) -> dict[str, Tensor]:
        """Prune what is chosen, and look at what is there then; how many pruned weights of each
        layer returned by that.
        """
        chooser, returned = Chooser(cut), {}
        for name in cut.names:
            weight = self.weights[name]
            count = torch.zeros((), dtype=torch.int64, device=weight.device)
            for part in parts(weight):
                values = cut.scores.of(name, part)
                bound = chooser.bound(values)
                if not isinstance(self.masks, Implied):
                    count += self._remember(name, part, values <= bound)
                for tensor in self._zeroed(weight):
                    part.put(tensor, _zero_up_to(part.of(tensor), values, bound))
                sums.add(name, part)  # while it is in the cache
            returned[name] = count
        return returned

    def _remember(self, name: str, part: Part, chosen: Tensor) -> Tensor:
        """Store a part of the mask; how many of it returned."""
        if not self.score.returns:
            # What is pruned is no candidate any more, and stays so.
            self.masks.put(name, part, chosen.logical_or_(part.of(self.weights[name]) == 0))
            return chosen.new_zeros((), dtype=torch.int64)
        before = self._pruned_part(name, part)
        returned = (before & ~chosen).sum()
        self.masks.put(name, part, chosen)
        return returned

    def _zeroed(self, weight: Tensor) -> list[Tensor]:
        """The tensors in which a pruned weight is zero: its own, a monotone method's states."""
        states = {} if self.score.returns else self._states(weight)
        same = [s for s in states.values() if isinstance(s, Tensor) and s.shape == weight.shape]
        return [weight, *same]

    def _count_returned(self, returned: Iterable[Mapping[str, Tensor]]) -> int:
        counts = {name: count for each in returned for name, count in each.items()}
        found: list[int] = torch.stack([*counts.values()]).tolist()
        for name, count in zip(counts, found, strict=True):
            self._returned[name] += count
        return sum(found)

    def _states(self, weight: Tensor) -> Mapping[str, Any]:
        states: Mapping[str, Any] = self._optimizer.state[weight] if self._optimizer else {}
        return states

    def _pruned_part(self, name: str, part: Part) -> Tensor:
        """The mask of a part [n], True = pruned."""
        if self.k == 0:
            return torch.zeros_like(part.of(self.weights[name]), dtype=torch.bool)
        return self.masks.part(name, part, self._states(self.weights[name]))

    def _keep_full_weights(self) -> None:
        for name, weight in self.weights.items():
            if name not in self._kept:
                self._kept[name] = weight.detach().clone()
            else:
                self._kept[name].copy_(weight)

    def _apply_masks(self) -> None:
        if self.k:
            for name, weight in self.weights.items():
                weight.masked_fill_(self.masks.mask(name, {}), 0)

    # -- the contract --------------------------------------------------------

    def verify(self) -> None:
        """Raise :class:`ContractViolation` unless the weights are pruned as they must be by now.

        Exactly k weights are zero, k being the number that the last update had to reach and, from
        the ramp's end on, the one of the target; each pruned weight is zero; and under a monotone
        or a regrowing method the moments of each pruned weight are. Under a regrowing one exactly
        k are masked, and at most as many more are zero as were grown.
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
        now; ``zeros``: counted, with grown weights that have not moved; ``prunable``: of so many
        weights; ``layers``; ``updates``: step, target, k and number of weights that returned of
        each; ``returned``; ``histogram``: the weights that are not zero in bins of equal width from
        ``low`` to ``high``, ``before`` the first update (None without one) and ``after`` training.
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
