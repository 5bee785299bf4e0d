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


DRAWS = 2**31  # random numbers of an example are below
DRAW_SEED = 2**32  # is beyond every SEED: order and draws come from different generators


class Order:
    """Picks of training examples (:class:`Data`), batch by batch, shuffled anew in each pass.

    The order and the random numbers beside it come from generators of their own on the CPU: they
    are the same on every device.
    """

    def __init__(self, examples: int, batch_size: int, seed: int, device: torch.device) -> None:
        self.examples, self.batch_size, self.device = examples, batch_size, device
        self._generators = (
            torch.Generator().manual_seed(seed),
            torch.Generator().manual_seed(DRAW_SEED + seed),
        )
        self._before = self._states()  # at the start of the pass in hand
        self._batches: tuple[Tensor, ...] = ()  # of the pass in hand, once it has begun
        self._done = 0  # of these

    def next(self) -> Tensor:
        """The next batch, ``[batch size, 2]`` or fewer at the end of a pass."""
        if not self._batches:
            for generator, state in zip(self._generators, self._before, strict=True):
                generator.set_state(state)
            shuffled, drawn = self._generators
            order = torch.randperm(self.examples, generator=shuffled)
            draws = torch.randint(DRAWS, (self.examples,), generator=drawn)
            picks = torch.stack((order, draws), dim=1).to(self.device)
            self._batches = picks.split(self.batch_size)
        batch = self._batches[self._done]
        self._done += 1
        if self._done == len(self._batches):
            self._before, self._batches, self._done = self._states(), (), 0
        return batch

    def _states(self) -> tuple[Tensor, ...]:
        return tuple(generator.get_state() for generator in self._generators)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"before": self._before, "done": self._done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self._before, self._done, self._batches = state["before"], state["done"], ()
