"""Memory layouts: torch's fused kernels walk memory and never look at strides.

A fused kernel takes the n-th number in memory of a weight, its gradient and its states together.
This is right only where all of them have the strides of the weight, without holes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def is_dense(tensor: Tensor) -> bool:
    """Whether the numbers of ``tensor`` fill its memory: no holes, and none of them twice."""
    if tensor.is_contiguous():
        return True
    return bool(torch.ops.aten.is_non_overlapping_and_dense.default(tensor))


def laid_out(param: Tensor, tensor: Tensor) -> Tensor:
    """``tensor`` with the strides of ``param``, which has its shape: as it is, or a copy.

    Where the two differ only in dimensions of size 1 the result shares the memory of ``tensor``.
    No kernel walks the memory of a parameter with holes: for one, ``tensor`` stays as it is.
    """
    if tensor.stride() == param.stride() or not is_dense(param):
        return tensor
    parts = zip(param.shape, tensor.stride(), param.stride(), strict=True)
    if all(size == 1 or one == other for size, one, other in parts):
        return tensor.as_strided(param.shape, param.stride())
    return torch.empty_like(param, dtype=tensor.dtype, device=tensor.device).copy_(tensor)


def in_memory(tensor: Tensor) -> Tensor:
    """The numbers of a dense ``tensor`` in the order of its memory: a view [n]."""
    if tensor.is_contiguous():
        return tensor.view(-1)
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.permute(order).view(-1)


def as_real(tensors: list[Tensor]) -> list[Tensor]:
    """Complex tensors as pairs of real numbers in the same memory, as torch's Adam takes them."""
    return [torch.view_as_real(each) if each.is_complex() else each for each in tensors]
