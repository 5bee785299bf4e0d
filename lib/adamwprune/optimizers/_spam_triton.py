"""The z-score of a gradient norm as one kernel on a GPU.

The same arithmetic by torch's operations is some 25 kernels on single numbers, each of which waits
for the one before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# For mypy, which knows nothing about Triton. Where tensors begin makes no difference to the code.
_kernel: Callable[[Any], Any] = triton.jit(do_not_specialize=["norm", "ring", "count", "spike"])


def is_spike(norm: Tensor, ring: Tensor, count: Tensor, fewest: int, deviations: float) -> Tensor:
    """As :meth:`adamwprune.optimizers._spam.NormWindow.is_spike`; ``norm`` joins the ``ring``.

    ``ring`` is float32 [window], ``count`` int64 [1].
    """
    spike = torch.empty((), dtype=torch.bool, device=norm.device)
    settings = {"WINDOW": len(ring), "FEWEST": fewest, "DEVIATIONS": deviations}
    block = triton.next_power_of_2(len(ring))
    # Triton launches on the current device.
    here = torch.cuda.device_of(norm) if norm.is_cuda else contextlib.nullcontext()
    with here:
        _judge[(1,)](norm, ring, count, spike, **settings, BLOCK=block, num_warps=1)
    return spike


@_kernel
def _judge(
    norm: tl.tensor,
    ring: tl.tensor,
    count: tl.tensor,
    spike: tl.tensor,
    WINDOW: tl.constexpr,
    FEWEST: tl.constexpr,
    DEVIATIONS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """In float64; the norms that were not seen yet are zero."""
    i = tl.arange(0, BLOCK)
    before = tl.load(count)
    seen = tl.minimum(tl.maximum(before, 1), WINDOW)
    norms = tl.load(ring + i, mask=i < WINDOW, other=0.0).to(tl.float64)
    mean = tl.sum(norms, 0) / seen.to(tl.float64)
    rest = tl.where(i < seen, norms - mean, 0.0)
    deviation = tl.sqrt(tl.sum(rest * rest, 0) / seen.to(tl.float64))
    new = tl.load(norm)
    joining = new.to(tl.float32)
    is_finite = joining < float("inf")
    is_far = (deviation > 0.0) & (new.to(tl.float64) - mean > DEVIATIONS * deviation)
    tl.store(spike, (is_far | ~is_finite) & (before >= FEWEST))
    tl.debug_barrier()  # all norms are read before one is overwritten
    tl.store(ring + before % WINDOW, joining, mask=is_finite)
    tl.store(count, before + 1, mask=is_finite)
