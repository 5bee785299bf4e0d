"""Convolution, normalisation and 2x2 max-pooling, computed together where that is faster: a CPU.

A pooling window holds the four pixels of a 2x2 block: one of each phase (0, 0), (0, 1), (1, 0),
(1, 1) of its rows and columns. Here the phases of the input are channels, and one convolution with
a kernel half as large gives the phases of the output as channels. That does not waste vector units
on a single input channel, and pooling is three comparisons of whole tensors. The numbers are those
of the plain modules up to the order of sums; of equal values in a window the first one in the order
above gets the gradient, as in torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

PHASES = [(0, 0), (0, 1), (1, 0), (1, 1)]  # row, column within a 2x2 block


def conv_norm_pool(images: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """``max_pool2d(norm(conv(images)), 2)`` for images ``[n, channels, height, width]``.

    By phases on a CPU if height and width are even and ``conv`` is a plain convolution with a
    square kernel of odd size, without padding.
    """
    height, width = images.shape[-2:]
    if images.device.type != "cpu" or height % 2 or width % 2 or not _is_plain(conv):
        return F.max_pool2d(norm(conv(images)), 2)
    bias = None if conv.bias is None else conv.bias.repeat_interleave(4)
    # Computed as phases [n, channels * 4, rows, columns]; normalised over all four of a channel.
    phases = F.conv2d(phases_of(images), phase_kernel(conv.weight), bias)
    n, channels, rows, columns = phases.shape
    normalised = norm(phases.view(n, channels // 4, 4 * rows, columns))
    pooled: Tensor = _Max4.apply(normalised.view(n, channels // 4, 4, rows * columns))
    return pooled.view(n, channels // 4, rows, columns)


def _is_plain(conv: nn.Conv2d) -> bool:
    height, width = conv.kernel_size
    is_dense = conv.stride == conv.dilation == (1, 1) and conv.groups == 1
    return height == width and height % 2 == 1 and is_dense and conv.padding == (0, 0)


def phases_of(images: Tensor) -> Tensor:
    """``[n, c, h, w]`` → ``[n, c * 4, h / 2, w / 2]``: each channel's four phases, side by side."""
    n, channels, height, width = images.shape
    blocks = images.view(n, channels, height // 2, 2, width // 2, 2)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(n, channels * 4, height // 2, width // 2)


def phase_kernel(weight: Tensor) -> Tensor:
    """``[o, c, k, k]`` → ``[o * 4, c * 4, (k + 1) / 2, (k + 1) / 2]``: phases to phases.

    Output phase (r, s) at block (y, x) is the output pixel (2y + r, 2x + s): the kernel shifted by
    (r, s) in a field of k + 1, and that field's phases meet the input's.
    """
    size = weight.shape[-1] + 1
    field = F.pad(weight, (1, 1, 1, 1))
    shifted = [field[:, :, 1 - r : 1 - r + size, 1 - s : 1 - s + size] for r, s in PHASES]
    kernels = torch.stack([phases_of(each) for each in shifted], dim=1)
    return kernels.flatten(0, 1)


class _Max4(torch.autograd.Function):
    """The maximum over the third dimension of ``[n, c, 4, m]``.

    Masks are float32: on a CPU a comparison into floats is ten times as fast as one into bools and
    a multiplication with them.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        a, b, c, d = values.unbind(2)
        ctx.save_for_backward(values)
        return torch.maximum(torch.maximum(a, b), torch.maximum(c, d))

    @staticmethod
    @once_differentiable  # type: ignore[misc, no-untyped-call, unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        a, b, c, d = values.unbind(2)
        into = torch.empty_like(values)
        first = _share(grad, torch.maximum(a, b), torch.maximum(c, d))
        for half, (one, other), at in ((first, (a, b), 0), (grad - first, (c, d), 2)):
            share = _share(half, one, other)
            into[:, :, at] = share
            torch.sub(half, share, out=into[:, :, at + 1])
        return into


def _share(grad: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """The part of ``grad`` that goes to ``one`` out of the two: where it is the larger or equal."""
    mask = torch.empty_like(grad)
    torch.ge(one, other, out=mask)
    return mask.mul_(grad)
