"""What training should take by what its members declare, to stand beside what the ledger counted.

A float is four bytes. N parameters take 4 N bytes, their gradients as many. An optimizer declares
its states (``Base.declared_states``), a pruning method the bytes a weight that it keeps
(``Score.expected_bytes``), a storage those of its masks (``Masks.expected_bytes``) and what an
optimizer need not keep (``Masks.without_states``).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Parameter

from adamwprune import optimizers, pruning
from adamwprune.pruning.score import FLOAT, Score
from adamwprune.pruning.storage import STORAGES, Count

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Size:
    """What the formulas take of a model."""

    parameters: int  # N, numbers
    tensors: int  # T, parameter tensors
    prunable: tuple[Shape, ...]  # shapes of the prunable tensors
    buffers: int = 0  # bytes
    largest: int = 0  # numbers of the largest parameter tensor
    pruned: tuple[Count, ...] = ()  # the prunable tensors, where some of them are pruned

    @property
    def counts(self) -> tuple[Count, ...]:
        """Of each prunable tensor; all are live where nothing says otherwise."""
        sizes = (math.prod(shape) for shape in self.prunable)
        return self.pruned or tuple(Count(numel, numel) for numel in sizes)


def computed(values: Mapping[str, Any], size: Size) -> dict[str, Any]:
    """Bytes by owner of a run with these ``values``, in the form of the ledger's record.

    They hold from the first mask update on. Raises ``KeyError`` for an optimizer, a method or a
    storage that is not there, and ``NotImplementedError`` for an optimizer that declares nothing.
    """
    floats = FLOAT * size.parameters
    gradients = FLOAT * size.largest if values.get("RELEASE_GRADIENTS") else floats
    states = optimizer_bytes(values, size)
    kept = pruner_bytes(values, size)
    own = sum(states.values()) + sum(kept.values())
    return {
        "weights": floats,
        "buffers": size.buffers,
        "gradients": gradients,
        "optimizer": states,
        "pruner": kept,
        "total": floats + size.buffers + gradients + own,
    }


def optimizer_bytes(values: Mapping[str, Any], size: Size) -> dict[str, int]:
    """Bytes of the optimizer's states by name."""
    optimizer = optimizers.build(values["OPTIMIZER"], [Parameter(torch.empty(0))], values)
    storage = STORAGES[values.get("MASK_STORAGE", "bool")]  # of a dense run none
    numbers = size.parameters - storage.without_states(size.counts)
    return {
        name: each.of(numbers, size.tensors) for name, each in optimizer.declared_states().items()
    }


def pruner_bytes(values: Mapping[str, Any], size: Size) -> dict[str, int]:
    """Bytes of what pruning keeps beside the optimizer, by owner."""
    score: Score = pruning.method(values)
    if not score.prunes:
        return {}
    kept = score.expected_bytes(size.prunable)
    masks = STORAGES[values["MASK_STORAGE"]].expected_bytes(size.counts)
    return {**kept, "masks": masks} if masks else kept
