"""Tasks: what a network is trained for and by which metrics it is judged.

A member's module has ``build(values, data) -> Task``; the ``values`` are a run's by symbol name.
The training loop knows no task by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from adamwprune.base import registry
from adamwprune.base.metrics import Metric
from adamwprune.datasets import Batch, Data

registry.extend(__name__, __path__)

Network = Callable[[Tensor], Tensor]  # a batch's inputs -> the network's output


class Diverged(Exception):
    """A metric is not a finite number any more; the same run would diverge again."""


class Task(Protocol):
    """How to get a loss out of a batch, and metrics out of many."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What a run is judged by, the headline first."""

    @property
    def totals(self) -> tuple[str, ...]:
        """Names of the sums that :meth:`observe` adds to."""

    def loss(self, network: Network, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss to minimise, a float32 scalar, the mean over the batch; and what
        :meth:`observe` needs beside it: logits, or losses by token.
        """

    def observe(self, sums: Sums, batch: Batch, loss: Tensor, output: Tensor) -> None:
        """Add a batch to ``sums``, on the device: nothing may be read back."""

    def measures(self, totals: Mapping[str, float], examples: int) -> dict[str, float]:
        """The value of each metric by name, from the sums over so many examples."""


@runtime_checkable
class Sampling(Protocol):
    """A task whose networks make something that a person may look at."""

    def sample(self, network: nn.Module) -> bytes:
        """Text that a trained network writes, the same each time; empty where there is none."""


class Sums:
    """Totals by name over a number of examples, accumulated on the device as float64.

    The tensors stay where they are, so that a CUDA graph can add to them.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.totals = torch.zeros(len(names), dtype=torch.float64, device=device)
        self._parts = dict(zip(names, self.totals.unbind(), strict=True))
        self.examples = 0  # counted by the loop: a replayed graph runs no Python

    def add(self, name: str, value: Tensor | float) -> None:
        """Add a scalar to one of the totals."""
        self._parts[name] += value

    def reset(self) -> None:
        """Start again from zero."""
        self.totals.zero_()
        self.examples = 0

    def read(self) -> dict[str, float]:
        """The totals by name; waits for the device, once."""
        return dict(zip(self._parts, self.totals.tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"totals": self.totals.clone(), "examples": self.examples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.totals.copy_(state["totals"])
        self.examples = state["examples"]


def measured(task: Task, sums: Sums) -> dict[str, float]:
    """The metrics over all that ``sums`` has seen; :class:`Diverged` if one is not finite."""
    found = task.measures(sums.read(), sums.examples)
    for name, value in found.items():
        if not math.isfinite(value):
            raise Diverged(f"training diverged: the {name} is {value}")
    return found


def build(values: Mapping[str, Any], data: Data) -> Task:
    """The task of a run on its ``data``."""
    return cast(Task, registry.member(__name__, values["TASK"]).build(values, data))
