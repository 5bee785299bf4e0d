"""Where the live numbers of a weight are: to gather them as a vector, and to write them back.

The vector [1, P] has the live numbers in the order in which they lie in memory. On a CPU it may
have zeros between them, so that a step of torch's fused kernels gives them the bits that it gives
the whole weight. These kernels compute vectors of :data:`LANES` bytes, and what is left at the end
number by number, which may round otherwise: what is in that rest in one must be so in the other.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from adamwprune.optimizers._layout import in_memory, laid_out
from adamwprune.pruning.select.parts import Part

LANES = 32  # bytes
PART = 1 << 20  # numbers that a thread reads or writes by the index, in half a millisecond or more


def length(numel: int, live: int, rest: int, lanes: int) -> int:
    """P of a weight of ``numel`` numbers, of which ``live`` are live; ``rest`` of these are among
    the last ``numel`` modulo ``lanes``.
    """
    gap = (rest - live) % lanes
    if live + gap == numel:  # a state as long as the weight is a whole one
        gap += lanes
    return live + gap


class Live:
    """The live numbers of ``weight``, those not set in ``mask`` (bool, True = pruned).

    ``index``: where they lie in its memory, int32 [L] (int64 from 2³¹ numbers), ascending.
    ``shape``: [1, P], of a vector of them.
    """

    def __init__(self, weight: Tensor, mask: Tensor) -> None:
        self.weight = weight
        numel = weight.numel()
        found = in_memory(laid_out(weight, mask)).logical_not().nonzero().squeeze(1)
        self.index = found.to(torch.int32) if numel < 1 << 31 else found
        lanes = LANES // weight.element_size() if weight.is_cpu else 1
        self._rest = int((found >= numel - numel % lanes).sum()) if lanes > 1 else 0
        self._main = len(found) - self._rest  # how many are not in the rest
        size = length(numel, len(found), self._rest, lanes)
        self._gap = size - len(found)
        self.shape = torch.Size((1, size))

    def gather(self, tensor: Tensor) -> Tensor:
        """The live numbers [1, P] of ``tensor``, which has the weight's shape."""
        flat = in_memory(laid_out(self.weight, tensor.detach()))
        values = flat.new_empty(self.shape)
        main, gap, rest = values.view(-1).split((self._main, self._gap, self._rest))
        gap.zero_()
        torch.index_select(flat, 0, self.index[self._main :], out=rest)

        def read(part: slice) -> None:
            torch.index_select(flat, 0, self.index[: self._main][part], out=main[part])

        _in_threads(read, main)
        return values

    def scatter(self, values: Tensor, tensor: Tensor) -> Tensor:
        """Write ``values`` [1, P] to their places in ``tensor``, laid out as the weight is."""
        flat = in_memory(tensor.detach())
        main, _, rest = values.detach().view(-1).split((self._main, self._gap, self._rest))
        flat.index_copy_(0, self.index[self._main :].long(), rest)

        def write(part: slice) -> None:
            flat.index_copy_(0, self.index[: self._main][part].long(), main[part])

        _in_threads(write, main)
        return tensor

    def expand(self, values: Tensor) -> Tensor:
        """A tensor of the weight's shape and layout: ``values`` [1, P] where they belong, or 0."""
        return self.scatter(values, torch.zeros_like(self.weight, dtype=values.dtype))

    def mask(self) -> Tensor:
        """The bool mask of the weight, True = pruned."""
        mask = torch.ones_like(self.weight, dtype=torch.bool)
        in_memory(mask).index_fill_(0, self.index.long(), False)
        return mask

    def mask_part(self, part: Part) -> Tensor:
        """A part [n] of :meth:`mask`."""
        if part.step > 1 or not self.weight.is_contiguous():
            return part.of(self.mask())
        first, last = (int(torch.searchsorted(self.index, n)) for n in (part.start, part.stop))
        mask = torch.ones(part.numel, dtype=torch.bool, device=self.index.device)
        return mask.index_fill_(0, self.index[first:last].long() - part.start, False)


def _in_threads(work: Callable[[slice], object], values: Tensor) -> None:
    """Do ``work`` on all ``values`` [n]: on a CPU in as many threads as torch has.

    torch itself reads and writes by an index in one thread. A part is one of :data:`PART` numbers.
    """
    numel = len(values)
    threads = torch.get_num_threads() if values.is_cpu else 1
    if threads == 1 or numel <= PART:
        work(slice(numel))
        return
    parts = (slice(start, start + PART) for start in range(0, numel, PART))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, parts))
