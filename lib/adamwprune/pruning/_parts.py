"""Parts of a layer: so much of it at a time as is computed with at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

# Weights at a time. On a CPU what is computed of them stays in the caches of two cores; on a GPU
# few kernels are launched. Never more than 2²⁴: up to there a float32 counts exactly.
SIZE = {"cpu": 1 << 18, "cuda": 1 << 24}


class Part(NamedTuple):
    """Weights of one layer by their index: from ``start`` to before ``stop``, every ``step``-th.

    The index counts as in ``flatten()``, whatever the layout in memory.
    """

    start: int
    stop: int
    step: int = 1

    def of(self, tensor: Tensor) -> Tensor:
        """These elements [n] of a tensor of the layer's shape: a view, if it is contiguous."""
        flat = tensor.view(-1) if tensor.is_contiguous() else tensor.reshape(-1)
        return flat[self.start : self.stop : self.step]

    def put(self, tensor: Tensor, values: Tensor) -> None:
        """Write ``values`` [n] there, unless they are a view of it already."""
        if tensor.is_contiguous():
            if (there := self.of(tensor)).data_ptr() != values.data_ptr():
                there.copy_(values)
            return
        flat = tensor.reshape(-1)  # a copy: what is laid out otherwise has no flat view
        flat[self.start : self.stop : self.step] = values
        tensor.copy_(flat.view(tensor.shape))


def whole(tensor: Tensor) -> Part:
    """All of a layer."""
    return Part(0, tensor.numel())


def parts(tensor: Tensor) -> Iterator[Part]:
    """A layer's parts in their order; one that has no flat view is a single part."""
    size = SIZE.get(tensor.device.type, SIZE["cpu"])
    if not tensor.is_contiguous():
        size = max(1, tensor.numel())
    for start in range(0, tensor.numel(), size):
        yield Part(start, min(start + size, tensor.numel()))
