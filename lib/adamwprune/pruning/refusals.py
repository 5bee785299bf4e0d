"""What a pruner refuses, in a sentence that names the weight or the setting and the cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adamwprune.optimizers._base import KeepsMoments
from adamwprune.optimizers._layout import is_dense
from adamwprune.pruning.attachment import Attachment, keeps_zeros
from adamwprune.pruning.contract import violation
from adamwprune.pruning.pruned import PrunedWeights
from adamwprune.pruning.schedule import Schedule
from adamwprune.pruning.scope import SCOPES, Scope
from adamwprune.pruning.score import Score
from adamwprune.pruning.storage import STORAGES, Implied, Packed


def refuse_contradictions(
    score: Score, schedule: Schedule, scope: str, storage: str, zeros: str
) -> None:
    if zeros not in ("pruned", "live"):
        raise ValueError(f"Invalid zeros: {zeros} (there are pruned, live)")
    if scope not in SCOPES:
        raise ValueError(f"Invalid scope: {scope} (there are {', '.join(SCOPES)})")
    if storage not in STORAGES:
        raise ValueError(f"Invalid storage: {storage} (there are {', '.join(STORAGES)})")
    if storage == "implied" and (score.returns or score.regrows):
        raise ValueError("an implied mask needs a method whose pruned weights stay pruned")
    if storage == "packed" and score.returns:
        raise ValueError(
            "packed states need a method whose pruned weights keep nothing: under this one they "
            "return with their values and states"
        )
    if scope == "2-4" and score.regrows:
        raise ValueError("2:4 needs a method that does not grow weights: they break the fours")
    if schedule.is_constant and score.prunes and not score.scores_untrained:
        raise ValueError("a constant sparsity needs a method that scores untrained weights")
    if schedule.starts_sparse and score.prunes and not score.starts_sparse:
        raise ValueError("an initial sparsity needs a method that scores untrained weights")


def groups_of(weights: Mapping[str, Tensor], optimizer: Optimizer) -> dict[str, int]:
    """Which of the optimizer's groups each weight is in."""
    groups = enumerate(optimizer.param_groups)
    places = {id(param): index for index, group in groups for param in group["params"]}
    for name, weight in weights.items():
        if id(weight) not in places:
            raise ValueError(
                f"the weight {name} is not one that the optimizer trains: make the pruner for "
                "the same model, or leave the weight out with exclude="
            )
    return {name: places[id(weight)] for name, weight in weights.items()}


def refuse_optimizer(pruned: PrunedWeights, optimizer: Optimizer) -> None:
    """Refuse one that lacks states, cannot hold a weight at zero or has another pruner for it."""
    adam = isinstance(optimizer, KeepsMoments | torch.optim.Adam)
    if isinstance(pruned.masks, Implied) and not adam:
        raise ValueError("an implied mask of weights needs an optimizer of the Adam family")
    if pruned.score.reads_states and not adam:
        raise ValueError("pruning weights by state needs an optimizer of the Adam family")
    if isinstance(pruned.masks, Packed):
        _refuse_to_pack(pruned, optimizer)
    for group in optimizer.param_groups:
        if group.get("eps", 1) == 0:
            raise ValueError("with eps=0 a step makes a pruned weight 0/0: eps must be above 0")
    fused = any(group.get("fused") for group in optimizer.param_groups)
    apart = [name for name, weight in pruned.weights.items() if fused and not is_dense(weight)]
    if apart:
        raise ValueError(
            f"the weight {apart[0]} has gaps in memory, which torch's fused optimizers step "
            "on: make it contiguous, or the optimizer with fused=False"
        )
    for hook in optimizer._optimizer_step_pre_hooks.values():
        other = getattr(hook, "__self__", None)
        theirs = other.pruner if isinstance(other, Attachment) else None
        if not isinstance(theirs, PrunedWeights):
            continue
        shared = {id(weight) for weight in theirs.parameters.values()}
        for name, weight in pruned.parameters.items():
            if id(weight) in shared:
                raise ValueError(f"the weight {name} is another pruner's: detach() that first")


def refuse_sharded(pruned: PrunedWeights, scope: str) -> None:
    """Refuse what needs more of sharded weights than this rank's own and counts over all."""
    score, kind = pruned.score, type(pruned.score)
    if not score.prunes:
        return
    if not isinstance(pruned.masks, Implied):
        raise ValueError("sharded weights need implied masks: storage='implied'")
    if score.observes or score.observes_inputs or kind.begin is not Score.begin:
        needs = "sharded weights need a method that scores by weights and states alone"
        raise ValueError(f"{needs}, not {kind.__name__}")
    if scope == "2-4":
        raise ValueError("sharded weights are not pruned 2:4")
    if any(weight.dtype == torch.float64 for weight in pruned.weights.values()):
        raise ValueError("sharded weights of type float64 are not pruned")


def _refuse_to_pack(pruned: PrunedWeights, optimizer: Optimizer) -> None:
    if not keeps_zeros(optimizer):
        raise ValueError(
            "packed states need an optimizer that treats each number by itself, as those of this "
            f"package and torch's SGD, Adam and AdamW: {type(optimizer).__name__} is not known to"
        )
    for name, weight in pruned.weights.items():
        if not is_dense(weight):
            raise ValueError(f"the weight {name} has gaps in memory: make it contiguous to pack it")


def refuse_devices(weights: Mapping[str, Tensor]) -> None:
    """Refuse weights on several devices, whose scores cannot be compared in place."""
    devices = sorted({str(weight.device) for weight in weights.values()})
    if len(devices) > 1:
        raise ValueError(f"weights on several devices ({', '.join(devices)})")


def refuse_replaced(
    weights: Mapping[str, Tensor], places: Mapping[str, tuple[nn.Module, str]]
) -> None:
    """Raise ``RuntimeError`` for a weight that is not the tensor in its module any more."""
    for name, (module, attribute) in places.items():
        if getattr(module, attribute) is not weights[name]:
            raise RuntimeError(
                f"the weight {name} was replaced by another tensor after the pruner was made"
            )


def refuse_excess(pruned: PrunedWeights, scope: Scope) -> None:
    """Refuse zeros that look pruned to an implied mask, where the ``scope`` has no room."""
    for name in pruned.weights:
        mask = pruned.masks.mask(name, pruned.states(name)).reshape(-1)
        (number,) = pruned.summed([int(mask.sum())])
        if reason := scope.why_not(name, mask, number, pruned.input_stride(name)):
            text = f"weights of {name} became zero with their moments, like pruned ones"
            raise violation(pruned, f"{text}: {reason}")


def refuse_foreign(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Refuse the state of a pruner that differs, by what differs; see ``Pruner.state_dict``."""
    for name, value in ours.items():
        if theirs.get(name) != value:
            there, here = _differing(theirs.get(name), value)
            raise ValueError(
                f"the state is another pruner's of other weights or settings: {name} is "
                f"{there} there and {here} here"
            )


def refuse_unequal(pruners: Sequence[Mapping[str, Any]]) -> None:
    """Refuse ranks that would update at different steps, or choose differently: they would wait for
    each other for ever. ``pruners``: as in ``Pruner.state_dict``, by rank.
    """
    for rank, each in enumerate(pruners):
        for name, value in pruners[0].items():
            if each[name] != value:
                there, here = _differing(each[name], value)
                raise ValueError(
                    f"rank {rank} has another pruner than rank 0: {name} is {there} there and "
                    f"{here} on rank 0"
                )


def _differing(theirs: Any, ours: Any) -> tuple[Any, Any]:
    """Two values, of dictionaries the entries that differ: three at most."""
    if not isinstance(theirs, Mapping) or not isinstance(ours, Mapping):
        return theirs, ours
    names = [n for n in {**theirs, **ours} if theirs.get(n) != ours.get(n)][:3]
    there, here = ({n: each[n] for n in names if n in each} for each in (theirs, ours))
    return there, here
