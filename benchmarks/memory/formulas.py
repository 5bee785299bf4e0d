"""What training should take by formula, to stand beside what the ledger counted.

A float is four bytes. N parameters take 4 N bytes, their gradients as many, and so does each state
of the optimizer; pruning P weights takes what its method and its mask's storage say below. Only
the model's size and the run's values are needed, no torch: a record's figure can be computed
where it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adamwprune.base.errors import UserError

FLOAT = 4  # bytes
NORMS = 100  # gradient norms that the z-score looks back on
STATISTICS = 4 * 8  # bytes: four float64 a parameter tensor, which Stable-SPAM keeps

# Bytes a prunable weight that a method keeps from step to step, by owner.
METHODS: dict[str, dict[str, int]] = {
    "none": {},
    "magnitude": {},
    "state": {},
    "random": {},
    "set": {},
    "rigl": {},
    "movement": {"scores": FLOAT, "kept_weights": FLOAT},
    "movement-seed": {"initial_weights": FLOAT},
}


@dataclass(frozen=True)
class Size:
    """What the formulas take of a model."""

    parameters: int  # N, numbers
    tensors: int  # that hold them
    prunable: tuple[int, ...]  # weights of each prunable tensor; their sum is P
    buffers: int = 0  # bytes

    @classmethod
    def of_record(
        cls,
        memory: Mapping[str, Any],
        pruning: Mapping[str, Any],
        groups: list[Mapping[str, Any]],
    ) -> Size:
        """The size of a recorded run's model, from the record's parts of these names."""
        return cls(
            memory["weights"] // FLOAT,
            sum(group["params"] for group in groups),
            tuple(layer["numel"] for layer in pruning["layers"]),
            memory["buffers"],
        )


def computed(values: Mapping[str, Any], size: Size) -> dict[str, Any]:
    """Bytes by owner of a run with these ``values``, in the form of the ledger's record.

    They hold from the first mask update on. Raises :class:`UserError` for an optimizer, a
    method or a storage without a formula.
    """
    floats = FLOAT * size.parameters
    optimizer = _states(values, size)
    pruner = _pruner(values, size)
    own = sum(optimizer.values()) + sum(pruner.values())
    return {
        "weights": floats,
        "buffers": size.buffers,
        "gradients": floats,
        "optimizer": optimizer,
        "pruner": pruner,
        "total": 2 * floats + size.buffers + own,
    }


def _states(values: Mapping[str, Any], size: Size) -> dict[str, int]:
    """Bytes of the optimizer's states by name."""
    floats = FLOAT * size.parameters
    if "SGD_MOMENTUM" in values:
        return {"momentum_buffer": floats} if values["SGD_MOMENTUM"] else {}
    if "AMSGRAD" not in values:
        raise UserError(f"there is no formula for the states of {values['OPTIMIZER']}")
    states = {"step": FLOAT * size.tensors, "exp_avg": floats, "exp_avg_sq": floats}
    if values["AMSGRAD"] == "on":
        states["max_exp_avg_sq"] = floats
    if values["SPAM_MODE"] == "zscore":
        states["spam_norms"] = FLOAT * NORMS
        states["spam_count"] = 8  # int64: of them
    elif values["SPAM_MODE"] == "stable":
        states["gradient_statistics"] = STATISTICS * size.tensors
    elif values["SPAM_MODE"] not in ("none", "paper"):  # paper: settings, and no state
        raise UserError(f"there is no formula for the states of SPAM mode {values['SPAM_MODE']}")
    return states


def _pruner(values: Mapping[str, Any], size: Size) -> dict[str, int]:
    """Bytes of what pruning keeps beside the optimizer, by owner."""
    method = values["PRUNING_METHOD"]
    if method not in METHODS:
        raise UserError(f"there is no formula for the method {method}")
    kept = {owner: each * sum(size.prunable) for owner, each in METHODS[method].items()}
    masks = mask_bytes(values["MASK_STORAGE"], size.prunable) if method != "none" else 0
    return {**kept, "masks": masks} if masks else kept


def mask_bytes(storage: str, prunable: tuple[int, ...]) -> int:
    """``bool``: a byte a weight; ``bits``: a bit, whole bytes each tensor; ``implied``: none."""
    if storage == "bool":
        return sum(prunable)
    if storage == "bits":
        return sum(-(-numel // 8) for numel in prunable)
    if storage == "implied":
        return 0
    raise UserError(f"there is no formula for the mask storage {storage}")


def above_dense(phases: Mapping[str, int], dense: Mapping[str, int]) -> dict[str, int]:
    """Bytes by phase beyond those of the dense run with the same seed.

    A phase that the dense run does not have is compared with its steady one: a mask update
    comes on top of what a step leaves allocated.
    """
    return {name: size - dense.get(name, dense["steady"]) for name, size in phases.items()}
