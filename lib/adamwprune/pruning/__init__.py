"""Pruning is score x schedule x scope, attached to the optimizer's step.

A method is only a score: its module has ``build(values) -> Score``. The training loop knows no
method by name; dense training is the method ``none``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from adamwprune import registry
from adamwprune.pruning._pruner import ContractViolation, Pruner, prunable
from adamwprune.pruning._schedule import Schedule
from adamwprune.pruning._score import Score

if TYPE_CHECKING:
    from adamwprune.pruning.magnitude import Magnitude
    from adamwprune.pruning.movement import Movement
    from adamwprune.pruning.none import Dense
    from adamwprune.pruning.state import State

_PUBLIC = {"Dense": "none", "Magnitude": "magnitude", "Movement": "movement", "State": "state"}
__getattr__ = registry.lazily(__name__, _PUBLIC)
__all__ = [
    "ContractViolation",
    "Dense",
    "Magnitude",
    "Movement",
    "Pruner",
    "Schedule",
    "Score",
    "State",
    "build",
    "prunable",
]


def build(model: nn.Module, values: Mapping[str, Any], ramp_end: int) -> Pruner:
    """The pruner of a run; ``ramp_end`` is the step after which its target sparsity holds."""
    score = cast(Score, registry.member(__name__, values["PRUNING_METHOD"]).build(values))
    if not score.prunes:
        return Pruner(model, score, Schedule.dense())
    schedule = Schedule(
        target=values["TARGET_SPARSITY"],
        warmup=values["PRUNING_WARMUP"],
        interval=values["PRUNING_INTERVAL"],
        ramp_end=ramp_end,
        shape=values["PRUNING_SCHEDULE"],
    )
    return Pruner(model, score, schedule, values["PRUNING_SCOPE"], values["MASK_STORAGE"])
