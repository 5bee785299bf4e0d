"""Pruning is score x schedule x scope, attached to the optimizer's step.

A method is only a score: its module has ``build(values) -> Score``. The training loop knows no
method by name; dense training is the method ``none``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from adamwprune.base import registry
from adamwprune.pruning.contract import ContractViolation
from adamwprune.pruning.prunable import prunable
from adamwprune.pruning.pruner import Pruner
from adamwprune.pruning.schedule import Schedule
from adamwprune.pruning.score import Score
from adamwprune.pruning.select.selection import NotANumber

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from adamwprune.pruning.methods.magnitude import Magnitude
    from adamwprune.pruning.methods.movement import Movement
    from adamwprune.pruning.methods.movement_seed import MovementSeed
    from adamwprune.pruning.methods.none import Dense
    from adamwprune.pruning.methods.random import Random
    from adamwprune.pruning.methods.rigl import RigL
    from adamwprune.pruning.methods.set import Set
    from adamwprune.pruning.methods.state import State

_PUBLIC = {
    "Dense": "none",
    "Magnitude": "magnitude",
    "Movement": "movement",
    "MovementSeed": "movement_seed",
    "Random": "random",
    "RigL": "rigl",
    "Set": "set",
    "State": "state",
}
METHODS = f"{__name__}.methods"
__getattr__ = registry.lazily(METHODS, _PUBLIC)
__all__ = [
    "ContractViolation",
    "Dense",
    "Magnitude",
    "Movement",
    "MovementSeed",
    "NotANumber",
    "Pruner",
    "Random",
    "RigL",
    "Schedule",
    "Score",
    "Set",
    "State",
    "build",
    "method",
    "prunable",
    "spared",
]


def method(values: Mapping[str, Any]) -> Score:
    """The score of a run's method; ``KeyError`` lists the known methods."""
    return cast(Score, registry.member(METHODS, values["PRUNING_METHOD"]).build(values))


def build(
    model: nn.Module,
    values: Mapping[str, Any],
    ramp_end: int,
    weights: Sequence[str] | None = None,
    group: ProcessGroup | None = None,
) -> Pruner:
    """The pruner of a run; ``ramp_end``: the step after which a ramp's target sparsity holds.
    ``weights``: see :class:`~adamwprune.pruning.prunable.Prunable`. ``group``: the ranks that train
    it together.

    Raises ``ValueError`` for a target that cannot be reached in the run's scope.
    """
    score = method(values)
    if not score.prunes:
        return Pruner(model, score, Schedule.dense(), weights=weights)
    return Pruner(
        model,
        score,
        _schedule(values, ramp_end),
        values["PRUNING_SCOPE"],
        values["MASK_STORAGE"],
        values["PRUNING_FLOOR"],
        weights,
        group=group,
        **spared(values),
    )


def spared(values: Mapping[str, Any]) -> dict[str, Any]:
    """Which layers of a run's model are left out, as :class:`~adamwprune.pruning.prunable.Prunable`
    takes it.
    """
    return {
        "skip_first": not values["PRUNE_FIRST_LAYER"],
        "skip_last": not values["PRUNE_LAST_LAYER"],
    }


def _schedule(values: Mapping[str, Any], ramp_end: int) -> Schedule:
    target, shape = values["TARGET_SPARSITY"], values["PRUNING_SCHEDULE"]
    if shape == "one-shot":
        return Schedule.one_shot(target, values["PRUNING_WARMUP"])
    if shape == "constant":
        return Schedule.constant(target, values["PRUNING_INTERVAL"], ramp_end)
    ramp = values["PRUNING_WARMUP"], values["PRUNING_INTERVAL"], ramp_end
    return Schedule(target, *ramp, shape, values["INITIAL_SPARSITY"])
