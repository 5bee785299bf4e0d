"""What training should take by what its members declare, to stand beside what the ledger counted.

A float is four bytes. N parameters take 4 N bytes, their gradients as many. An optimizer declares
its states (``Base.declared_states``), a pruning method the bytes a weight that it keeps
(``Score.expected_bytes``), a storage those of its masks (``Masks.expected_bytes``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Parameter

from adamwprune import optimizers, pruning
from adamwprune.pruning.score import FLOAT, Score
from adamwprune.pruning.storage import STORAGES

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Size:
    """What the formulas take of a model."""

    parameters: int  # N, numbers
    tensors: int  # T, parameter tensors
    prunable: tuple[Shape, ...]  # shapes of the prunable tensors
    buffers: int = 0  # bytes


def computed(values: Mapping[str, Any], size: Size) -> dict[str, Any]:
    """Bytes by owner of a run with these ``values``, in the form of the ledger's record.

    They hold from the first mask update on. Raises ``KeyError`` for an optimizer, a method or a
    storage that is not there, and ``NotImplementedError`` for an optimizer that declares nothing.
    """
    floats = FLOAT * size.parameters
    states = optimizer_bytes(values, size)
    kept = pruner_bytes(values, size)
    own = sum(states.values()) + sum(kept.values())
    return {
        "weights": floats,
        "buffers": size.buffers,
        "gradients": floats,
        "optimizer": states,
        "pruner": kept,
        "total": 2 * floats + size.buffers + own,
    }


def optimizer_bytes(values: Mapping[str, Any], size: Size) -> dict[str, int]:
    """Bytes of the optimizer's states by name."""
    optimizer = optimizers.build(values["OPTIMIZER"], [Parameter(torch.empty(0))], values)
    return {
        name: each.of(size.parameters, size.tensors)
        for name, each in optimizer.declared_states().items()
    }


def pruner_bytes(values: Mapping[str, Any], size: Size) -> dict[str, int]:
    """Bytes of what pruning keeps beside the optimizer, by owner."""
    score: Score = pruning.method(values)
    if not score.prunes:
        return {}
    kept = score.expected_bytes(size.prunable)
    masks = STORAGES[values["MASK_STORAGE"]].expected_bytes(size.prunable)
    return {**kept, "masks": masks} if masks else kept
