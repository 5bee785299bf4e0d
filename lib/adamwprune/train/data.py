"""A run's network, its data on its device, and the order in which it sees them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adamwprune import datasets, models
from adamwprune.base.kinds import Kind
from adamwprune.base.reads import Reads
from adamwprune.datasets import Data
from adamwprune.models import Model


def network_for(values: Mapping[str, Any]) -> Model:
    """A run's network, built for the kind of its data from torch's current random state."""
    return models.build(values, datasets.kind(values))


_loaded: list[tuple[dict[str, Any], tuple[object, ...], Data]] = []


def loaded(
    values: Mapping[str, Any], data_dir: Path, takes: Kind, device: torch.device | str
) -> Data:
    """The data of a run as its model takes them, on ``device``.

    Loaded once a process: the last data are kept, for runs that load by the same values.
    """
    place = (str(data_dir), takes, str(device))
    for read, where, data in _loaded:
        if where == place and all(values.get(name) == value for name, value in read.items()):
            return data
    _loaded.clear()  # before the next are there: two sets need not fit
    reads = Reads(values)
    data = datasets.load(reads, data_dir).fitted(takes).to(torch.device(device))
    _loaded.append((reads.read, place, data))
    return data


class Order:
    """Numbers of the training examples, batch by batch, shuffled anew in each pass over them.

    The order comes from a generator of its own on the CPU: it is the same on every device.
    """

    def __init__(self, examples: int, batch_size: int, seed: int, device: torch.device) -> None:
        self.examples, self.batch_size, self.device = examples, batch_size, device
        self._generator = torch.Generator().manual_seed(seed)
        self._before = self._generator.get_state()  # at the start of the pass in hand
        self._batches: tuple[Tensor, ...] = ()  # of the pass in hand, once it has begun
        self._done = 0  # of these

    def next(self) -> Tensor:
        """The next batch, ``[batch size]`` or fewer at the end of a pass."""
        if not self._batches:
            self._generator.set_state(self._before)
            order = torch.randperm(self.examples, generator=self._generator).to(self.device)
            self._batches = order.split(self.batch_size)
        batch = self._batches[self._done]
        self._done += 1
        if self._done == len(self._batches):
            self._before, self._batches, self._done = self._generator.get_state(), (), 0
        return batch

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"before": self._before, "done": self._done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self._before, self._done, self._batches = state["before"], state["done"], ()
