"""Convolution, batch normalisation, 2x2 max-pooling and ReLU on a CPU, by kernels of our own.

Eight samples lie side by side, ``[blocks, channels, height, width, 8]``. A pixel is then one
vector, however narrow the images and however few the channels are, and a convolution multiplies
pixels by single weights. Lanes past the last sample are zero, and so is a channel that makes the
number of outputs even.

The convolution is computed in tiles of one pooling window and two outputs, which stay in registers:
the window's maximum and its squares are taken there. That needs the batch's mean before the
convolution. It is the kernel's product with the mean patch of the images, which is cheap.

Results do not depend on the number of threads: what is summed over samples is first summed for
each sample or for each group of blocks, and then over these in order.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llvmlite import binding
from numba import config, njit
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from adamwprune.base.files import user_cache
from adamwprune.models import _lanes
from adamwprune.models._lanes import (
    LANES,
    add,
    fma,
    larger,
    load,
    spread,
    store,
    transpose,
    where_less,
    zeros_like,
)

SIZE = 5  # of the kernel, in both directions
GROUP = 8  # blocks whose weight gradients are summed by one thread

Array = NDArray[Any]


def conv_norm_pool(
    images: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, relu: bool = False
) -> Tensor:
    """``max_pool2d(norm(conv(images)), 2)`` in training, and ReLU of it if that is said.

    ``images`` is ``[n, channels, height, width]``, float32 or float64; height and width are even.
    ``conv`` is a plain 5x5 convolution without padding.
    """
    floor = images.new_tensor([0.0 if relu else -torch.inf])
    pooled: Tensor
    pooled, mean, variance = ConvNormMax.apply(
        images, conv.weight, norm.weight, norm.bias, conv.bias, norm.eps, floor
    )
    with torch.no_grad():
        count = 4 * pooled.numel() // pooled.shape[1]
        running_mean, running_variance, batches = norm.buffers()
        running_mean.lerp_(mean if conv.bias is None else conv.bias + mean, norm.momentum or 0.0)
        running_variance.lerp_(variance * (count / (count - 1)), norm.momentum or 0.0)
        batches.add_(1)
    return pooled


class ConvNormMax(torch.autograd.Function):
    """Pooled ``[n, o, h, w]``, at least ``floor`` ``[1]``; mean and (biased) variance ``[o]``.

    ``images`` is ``[n, c, 2h + 4, 2w + 4]``, ``weight`` ``[o, c, 5, 5]``, ``scale`` and ``shift``
    are ``[o]``. ``bias`` is that of the convolution, or None: normalisation takes it away again, so
    that its gradient is zero and the mean is that without it. Mean and variance take no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        scale: Tensor,
        shift: Tensor,
        bias: Tensor | None,
        eps: float,
        floor: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        n, channels, height, width = images.shape
        outputs, h, w = len(weight), (height - SIZE + 1) // 2, (width - SIZE + 1) // 2
        blocks, even = -(-n // LANES), outputs + outputs % 2
        # Normalisation is increasing once a negative scale's sign is moved into the kernel.
        sign = torch.where(scale < 0, -1.0, 1.0).to(scale.dtype)
        kernel = weight * sign[:, None, None, None]
        mean = _mean(images, kernel)

        sources = images.new_empty(blocks, channels, height, width, LANES)
        centred = images.new_empty(blocks, even, 2 * h, 2 * w, LANES)
        maxima = images.new_empty(blocks, even, h, w, LANES)
        moments = images.new_empty(blocks, LANES, 2, even)
        into = sources, centred, maxima, moments
        _in_parallel(_convolve, blocks, images.contiguous(), _pairs(kernel), _even(-mean), *into)
        totals = moments.flatten(0, 1)[:n, :, :outputs].sum(0, dtype=torch.float64)
        rest, square = totals / (4 * n * h * w)  # the rest of the mean is rounding's
        variance = (square - rest * rest).to(scale.dtype)
        inverse, rest = (variance + eps).rsqrt_(), rest.to(scale.dtype)

        factor = scale.abs() * inverse
        line = _even(torch.stack([factor, shift - factor * rest, rest], dim=1))
        pooled = images.new_empty(n, outputs, h, w)
        _in_parallel(_finish, blocks, maxima, line, floor, pooled)
        ctx.save_for_backward(sources, kernel, centred, maxima, line, floor, inverse, sign)
        ctx.bias = None if bias is None else bias.new_zeros(bias.shape)
        mean = (mean + rest) * sign
        ctx.mark_non_differentiable(mean, variance)
        return pooled, mean, variance

    @staticmethod
    @once_differentiable  # type: ignore[misc, no-untyped-call, unused-ignore]
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        sources, kernel, centred, maxima, line, floor, inverse, sign = ctx.saved_tensors
        n, outputs, h, w = grad.shape
        blocks, channels, height, width, _lane = sources.shape
        even = len(line)
        grads, sums = torch.empty_like(maxima), grad.new_empty(2, blocks, even, LANES)
        _in_parallel(_sums, blocks, grad.contiguous(), maxima, line, floor, grads, sums)
        into_shift, into_scale = sums.sum((1, 3), dtype=torch.float64).to(grad.dtype)
        factor, _shift, rest = line.unbind(1)
        into_scale = into_scale - rest * into_shift
        into_scale[:outputs] *= inverse

        # What reaches every pixel through mean and variance: constant + slope * centred value.
        slope = factor * into_scale
        slope[:outputs] *= inverse
        constant = factor * into_shift - slope * rest
        shares = torch.stack([constant, slope], dim=1) / (-4 * n * h * w)
        factors = torch.cat([shares, factor[:, None]], dim=1)

        groups = -(-blocks // GROUP)
        into_kernel = grad.new_zeros(groups, even // 2, channels, SIZE, 2, SIZE, LANES)
        has_images = ctx.needs_input_grad[0]
        into_images = grad.new_empty(n if has_images else 0, channels, height, width)
        turned = _pairs(_even(kernel.flip(2, 3)).transpose(0, 1))
        into = into_kernel, into_images
        _in_parallel(_backward, groups, sources, centred, maxima, grads, factors, turned, *into)
        # [groups, o / 2, c, 5, 2, 5, 8] -> [o, c, 5, 5]
        into_weight = into_kernel.sum(0).sum(-1).permute(0, 3, 1, 2, 4).flatten(0, 1)[:outputs]
        return (
            into_images if has_images else None,
            into_weight * sign[:, None, None, None],
            into_scale[:outputs] * sign,
            into_shift[:outputs],
            ctx.bias,
            None,
            None,
        )


def _mean(images: Tensor, kernel: Tensor) -> Tensor:
    """Mean ``[o]`` of a convolution's result: the convolution of the mean patch."""
    places = [side - SIZE + 1 for side in images.shape[2:]]
    patch = F.avg_pool2d(images.mean(0), places, stride=1)  # [c, 5, 5]
    mean: Tensor = (kernel.double() * patch).sum((1, 2, 3)).to(kernel.dtype)
    return mean


def _even(rows: Tensor) -> Tensor:
    """With another row of zeros if the number of rows is odd."""
    if len(rows) % 2 == 0:
        return rows
    return torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])])


def _pairs(kernel: Tensor) -> Tensor:
    """``[o, c, 5, 5]`` → ``[o / 2, c, 5, 5, 2]``: the weights of two outputs side by side."""
    pairs: Tensor = _even(kernel).unflatten(0, (-1, 2)).permute(0, 2, 3, 4, 1)
    return pairs.contiguous()


def _in_parallel(kernel: Callable[..., None], count: int, *tensors: Tensor) -> None:
    """Call ``kernel(*tensors, first, last)`` for parts of ``range(count)``, in as many threads as
    torch has; this thread is one of them."""
    threads = min(torch.get_num_threads(), count)
    arrays = [tensor.numpy() for tensor in tensors]
    ends = [count * i // threads for i in range(threads + 1)]
    others = [
        _pool(threads - 1).submit(kernel, *arrays, *ends[i : i + 2]) for i in range(1, threads)
    ]
    kernel(*arrays, *ends[:2])
    for other in others:
        other.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="conv_norm_pool")


def _code_cache() -> Path:
    """Folder for machine code of these sources on this processor.

    Numba itself would look at the date of one of the two files, and processes on different machines
    could overwrite each other's code in one folder.
    """
    sources = [Path(file).read_text() for file in (__file__, _lanes.__file__)]
    processor = [binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()]
    key = hashlib.sha256("\0".join(sources + processor).encode()).hexdigest()[:16]
    return user_cache() / "kernels" / key


CODE_CACHE = _code_cache()


def _kernel(function: Callable[..., None]) -> Any:
    """Compile ``function`` for its arguments' types, without the GIL, or read it from the cache."""
    kernel, before = njit(nogil=True)(function), config.CACHE_DIR
    config.CACHE_DIR = before or str(CODE_CACHE)
    # Without a folder to write to, each process compiles for itself.
    with contextlib.suppress(RuntimeError, OSError):
        kernel.enable_caching()
    config.CACHE_DIR = before
    return kernel


_part: Callable[[Any], Any] = njit(forceinline=True)  # of kernels


@_part
def _to_lanes(samples: Array, block: int, lanes: Array, start: int) -> None:
    """Bring eight samples ``[n, m]`` to ``lanes[start:]``, ``[m, 8]``; past the last, zeros."""
    n, m = samples.shape
    first, count = block * LANES, min(LANES, n - block * LANES)
    whole = m - m % LANES if count == LANES else 0
    for i in range(0, whole, LANES):
        transpose(samples, first * m + i, m, lanes, start + i * LANES, LANES)
    for i in range(whole, m):
        store(lanes, start + i * LANES, zeros_like(lanes))
        for lane in range(count):
            lanes[start + i * LANES + lane] = samples[first + lane, i]


@_part
def _from_lanes(lanes: Array, samples: Array, block: int) -> None:
    """Bring ``lanes``, ``[m, 8]``, to eight samples ``[n, m]``."""
    n, m = samples.shape
    first, count = block * LANES, min(LANES, n - block * LANES)
    whole = m - m % LANES if count == LANES else 0
    for i in range(0, whole, LANES):
        transpose(lanes, i * LANES, LANES, samples, first * m + i, m)
    for i in range(whole, m):
        for lane in range(count):
            samples[first + lane, i] = lanes[i * LANES + lane]


@_part
def _put(window: Array, i: int, row: int, a: Any, b: Any, c: Any, d: Any) -> None:
    """Write a window of 2x2 pixels."""
    store(window, i, a)
    store(window, i + LANES, b)
    store(window, i + row, c)
    store(window, i + row + LANES, d)


@_part
def _tile(
    source: Array,
    start: int,
    row: int,
    plane: int,
    kernel: Array,
    at: int,
    channels: int,
    top: int,
    bottom: int,
    left: int,
    right: int,
    value: Any,
    other_value: Any,
) -> Any:
    """A convolution in a window of 2x2 pixels: four values of one output, then of the next one.

    ``start`` is where the window's first pixel meets the kernel's first weight, ``row`` and
    ``plane`` are steps to the next row and channel. ``kernel`` is ``[channels, 5, 5, 2]`` from
    ``at`` on; its rows from ``top`` to before ``bottom`` and its columns from ``left`` to before
    ``right`` are taken. Sums begin with ``value`` and ``other_value``.
    """
    a, b, c, d = value, value, value, value
    e, f, g, h = other_value, other_value, other_value, other_value
    for channel in range(channels):
        for y in range(top, bottom):
            i = start + channel * plane + y * row + left * LANES
            j = at + ((channel * SIZE + y) * SIZE + left) * 2
            for _ in range(left, right):
                one, other = spread(kernel, j), spread(kernel, j + 1)
                p, q = load(source, i), load(source, i + LANES)
                r, s = load(source, i + row), load(source, i + row + LANES)
                a, e = fma(one, p, a), fma(other, p, e)
                b, f = fma(one, q, b), fma(other, q, f)
                c, g = fma(one, r, c), fma(other, r, g)
                d, h = fma(one, s, d), fma(other, s, h)
                i += LANES
                j += 2
    return a, b, c, d, e, f, g, h


@_kernel
def _convolve(
    images: Array,
    kernel: Array,
    offset: Array,
    sources: Array,
    centred: Array,
    maxima: Array,
    moments: Array,
    first: int,
    last: int,
) -> None:
    """Fill centred = convolution + offset, its maxima, and moments ``[b, 8, 2, o]``.

    These are its sums and those of its squares, for each sample.
    """
    n, channels, height, width = images.shape
    outputs, h, w = maxima.shape[1:4]
    row, plane, size = width * LANES, height * width * LANES, h * w * LANES
    window = np.empty((2, 2, LANES), moments.dtype)
    for block in range(first, last):
        source = block * channels * plane
        _to_lanes(images.reshape(n, -1), block, sources.ravel(), source)
        for output in range(0, outputs, 2):
            m = (block * outputs + output) * size
            i = 4 * m
            begin, other_begin = spread(offset, output), spread(offset, output + 1)
            total, other_total = zeros_like(sources), zeros_like(sources)
            square, other_square = total, total
            for y in range(h):
                for x in range(w):
                    a, b, c, d, e, f, g, h_ = _tile(
                        sources,
                        source + 2 * y * row + 2 * x * LANES,
                        row,
                        plane,
                        kernel,
                        output * channels * SIZE * SIZE,
                        channels,
                        0,
                        SIZE,
                        0,
                        SIZE,
                        begin,
                        other_begin,
                    )
                    _put(centred, i, 2 * w * LANES, a, b, c, d)
                    _put(centred, i + 4 * size, 2 * w * LANES, e, f, g, h_)
                    total = add(total, add(add(a, b), add(c, d)))
                    other_total = add(other_total, add(add(e, f), add(g, h_)))
                    square = fma(a, a, fma(b, b, fma(c, c, fma(d, d, square))))
                    other_square = fma(e, e, fma(f, f, fma(g, g, fma(h_, h_, other_square))))
                    store(maxima, m, larger(larger(a, b), larger(c, d)))
                    store(maxima, m + size, larger(larger(e, f), larger(g, h_)))
                    i += 2 * LANES
                    m += LANES
                i += 2 * w * LANES
            _put(window, 0, 2 * LANES, total, other_total, square, other_square)
            for lane in range(LANES):
                for moment in range(2):
                    for i in range(2):
                        moments[block, lane, moment, output + i] = window[moment, i, lane]


@_kernel
def _finish(maxima: Array, line: Array, floor: Array, pooled: Array, first: int, last: int) -> None:
    """pooled = max(maxima * factor + shift, floor), ``[b, o, h, w, 8]`` → ``[n, o, h, w]``.

    ``line`` is ``[o, 3]``: factor, shift, and what maxima hold too much.
    """
    n, outputs, h, w = pooled.shape
    even, size = maxima.shape[1], h * w * LANES
    lanes = np.empty(outputs * size, pooled.dtype)
    least = spread(floor, 0)
    for block in range(first, last):
        for output in range(outputs):
            factor, shift = spread(line, 3 * output), spread(line, 3 * output + 1)
            for i in range(output * size, (output + 1) * size, LANES):
                value = fma(load(maxima, block * even * size + i), factor, shift)
                store(lanes, i, larger(value, least))
        _from_lanes(lanes, pooled.reshape(n, -1), block)


@_kernel
def _sums(
    grad: Array,
    maxima: Array,
    line: Array,
    floor: Array,
    grads: Array,
    sums: Array,
    first: int,
    last: int,
) -> None:
    """Bring ``grad`` into lanes, zero where the result is ``floor``; sum it, and it times maxima.

    ``sums`` is ``[2, b, o, 8]``.
    """
    n, outputs, h, w = grad.shape
    even, size = maxima.shape[1], h * w * LANES
    least = spread(floor, 0)
    for block in range(first, last):
        grads[block, outputs:] = 0
        _to_lanes(grad.reshape(n, -1), block, grads.ravel(), block * even * size)
        for output in range(block * even, (block + 1) * even):
            at = 3 * (output - block * even)
            factor, shift = spread(line, at), spread(line, at + 1)
            total, product = zeros_like(grads), zeros_like(grads)
            for i in range(output * size, (output + 1) * size, LANES):
                maximum = load(maxima, i)
                value = fma(maximum, factor, shift)  # to the bit what _finish compares
                share = where_less(least, value, load(grads, i), zeros_like(grads))
                store(grads, i, share)
                total, product = add(total, share), fma(share, maximum, product)
            store(sums, output * LANES, total)
            store(sums, sums.size // 2 + output * LANES, product)


@_kernel
def _backward(
    sources: Array,
    centred: Array,
    maxima: Array,
    grads: Array,
    factors: Array,
    turned: Array,
    into_kernel: Array,
    into_images: Array,
    first: int,
    last: int,
) -> None:
    """Sum the kernel's gradient over each group of blocks; make that of the images, if any.

    ``factors`` are constant, slope and factor, ``[o, 3]``: see ``_into_centred``.
    """
    blocks, outputs, h, w, lanes = maxima.shape
    channels, height, width = sources.shape[1:4]
    # The gradient of the convolution's result, with a border of zeros one pixel wide.
    into = np.zeros((outputs, 2 * h + 2, 2 * w + 2, lanes), sources.dtype)
    buffer = np.empty((channels + channels % 2) * height * width * lanes, sources.dtype)
    for group in range(first, last):
        for block in range(group * GROUP, min(blocks, group * GROUP + GROUP)):
            _into_centred(centred, maxima, grads, factors, block, into)
            _into_kernel(sources, block, into, into_kernel, group)
            if len(into_images):
                _into_images(into, turned, block, buffer, into_images)


@_part
def _into_centred(
    centred: Array, maxima: Array, grads: Array, factors: Array, block: int, into: Array
) -> None:
    """into = constant + slope * centred, and at the maxima factor * grads more."""
    outputs, h, w = maxima.shape[1:4]
    row, into_row = 2 * w * LANES, (2 * w + 2) * LANES
    none = zeros_like(centred)
    m = block * outputs * h * w * LANES
    i = 4 * m
    for output in range(outputs):
        constant, slope = spread(factors, output * 3), spread(factors, output * 3 + 1)
        factor = spread(factors, output * 3 + 2)
        j = (output * (2 * h + 2) + 1) * into_row + LANES
        for _y in range(h):
            for _x in range(w):
                a, b = load(centred, i), load(centred, i + LANES)
                c, d = load(centred, i + row), load(centred, i + row + LANES)
                largest, rest = load(maxima, m), fma(load(grads, m), factor, none)
                # The first of those that are the largest gets it, as in torch.
                to_a = where_less(a, largest, none, rest)
                rest = where_less(a, largest, rest, none)
                to_b = where_less(b, largest, none, rest)
                rest = where_less(b, largest, rest, none)
                to_c = where_less(c, largest, none, rest)
                rest = where_less(c, largest, rest, none)
                a, b = add(fma(slope, a, constant), to_a), add(fma(slope, b, constant), to_b)
                c, d = add(fma(slope, c, constant), to_c), add(fma(slope, d, constant), rest)
                _put(into, j, into_row, a, b, c, d)
                i += 2 * LANES
                j += 2 * LANES
                m += LANES
            i += row
            j += into_row + 2 * LANES


@_part
def _into_kernel(sources: Array, block: int, into: Array, into_kernel: Array, group: int) -> None:
    """Add a block's products of images and gradients; ten sums, a kernel's row of two outputs,
    stay in registers."""
    channels, height, width = sources.shape[1:4]
    outputs, into_height, into_width = into.shape[:3]
    plane = into_height * into_width * LANES
    at = group * (outputs // 2) * channels * SIZE * 2 * SIZE * LANES
    for output in range(0, outputs, 2):
        for channel in range(channels):
            for top in range(SIZE):
                a0, b0 = load(into_kernel, at), load(into_kernel, at + 5 * LANES)
                a1, b1 = load(into_kernel, at + LANES), load(into_kernel, at + 6 * LANES)
                a2, b2 = load(into_kernel, at + 2 * LANES), load(into_kernel, at + 7 * LANES)
                a3, b3 = load(into_kernel, at + 3 * LANES), load(into_kernel, at + 8 * LANES)
                a4, b4 = load(into_kernel, at + 4 * LANES), load(into_kernel, at + 9 * LANES)
                for y in range(into_height - 2):
                    i = ((block * channels + channel) * height + y + top) * width * LANES
                    j = output * plane + ((y + 1) * into_width + 1) * LANES
                    for _ in range(into_width - 2):
                        one, other = load(into, j), load(into, j + plane)
                        p = load(sources, i)
                        a0, b0 = fma(one, p, a0), fma(other, p, b0)
                        p = load(sources, i + LANES)
                        a1, b1 = fma(one, p, a1), fma(other, p, b1)
                        p = load(sources, i + 2 * LANES)
                        a2, b2 = fma(one, p, a2), fma(other, p, b2)
                        p = load(sources, i + 3 * LANES)
                        a3, b3 = fma(one, p, a3), fma(other, p, b3)
                        p = load(sources, i + 4 * LANES)
                        a4, b4 = fma(one, p, a4), fma(other, p, b4)
                        i += LANES
                        j += LANES
                for total in (a0, a1, a2, a3, a4, b0, b1, b2, b3, b4):
                    store(into_kernel, at, total)
                    at += LANES


@_part
def _into_images(into: Array, turned: Array, block: int, lanes: Array, into_images: Array) -> None:
    """Convolve with the kernel turned by 180°, ``[c / 2, o, 5, 5, 2]``.

    The result is wider than ``into``. What of the kernel meets only zeros outside is left out,
    which is almost half of all products for 10 pixels in a row.
    """
    n, channels, height, width = into_images.shape
    outputs, into_height, into_width = into.shape[:3]
    row, plane = into_width * LANES, into_height * into_width * LANES
    none, size = zeros_like(into), height * width * LANES
    i = 0
    for channel in range(0, channels, 2):
        for y in range(0, height, 2):
            for x in range(0, width, 2):
                a, b, c, d, e, f, g, h = _tile(
                    into,
                    (y - 3) * row + (x - 3) * LANES,
                    row,
                    plane,
                    turned,
                    channel * outputs * SIZE * SIZE,
                    outputs,
                    max(0, 3 - y),
                    min(SIZE, height - y),
                    max(0, 3 - x),
                    min(SIZE, width - x),
                    none,
                    none,
                )
                _put(lanes, i, width * LANES, a, b, c, d)
                _put(lanes, i + size, width * LANES, e, f, g, h)
                i += 2 * LANES
            i += width * LANES
        i += size
    _from_lanes(lanes, into_images.reshape(n, -1), block)
