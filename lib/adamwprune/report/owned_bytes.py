"""A record's memory by owner, in the form in which tables and figures show it."""

from collections.abc import Mapping
from typing import Any

SMALL = 0.01  # a state below this share of the total is shown under "other"
PRUNER = ("scores", "kept_weights", "initial_weights", "masks")
OTHER = "other"
OTHER_MEANS = "batch-norm buffers, step counters and other states below 1% of the total"

STATE_CAVEAT = (
    "State pruning with a bool mask would cost what magnitude with a bool mask costs: it saves "
    "the scores and the kept weights of movement pruning."
)


def owners(memory: Mapping[str, Any]) -> dict[str, int]:
    """Bytes by owner; they add up to the record's total.

    Weights, gradients, each optimizer state and each of the pruner's buffers by name, and
    ``other``: batch-norm buffers, step counters and other states below 1% of the total.
    """
    found = {"weights": memory["weights"], "gradients": memory["gradients"], **states(memory)}
    found.update({name: size for name, size in memory["pruner"].items() if size})
    small = sum(memory["optimizer"].values()) - sum(states(memory).values())
    return {**found, OTHER: memory["buffers"] + small}


def states(memory: Mapping[str, Any]) -> dict[str, int]:
    """Bytes of the optimizer's states by name, without those too small to be seen."""
    least = SMALL * memory["total"]
    return {name: size for name, size in memory["optimizer"].items() if size >= least}


def pruner_bytes(memory: Mapping[str, Any]) -> int:
    """Bytes that pruning itself keeps from step to step."""
    return sum(memory["pruner"].values())
