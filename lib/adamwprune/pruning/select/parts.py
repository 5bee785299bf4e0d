"""A layer is processed in cache-sized parts."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor

# Weights of a part. More would leave a CPU's caches, fewer would be dominated by the start of each
# operation.
SIZE = {"cpu": 1 << 19, "cuda": 1 << 22}
LARGEST = 1 << 24  # up to this number a float32 counts exactly


class Part(NamedTuple):
    """Weights of one layer by their index: from ``start`` to before ``stop``, every ``step``-th.

    The index counts as in ``flatten()``, whatever the layout in memory.
    """

    start: int
    stop: int
    step: int = 1

    @property
    def numel(self) -> int:
        """How many weights these are."""
        return len(range(*self))

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


@functools.cache
def keep_pages() -> None:
    """Let glibc keep freed memory, up to 64 MB; done once a process.

    Otherwise it may give the memory of each part back to the system and take it again for the next
    one, page by page, which took a third of an update's time. It raises its limits by itself once
    a block of up to 32 MB is freed that it had mapped (mallopt(3), M_MMAP_THRESHOLD); this one
    is never touched, and takes no memory.
    """
    np.empty((32 << 20) - (64 << 10), dtype=np.uint8)


def whole(tensor: Tensor) -> Part:
    """All of a layer."""
    return Part(0, tensor.numel())


def parts(tensor: Tensor, block: int = 8) -> Iterator[Part]:
    """A layer's parts in their order, each but the last a multiple of ``block`` weights.

    One that has no flat view is copied for each part, and has as few as counting allows.
    """
    size = SIZE.get(tensor.device.type, SIZE["cpu"]) if tensor.is_contiguous() else LARGEST
    size = max(block, size // block * block)
    for start in range(0, tensor.numel(), size):
        yield Part(start, min(start + size, tensor.numel()))
