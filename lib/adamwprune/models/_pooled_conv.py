"""Convolution, batch normalisation and 2x2 max-pooling, computed together, which is faster.

A pooling window holds the four pixels of a 2x2 block: one of each phase (0, 0),
(0, 1), (1, 0), (1, 1) of its rows and columns. Here the phases of the input are channels, and one
convolution with a kernel half as large gives the phases of the output as channels. That does not
waste vector units on a single input channel, and pooling is three comparisons of whole tensors.

Normalisation is increasing in each channel, once a negative scale has been moved into the kernel:
so the maximum is taken first, and only the quarter that is left is scaled and shifted. The numbers
are those of the plain modules up to the order of sums; of equal values in a window the first one in
the order above gets the gradient, as in torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from adamwprune.models import _pooled_conv_gpu

PHASES = [(0, 0), (0, 1), (1, 0), (1, 1)]  # row, column within a 2x2 block


def conv_norm_pool(images: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """``max_pool2d(norm(conv(images)), 2)`` for images ``[n, channels, height, width]``.

    By phases if height and width are even, ``conv`` is a plain convolution with a square kernel of
    odd size, without padding, and ``norm`` is as torch makes it by default; in evaluation only on
    a CPU and where no gradient is asked for. On a CPU not under autocast, which would round the
    batch's mean and variance to bfloat16.
    """
    device = images.device.type
    is_even = images.shape[-2] % 2 == 0 and images.shape[-1] % 2 == 0
    is_rounded = device == "cpu" and torch.is_autocast_enabled(device)
    if device in PRODUCTS and is_even and not is_rounded and _is_plain(conv) and _is_default(norm):
        if norm.training:
            return _training(images, conv, norm, PRODUCTS[device])
        if device == "cpu" and not torch.is_grad_enabled():
            return _evaluation(images, conv, norm)
    return F.max_pool2d(norm(conv(images)), 2)


def _is_plain(conv: nn.Conv2d) -> bool:
    height, width = conv.kernel_size
    is_dense = conv.stride == conv.dilation == (1, 1) and conv.groups == 1
    return height == width and height % 2 == 1 and is_dense and conv.padding == (0, 0)


def _is_default(norm: nn.BatchNorm2d) -> bool:
    if type(norm) is not nn.BatchNorm2d:  # one over several ranks
        return False
    return norm.affine and norm.track_running_stats and norm.momentum is not None


def _training(images: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, product: Product) -> Tensor:
    """With the batch's own mean and variance, which also move the running ones."""
    sign = torch.where(norm.weight.detach() < 0, -1.0, 1.0).to(norm.weight.dtype)
    # No bias: what is added before the normalisation is taken away again by its mean.
    kernel = phase_kernel(conv.weight * sign[:, None, None, None])
    pooled, mean, variance = product(images, kernel, norm.weight * sign, norm, conv.bias)
    with torch.no_grad():
        count = 4 * pooled.numel() // pooled.shape[1]
        mean = mean * sign if conv.bias is None else torch.addcmul(conv.bias, mean, sign)
        running_mean, running_variance, batches = norm.buffers()
        running_mean.lerp_(mean, norm.momentum or 0.0)
        running_variance.lerp_(variance * (count / (count - 1)), norm.momentum or 0.0)
        batches.add_(1)
    return pooled


def _on_cpu(
    images: Tensor, kernel: Tensor, scale: Tensor, norm: nn.BatchNorm2d, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Pooled ``[n, c, h, w]``, mean and (biased) variance ``[c]``; by torch's convolution."""
    phases = F.conv2d(phases_of(images), kernel)
    n, channels, rows, columns = phases.shape
    values = phases.view(n, channels // 4, 4, rows * columns)
    pooled, mean, variance = NormMax4.apply(values, scale, norm.bias, bias, norm.eps)
    return pooled.view(n, channels // 4, rows, columns), mean, variance


def _on_gpu(
    images: Tensor, kernel: Tensor, scale: Tensor, norm: nn.BatchNorm2d, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The same by a product of windows; the images' channels lie side by side in memory."""
    phases = _pooled_conv_gpu.Convolution.apply(_pooled_conv_gpu.blocks_of(images), kernel)
    n, rows, columns, channels = phases.shape
    values = phases.view(-1, channels // 4, 4)
    pooled, mean, variance = _pooled_conv_gpu.NormMax.apply(
        values, scale, norm.bias, bias, norm.eps
    )
    return pooled.view(n, rows, columns, channels // 4).permute(0, 3, 1, 2), mean, variance


Product = Callable[
    [Tensor, Tensor, Tensor, nn.BatchNorm2d, Tensor | None], tuple[Tensor, Tensor, Tensor]
]
PRODUCTS: dict[str, Product] = {"cpu": _on_cpu, "cuda": _on_gpu}


def _evaluation(images: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """With the running mean and variance, which are folded into kernel and bias."""
    mean, variance, _ = norm.buffers()
    scale = norm.weight * (variance + norm.eps).rsqrt()
    shift = norm.bias + scale * (-mean if conv.bias is None else conv.bias - mean)
    kernel = phase_kernel(conv.weight * scale[:, None, None, None])
    phases = F.conv2d(phases_of(images), kernel, shift.repeat_interleave(4))
    n, channels, rows, columns = phases.shape
    a, b, c, d = phases.view(n, channels // 4, 4, rows, columns).unbind(2)
    return torch.maximum(torch.maximum(a, b), torch.maximum(c, d))


def phases_of(images: Tensor) -> Tensor:
    """``[n, c, h, w]`` → ``[n, c * 4, h / 2, w / 2]``: each channel's four phases, side by side."""
    n, channels, height, width = images.shape
    blocks = images.view(n, channels, height // 2, 2, width // 2, 2)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(n, channels * 4, height // 2, width // 2)


def phase_kernel(weight: Tensor) -> Tensor:
    """``[o, c, k, k]`` → ``[o * 4, c * 4, (k + 1) / 2, (k + 1) / 2]``: phases to phases."""
    outputs, channels, size, _ = weight.shape
    spread = weight.flatten(2) @ _spreading(size, weight.dtype, weight.device)  # exact: 0 or 1
    half = (size + 1) // 2
    kernel = spread.view(outputs, channels, 4, 4, half, half)
    return kernel.transpose(1, 2).reshape(outputs * 4, channels * 4, half, half)


@functools.cache
def _spreading(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0 and 1 ``[k * k, 4 * 4 * ((k + 1) / 2)²]``: where each weight of a kernel goes.

    Output phase (r, s) at block (y, x) is the output pixel (2y + r, 2x + s): the kernel shifted by
    (r, s) in a field of k + 1, and that field's phases meet the input's.
    """
    with torch.inference_mode(False):  # it outlives the first use, which may be an evaluation
        weights = torch.eye(size * size, dtype=dtype).view(size * size, 1, size, size)
        field, end = F.pad(weights, (1, 1, 1, 1)), size + 1
        shifted = [field[:, :, 1 - r : 1 - r + end, 1 - s : 1 - s + end] for r, s in PHASES]
        return torch.stack([phases_of(each) for each in shifted], dim=1).flatten(1).to(device)


class NormMax4(torch.autograd.Function):
    """Batch normalisation of ``[n, c, 4, m]`` and the maximum over its third dimension.

    ``scale`` (not negative) and ``shift`` are ``[c]``. ``bias`` is that of the convolution before
    it, or None: it has no effect, and its gradient is the zero that it is, not what rounding makes
    of it, which Adam would blow up to whole steps.

    Returns the result ``[n, c, m]``, the mean and the (biased) variance ``[c]``; the latter two
    take no gradient. Masks are float32: on a CPU a comparison into floats is ten times as fast as
    one into bools and a multiplication with them.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, scale: Tensor, shift: Tensor, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        count = values.numel() // values.shape[1]
        mean = values.sum((0, 2, 3)).div_(count)
        centred = values - mean[:, None, None]
        variance = (centred * centred).sum((0, 2, 3)).div_(count)
        inverse = (variance + eps).rsqrt_()
        a, b, c, d = centred.unbind(2)
        upper, lower = torch.maximum(a, b), torch.maximum(c, d)
        pooled = torch.maximum(upper, lower).mul_(inverse[:, None])
        ctx.save_for_backward(centred, upper, lower, pooled, inverse, scale)
        ctx.bias = None if bias is None else bias.new_zeros(bias.shape)
        ctx.mark_non_differentiable(mean, variance)
        return torch.addcmul(shift[:, None], pooled, scale[:, None]), mean, variance

    @staticmethod
    @once_differentiable  # type: ignore[misc, no-untyped-call, unused-ignore]
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        centred, upper, lower, pooled, inverse, scale = ctx.saved_tensors
        count = centred.numel() // centred.shape[1]
        into_shift, into_scale = grad.sum((0, 2)), (grad * pooled).sum((0, 2))
        factor = scale * inverse
        # What reaches every pixel through mean and variance, then what the maxima get.
        into = centred * (factor * inverse * into_scale / -count)[:, None, None]
        into.add_((factor * into_shift / -count)[:, None, None])
        grad = grad * factor[:, None]
        a, b, c, d = centred.unbind(2)
        above = _share(grad, upper, lower)
        for half, one, other, at in ((above, a, b, 0), (grad - above, c, d, 2)):
            share = _share(half, one, other)
            into[:, :, at].add_(share)
            into[:, :, at + 1].add_(half.sub_(share))
        return into, into_scale, into_shift, ctx.bias, None


def _share(grad: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """The part of ``grad`` that goes to ``one`` out of the two: where it is the larger or equal."""
    mask = torch.empty_like(grad)
    torch.ge(one, other, out=mask)
    return mask.mul_(grad)
