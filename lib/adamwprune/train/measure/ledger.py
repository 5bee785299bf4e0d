"""The ledger: bytes of the tensors that exist, by owner; nothing is computed from formulas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from adamwprune.pruning import Pruner
from adamwprune.pruning.shards import local


class Ledger:
    """Adds up bytes by owner and counts each storage once, for whoever names it first."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def bytes_of(self, tensors: Iterable[Tensor]) -> int:
        """Bytes of the storages behind ``tensors`` that no earlier call has counted."""
        total = 0
        for tensor in tensors:
            storage = local(tensor).untyped_storage()  # what this process has of it
            if storage.data_ptr() not in self._seen:
                self._seen.add(storage.data_ptr())
                total += storage.nbytes()
        return total


def gradients(model: nn.Module) -> int:
    """Bytes of the gradients that are there."""
    return Ledger().bytes_of(p.grad for p in model.parameters() if p.grad is not None)


def account(
    model: nn.Module, optimizer: Optimizer, pruner: Pruner, at_once: int | None = None
) -> dict[str, Any]:
    """Bytes of weights, buffers, gradients, each optimizer state and what the pruner keeps.

    ``at_once``: bytes of the gradients that a step had at once, where it has freed them.
    """
    ledger = Ledger()
    parameters = list(model.parameters())
    record: dict[str, Any] = {
        "weights": ledger.bytes_of(parameters),
        "buffers": ledger.bytes_of(model.buffers()),
        "gradients": gradients(model) if at_once is None else at_once,
        "optimizer": {
            name: ledger.bytes_of(tensors) for name, tensors in _states(optimizer).items()
        },
        "pruner": {name: ledger.bytes_of(tensors) for name, tensors in pruner.buffers().items()},
    }
    shared = record["weights"] + record["buffers"] + record["gradients"]
    record["total"] = shared + sum(record["optimizer"].values()) + sum(record["pruner"].values())
    return record


def _states(optimizer: Optimizer) -> dict[str, list[Tensor]]:
    """The optimizer's tensors by state name, and what it keeps beside them."""
    states: dict[str, list[Tensor]] = {}
    for state in optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, Tensor):
                states.setdefault(name, []).append(value)
    entries = (entry for group in optimizer.param_groups for entry in group.values())
    for kept in (entry for entry in entries if isinstance(entry, Mapping)):
        for name, value in kept.items():
            if isinstance(value, Tensor):
                states.setdefault(name, []).append(value)
    return states
