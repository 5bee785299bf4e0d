"""Convolution, batch normalisation and 2x2 max-pooling on a GPU: a matrix product and few passes.

With one or six input channels cuDNN's deterministic gradients of a kernel take most of a step. Here
every window of the input is a row of a matrix, and convolution and its gradients are products with
it. As on a CPU (:mod:`adamwprune.models._pooled_conv`) the four pixels of a pooling window are
neighbours, here in the last dimension, so that pooling is a maximum of four numbers side by side.
Everything is deterministic: no two threads add to the same number.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def blocks_of(images: Tensor) -> Tensor:
    """``[n, c, h, w]`` → ``[n, h / 2, w / 2, c * 4]``: each channel's pixels of a 2x2 block."""
    n, channels, height, width = images.shape
    rows, columns = height // 2, width // 2
    blocks = images.reshape(n, channels, rows, 2, columns, 2).permute(0, 2, 4, 1, 3, 5)
    return blocks.reshape(n, rows, columns, 4 * channels)


class Convolution(torch.autograd.Function):
    """``[n, h, w, c]`` with a kernel ``[o, c, k, k]`` → ``[n, h - k + 1, w - k + 1, o]``."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernel: Tensor) -> Tensor:
        outputs, channels, size, _ = kernel.shape
        n, height, width, _ = images.shape
        rows, columns = height - size + 1, width - size + 1
        images = images.contiguous()
        _, down, right, _ = images.stride()
        windows = images.as_strided(
            (n, rows, columns, size, size, channels), (*images.stride()[:3], down, right, 1)
        ).reshape(n * rows * columns, -1)
        factors = kernel.permute(2, 3, 1, 0).reshape(-1, outputs)
        ctx.save_for_backward(windows, factors)
        ctx.shapes = images.shape, kernel.shape
        return (windows @ factors).view(n, rows, columns, outputs)

    @staticmethod
    @once_differentiable  # type: ignore[misc, no-untyped-call, unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor]:
        windows, factors = ctx.saved_tensors
        (n, height, width, channels), (outputs, _, size, _) = ctx.shapes
        rows, columns = height - size + 1, width - size + 1
        grad = grad.reshape(-1, outputs)
        into_kernel = (windows.t() @ grad).view(size, size, channels, outputs).permute(3, 2, 0, 1)
        if not ctx.needs_input_grad[0]:
            return None, into_kernel
        into_windows = (grad @ factors.t()).view(n, rows, columns, size, size, channels)
        into = grad.new_zeros(n, height, width, channels)
        for i in range(size):
            for j in range(size):
                into[:, i : i + rows, j : j + columns].add_(into_windows[:, :, :, i, j])
        return into, into_kernel


class NormMax(torch.autograd.Function):
    """Batch normalisation of ``[m, c, 4]`` and the maximum over its last dimension.

    Arguments and results are those of :class:`adamwprune.models._pooled_conv.NormMax4`, the result
    ``[m, c]``; of equal values the first gets the gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, scale: Tensor, shift: Tensor, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        variance, mean = torch.var_mean(values, (0, 2), correction=0)
        inverse = (variance + eps).rsqrt_()
        # A row of four, not torch.max over the last dimension: several times as fast.
        row = [1, 4]
        pooled, places = torch.ops.aten.max_pool2d_with_indices(values.unsqueeze(2), row, row)
        pooled = pooled.flatten(1).sub_(mean).mul_(inverse)
        ctx.save_for_backward(values, places.flatten(2), pooled, mean, inverse, scale)
        ctx.bias = None if bias is None else bias.new_zeros(bias.shape)
        ctx.mark_non_differentiable(mean, variance)
        return torch.addcmul(shift, pooled, scale), mean, variance

    @staticmethod
    @once_differentiable  # type: ignore[misc, no-untyped-call, unused-ignore]
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        values, places, pooled, mean, inverse, scale = ctx.saved_tensors
        count = values.shape[0] * values.shape[2]
        into_shift, into_scale = grad.sum(0), (grad * pooled).sum(0)
        factor = scale * inverse
        # What reaches every pixel through mean and variance, then what the maxima get.
        share = factor / -count
        slope = share * inverse * into_scale
        level = torch.addcmul(share * into_shift, slope, mean, value=-1)
        into = torch.addcmul(level[:, None], values, slope[:, None])
        into.scatter_add_(2, places, (grad * factor)[:, :, None])
        return into, into_scale, into_shift, ctx.bias, None
