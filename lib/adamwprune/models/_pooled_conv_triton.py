"""Convolution, batch normalisation, 2x2 max-pooling and ReLU on a GPU, by few kernels of our own.

A pooling window is a row of a matrix product. Its patch, the pixels that its four values depend on,
is ``[c, 6, 6]`` for a 5x5 kernel; the four values of each output are neighbouring columns,
``[o, 2, 2]``. The matrix of patches is not stored: its elements are read from the images where they
are multiplied. The other factor, the kernel at four offsets in a field of 6x6, is read likewise.

Everything is deterministic. Blocks of rows are summed one by one, and their sums in order; no two
programs add to the same number. Numbers and sums are float32, products are not rounded to TF32.

Nothing here waits for the device, and tiles have a fixed size: a CUDA graph can hold these kernels
once each of them has been launched and so compiled.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SIZE = tl.constexpr(5)  # of the convolution's kernel, in both directions
SIDE = tl.constexpr(6)  # of a patch
PATCH = 36  # pixels of a patch in one channel
TILE = 2048  # numbers of a product that a program computes
WIDEST = 64  # columns of such a tile at most
BLOCK_K = 16  # products of each number before the next tiles are read
BLOCK_ROWS = 512  # windows of one output that a program computes with
BLOCK_PARTIALS = 4096  # partial sums that are read at once, by eight warps
CHUNK_TILES = 512  # programs that share the sums of the kernel's gradient, about
BLOCK_WEIGHTS = 8  # weights whose partial sums a program adds up, so many chunks at once:
BLOCK_CHUNKS = 128

# For mypy, which knows nothing about Triton. Batches of any size are computed by the same code.
_kernel: Callable[[Any], Any] = triton.jit(do_not_specialize=["rows", "step", "chunks"])


def conv_norm_pool(
    images: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, relu: bool = False
) -> Tensor:
    """``max_pool2d(norm(conv(images)), 2)`` in training, and ReLU of it if that is said.

    ``images`` is ``[n, channels, height, width]``, float32; height and width are even. ``conv`` is
    a plain 5x5 convolution without padding. Moves the running mean and variance.
    """
    parameters = conv.weight, norm.weight, norm.bias, conv.bias
    settings = norm.eps, norm.momentum or 0.0, relu
    # Triton launches on the current device.
    here = torch.cuda.device_of(images) if images.is_cuda else contextlib.nullcontext()
    with here:
        pooled: Tensor = ConvNormMax.apply(images, *parameters, [*norm.buffers()], *settings)
    return pooled


class ConvNormMax(torch.autograd.Function):
    """Pooled ``[n, o, h, w]``.

    ``images`` is ``[n, c, 2h + 4, 2w + 4]``, ``weight`` ``[o, c, 5, 5]``, ``scale`` and ``shift``
    are ``[o]``. ``bias`` is that of the convolution, or None: normalisation takes it away again, so
    that it only moves the running mean, and its gradient is zero. ``running`` are the running mean
    and variance ``[o]`` and the number of batches, which are moved in place.
    """

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        scale: Tensor,
        shift: Tensor,
        bias: Tensor | None,
        running: list[Tensor],
        eps: float,
        momentum: float,
        relu: bool,
    ) -> Tensor:
        images, weight = images.contiguous(), weight.contiguous()
        n, channels, height, width = images.shape
        outputs, h, w = len(weight), (height - 4) // 2, (width - 4) // 2
        rows, columns = n * h * w, 4 * outputs
        sizes = {"C": channels, "O": outputs, "H": height, "W": width}

        block_m, block_n = _tile(columns)
        grid = triton.cdiv(rows, block_m), triton.cdiv(columns, block_n)
        values = images.new_empty(rows, columns)
        partials = images.new_empty(2, columns, grid[0])
        blocks = {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": BLOCK_K}
        _convolve[grid](images, weight, values, partials, rows, **sizes, **blocks)

        line = images.new_empty(3, outputs)
        _moments[(outputs,)](
            partials,
            scale,
            scale if bias is None else bias,
            *running,
            line,
            rows,
            eps,
            momentum,
            HAS_BIAS=bias is not None,
            O=outputs,
            BLOCK_M=block_m,
            BLOCK=BLOCK_PARTIALS,
            num_warps=8,
        )
        pooled = images.new_empty(n, outputs, h, w)
        places = torch.empty_like(pooled, dtype=torch.uint8)
        settings = {"RELU": relu, "O": outputs, "PLACES": h * w, "BLOCK": BLOCK_ROWS}
        by_row = triton.cdiv(rows, BLOCK_ROWS), outputs
        _finish[by_row](values, line, shift, pooled, places, rows, **settings)
        ctx.save_for_backward(images, weight, values, pooled, places, line)
        ctx.has_bias, ctx.relu = bias is not None, relu
        return pooled

    @staticmethod
    @once_differentiable  # type: ignore[misc, no-untyped-call, unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, values, pooled, places, line = ctx.saved_tensors
        grad = grad.contiguous()
        _, outputs, h, w = pooled.shape
        rows = len(values)
        settings = {"RELU": ctx.relu, "O": outputs, "PLACES": h * w, "BLOCK": BLOCK_ROWS}
        by_row = triton.cdiv(rows, BLOCK_ROWS), outputs
        partials = grad.new_empty(2, outputs, by_row[0])
        _sums[by_row](grad, values, line, pooled, places, partials, rows, **settings)

        # Of shift, scale and bias; constant and slope of what reaches every value.
        into = grad.new_empty(3, outputs)
        shares = grad.new_empty(2, outputs)
        blocks = {"BLOCK_M": BLOCK_ROWS, "BLOCK": BLOCK_PARTIALS, "num_warps": 8}
        _slopes[(outputs,)](partials, line, into, shares, rows, O=outputs, **blocks)

        into_values = torch.empty_like(values)
        gradients = grad, values, line, shares, pooled, places, into_values
        _into_values[by_row](*gradients, rows, **settings)
        into_shift, into_scale, into_bias = into.unbind(0)
        return (
            _gradient_of_images(into_values, images, weight) if ctx.needs_input_grad[0] else None,
            _gradient_of_kernel(into_values, images, weight),
            into_scale,
            into_shift,
            into_bias if ctx.has_bias else None,
            *[None] * 4,
        )


def _tile(columns: int) -> tuple[int, int]:
    """Rows and columns of the part of a product that one program computes."""
    block_n = min(WIDEST, max(16, triton.next_power_of_2(columns)))
    return TILE // block_n, block_n


def _gradient_of_kernel(into_values: Tensor, images: Tensor, weight: Tensor) -> Tensor:
    """``[o, c, 5, 5]``: the product of all patches and gradients, in chunks of rows."""
    (rows, columns), (_, channels, height, width) = into_values.shape, images.shape
    outputs, pixels = len(weight), PATCH * channels
    _, block_n = _tile(columns)
    block_k = TILE // block_n
    tiles = triton.cdiv(pixels, block_k), triton.cdiv(columns, block_n)
    chunks = max(1, CHUNK_TILES // (tiles[0] * tiles[1]))
    step = BLOCK_K * triton.cdiv(rows, BLOCK_K * chunks)
    chunks = triton.cdiv(rows, step)
    partials = into_values.new_empty(columns, pixels, chunks)
    sizes = {"C": channels, "O": outputs, "H": height, "W": width}
    blocks = {"BLOCK_M": block_k, "BLOCK_N": block_n, "BLOCK_K": BLOCK_K}
    _into_kernel[(chunks, *tiles)](images, into_values, partials, rows, step, **sizes, **blocks)

    into_kernel = torch.empty_like(weight)
    blocks = {"BLOCK": BLOCK_WEIGHTS, "BLOCK_CHUNKS": BLOCK_CHUNKS}
    grid = (triton.cdiv(weight.numel(), BLOCK_WEIGHTS),)
    _reduce_kernel[grid](partials, into_kernel, chunks, C=channels, O=outputs, **blocks)
    return into_kernel


def _gradient_of_images(into_values: Tensor, images: Tensor, weight: Tensor) -> Tensor:
    """``[n, c, height, width]``: a program computes whole 2x2 blocks of it."""
    n, channels, height, width = images.shape
    rows = n * (height // 2) * (width // 2)
    block_m, block_n = _tile(4 * channels)
    grid = triton.cdiv(rows, block_m), triton.cdiv(4 * channels, block_n)
    into_images = torch.empty_like(images)
    sizes = {"C": channels, "O": len(weight), "H": height, "W": width}
    blocks = {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": BLOCK_K}
    _into_images[grid](into_values, weight, into_images, rows, **sizes, **blocks)
    return into_images


@_kernel
def _first_pixel(row: tl.tensor, C: tl.constexpr, H: tl.constexpr, W: tl.constexpr) -> tl.tensor:
    """Where in images ``[n, C, H, W]`` the patch of a window begins."""
    w: tl.constexpr = (W - SIZE + 1) // 2
    windows: tl.constexpr = (H - SIZE + 1) // 2 * w
    n, window = row // windows, row % windows
    return n.to(tl.int64) * (C * H * W) + window // w * (2 * W) + window % w * 2


@_kernel
def _pixel(k: tl.tensor, H: tl.constexpr, W: tl.constexpr) -> tl.tensor:
    """Where number ``k`` of a patch ``[C, 6, 6]`` lies, counted from the patch's first pixel."""
    return k // (SIDE * SIDE) * (H * W) + k // SIDE % SIDE * W + k % SIDE


@_kernel
def _weights(
    weight: tl.tensor,
    column: tl.tensor,
    channel: tl.tensor,
    r: tl.tensor,
    s: tl.tensor,
    is_there: tl.tensor,
    C: tl.constexpr,
) -> tl.tensor:
    """What multiplies pixel (r, s) of a patch for a column ``[O, 2, 2]``, from ``[O, C, 5, 5]``.

    A value's own patch of 5x5 begins at the value's place in the pooling window.
    """
    r, s = r - column // 2 % 2, s - column % 2
    is_there = is_there & (r >= 0) & (r < SIZE) & (s >= 0) & (s < SIZE)
    at = ((column // 4 * C + channel) * SIZE + r) * SIZE + s
    return tl.load(weight + at, mask=is_there, other=0.0)


@_kernel
def _convolve(
    images: tl.tensor,
    weight: tl.tensor,
    values: tl.tensor,
    partials: tl.tensor,
    rows: tl.tensor,
    C: tl.constexpr,
    O: tl.constexpr,  # noqa: E741
    H: tl.constexpr,
    W: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> None:
    """values ``[rows, 4 O]`` = patches · kernel; of each block of rows the columns' moments.

    ``partials`` is ``[2, 4 O, programs]``: mean, and squared deviations from it, summed.
    """
    program, programs = tl.program_id(0), tl.num_programs(0)
    row = program * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_row, is_column = row < rows, column < 4 * O
    start = _first_pixel(row, C, H, W)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for first in range(0, C * SIDE * SIDE, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        is_pixel = k < C * SIDE * SIDE
        at = start[:, None] + _pixel(k, H, W)[None, :]
        patches = tl.load(images + at, mask=is_row[:, None] & is_pixel[None, :], other=0.0)
        r, s = k // SIDE % SIDE, k % SIDE
        is_there = is_pixel[:, None] & is_column[None, :]
        factors = _weights(
            weight,
            column[None, :],
            (k // (SIDE * SIDE))[:, None],
            r[:, None],
            s[:, None],
            is_there,
            C,
        )
        total = tl.dot(patches, factors, total, input_precision="ieee")
    at = row.to(tl.int64)[:, None] * (4 * O) + column[None, :]
    tl.store(values + at, total, mask=is_row[:, None] & is_column[None, :])

    count = tl.minimum(rows - program * BLOCK_M, BLOCK_M).to(tl.float32)
    mean = tl.sum(total, 0) / count  # rows past the last are zero
    rest = tl.where(is_row[:, None], total - mean[None, :], 0.0)
    at = column * programs + program
    tl.store(partials + at, mean, mask=is_column)
    tl.store(partials + 4 * O * programs + at, tl.sum(rest * rest, 0), mask=is_column)


@_kernel
def _moments(
    partials: tl.tensor,
    scale: tl.tensor,
    bias: tl.tensor,
    running_mean: tl.tensor,
    running_variance: tl.tensor,
    batches: tl.tensor,
    line: tl.tensor,
    rows: tl.tensor,
    eps: tl.tensor,
    momentum: tl.tensor,
    HAS_BIAS: tl.constexpr,
    O: tl.constexpr,  # noqa: E741
    BLOCK_M: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Combine an output's moments, by Chan's formula: line ``[3, O]``, mean, 1 / deviation, and
    scale / deviation. Move the running ones.
    """
    output, programs = tl.program_id(0), tl.cdiv(rows, BLOCK_M)
    means = partials + 4 * output * programs
    squares = means + 4 * O * programs
    count = 4.0 * rows.to(tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, 4 * programs, BLOCK):
        i = first + tl.arange(0, BLOCK)
        numbers = tl.minimum(rows - i % programs * BLOCK_M, BLOCK_M).to(tl.float32)
        total += tl.load(means + i, mask=i < 4 * programs, other=0.0) * numbers
    mean = tl.sum(total, 0) / count
    total = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, 4 * programs, BLOCK):
        i = first + tl.arange(0, BLOCK)
        numbers = tl.minimum(rows - i % programs * BLOCK_M, BLOCK_M).to(tl.float32)
        rest = tl.load(means + i, mask=i < 4 * programs, other=mean) - mean
        total += tl.load(squares + i, mask=i < 4 * programs, other=0.0) + rest * rest * numbers
    variance = tl.sum(total, 0) / count

    inverse = tl.div_rn(1.0, tl.sqrt_rn(variance + eps))
    tl.store(line + output, mean)
    tl.store(line + O + output, inverse)
    tl.store(line + 2 * O + output, tl.load(scale + output) * inverse)
    if HAS_BIAS:
        mean += tl.load(bias + output)
    before = tl.load(running_mean + output)
    tl.store(running_mean + output, before + momentum * (mean - before))
    before = tl.load(running_variance + output)
    unbiased = variance * (count / (count - 1.0))
    tl.store(running_variance + output, before + momentum * (unbiased - before))
    if output == 0:
        tl.store(batches, tl.load(batches) + 1)


@_kernel
def _finish(
    values: tl.tensor,
    line: tl.tensor,
    shift: tl.tensor,
    pooled: tl.tensor,
    places: tl.tensor,
    rows: tl.tensor,
    RELU: tl.constexpr,
    O: tl.constexpr,  # noqa: E741
    PLACES: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Normalise; the largest of each window's four into pooled ``[n, O, h, w]``, and which it is.

    Of equal ones it is the first, as in torch.
    """
    output, phase = tl.program_id(1), tl.arange(0, 4)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_row = row < rows
    mean, factor = tl.load(line + output), tl.load(line + 2 * O + output)
    at = row.to(tl.int64)[:, None] * (4 * O) + 4 * output + phase[None, :]
    value = tl.load(values + at, mask=is_row[:, None], other=0.0)
    value = (value - mean) * factor + tl.load(shift + output)
    largest = tl.max(value, 1)
    place = tl.min(tl.where(value == largest[:, None], phase[None, :], 3), 1)
    if RELU:
        largest = tl.where(largest < 0.0, 0.0, largest)  # what is no number stays visible
    at = (row // PLACES * O + output) * PLACES + row % PLACES
    tl.store(pooled + at, largest, mask=is_row)
    tl.store(places + at, place.to(tl.uint8), mask=is_row)


@_kernel
def _gradient(
    grad: tl.tensor, pooled: tl.tensor, at: tl.tensor, is_row: tl.tensor, RELU: tl.constexpr
) -> tl.tensor:
    """What of ``grad`` passes ReLU."""
    share = tl.load(grad + at, mask=is_row, other=0.0)
    if RELU:
        share = tl.where(tl.load(pooled + at, mask=is_row, other=0.0) <= 0.0, 0.0, share)
    return share


@_kernel
def _sums(
    grad: tl.tensor,
    values: tl.tensor,
    line: tl.tensor,
    pooled: tl.tensor,
    places: tl.tensor,
    partials: tl.tensor,
    rows: tl.tensor,
    RELU: tl.constexpr,
    O: tl.constexpr,  # noqa: E741
    PLACES: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Sum gradients, and gradients times normalised maxima: partials ``[2, O, programs]``."""
    program, programs, output = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
    row = program * BLOCK + tl.arange(0, BLOCK)
    is_row = row < rows
    at = (row // PLACES * O + output) * PLACES + row % PLACES
    share = _gradient(grad, pooled, at, is_row, RELU)
    place = tl.load(places + at, mask=is_row, other=0).to(tl.int32)
    at = row.to(tl.int64) * (4 * O) + 4 * output + place
    mean, inverse = tl.load(line + output), tl.load(line + O + output)
    maximum = (tl.load(values + at, mask=is_row, other=0.0) - mean) * inverse
    at = output * programs + program
    tl.store(partials + at, tl.sum(share, 0))
    tl.store(partials + O * programs + at, tl.sum(share * maximum, 0))


@_kernel
def _slopes(
    partials: tl.tensor,
    line: tl.tensor,
    into: tl.tensor,
    shares: tl.tensor,
    rows: tl.tensor,
    O: tl.constexpr,  # noqa: E741
    BLOCK_M: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Combine these sums: gradients of shift, scale and bias in into ``[3, O]``; and what reaches
    every value through mean and variance, as constant and slope, in shares ``[2, O]``.
    """
    output, programs = tl.program_id(0), tl.cdiv(rows, BLOCK_M)
    shift, scale = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for first in range(0, programs, BLOCK):
        i = first + tl.arange(0, BLOCK)
        at = partials + output * programs + i
        shift += tl.load(at, mask=i < programs, other=0.0)
        scale += tl.load(at + O * programs, mask=i < programs, other=0.0)
    into_shift, into_scale = tl.sum(shift, 0), tl.sum(scale, 0)
    tl.store(into + output, into_shift)
    tl.store(into + O + output, into_scale)
    tl.store(into + 2 * O + output, 0.0)
    inverse, factor = tl.load(line + O + output), tl.load(line + 2 * O + output)
    share = -factor / (4.0 * rows.to(tl.float32))
    tl.store(shares + output, share * into_shift)
    tl.store(shares + O + output, share * inverse * into_scale)


@_kernel
def _into_values(
    grad: tl.tensor,
    values: tl.tensor,
    line: tl.tensor,
    shares: tl.tensor,
    pooled: tl.tensor,
    places: tl.tensor,
    into_values: tl.tensor,
    rows: tl.tensor,
    RELU: tl.constexpr,
    O: tl.constexpr,  # noqa: E741
    PLACES: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """into_values ``[rows, 4 O]`` = constant + slope * centred value, and more at the maxima."""
    output, phase = tl.program_id(1), tl.arange(0, 4)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_row = row < rows
    at = (row // PLACES * O + output) * PLACES + row % PLACES
    factor = tl.load(line + 2 * O + output)
    share = _gradient(grad, pooled, at, is_row, RELU) * factor
    place = tl.load(places + at, mask=is_row, other=0).to(tl.int32)
    mean = tl.load(line + output)
    constant, slope = tl.load(shares + output), tl.load(shares + O + output)
    at = row.to(tl.int64)[:, None] * (4 * O) + 4 * output + phase[None, :]
    centred = tl.load(values + at, mask=is_row[:, None], other=0.0) - mean
    into = constant + slope * centred
    into += tl.where(phase[None, :] == place[:, None], share[:, None], 0.0)
    tl.store(into_values + at, into, mask=is_row[:, None])


@_kernel
def _into_kernel(
    images: tl.tensor,
    into_values: tl.tensor,
    partials: tl.tensor,
    rows: tl.tensor,
    step: tl.tensor,
    C: tl.constexpr,
    O: tl.constexpr,  # noqa: E741
    H: tl.constexpr,
    W: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> None:
    """partials ``[4 O, 36 C, chunks]``: patches · gradients, of ``step`` rows each."""
    chunk, chunks = tl.program_id(0), tl.num_programs(0)
    k = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.program_id(2) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_pixel, is_column = k < C * SIDE * SIDE, column < 4 * O
    pixel = _pixel(k, H, W)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for first in range(chunk * step, tl.minimum((chunk + 1) * step, rows), BLOCK_K):
        row = first + tl.arange(0, BLOCK_K)
        is_row = row < rows
        at = pixel[:, None] + _first_pixel(row, C, H, W)[None, :]
        patches = tl.load(images + at, mask=is_pixel[:, None] & is_row[None, :], other=0.0)
        at = row.to(tl.int64)[:, None] * (4 * O) + column[None, :]
        mask = is_row[:, None] & is_column[None, :]
        gradients = tl.load(into_values + at, mask=mask, other=0.0)
        total = tl.dot(patches, gradients, total, input_precision="ieee")
    at = (column[None, :] * (C * SIDE * SIDE) + k[:, None]) * chunks + chunk
    tl.store(partials + at, total, mask=is_pixel[:, None] & is_column[None, :])


@_kernel
def _reduce_kernel(
    partials: tl.tensor,
    into_kernel: tl.tensor,
    chunks: tl.tensor,
    C: tl.constexpr,
    O: tl.constexpr,  # noqa: E741
    BLOCK: tl.constexpr,
    BLOCK_CHUNKS: tl.constexpr,
) -> None:
    """Sum chunks, and what the four values of a window have for each weight ``[O, C, 5, 5]``."""
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_weight = number < O * C * SIZE * SIZE
    column = 4 * (number // (C * SIZE * SIZE))
    channel, r, s = number // (SIZE * SIZE) % C, number // SIZE % SIZE, number % SIZE
    total = tl.zeros((BLOCK, BLOCK_CHUNKS), tl.float32)
    for first in range(0, chunks, BLOCK_CHUNKS):
        chunk = first + tl.arange(0, BLOCK_CHUNKS)
        mask = is_weight[:, None] & (chunk < chunks)[None, :]
        for phase in tl.static_range(4):
            k = (channel * SIDE + r + phase // 2) * SIDE + s + phase % 2
            at = ((column + phase) * (C * SIDE * SIDE) + k) * chunks
            total += tl.load(partials + at[:, None] + chunk[None, :], mask=mask, other=0.0)
    tl.store(into_kernel + number, tl.sum(total, 1), mask=is_weight)


@_kernel
def _into_images(
    into_values: tl.tensor,
    weight: tl.tensor,
    into_images: tl.tensor,
    rows: tl.tensor,
    C: tl.constexpr,
    O: tl.constexpr,  # noqa: E741
    H: tl.constexpr,
    W: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> None:
    """Gather the gradient of 2x2 blocks ``[C, 2, 2]`` from the windows whose patches hold them.

    A patch is 3x3 such blocks: block (y, x) is in the patches of windows (y - i, x - j), i, j < 3.
    """
    h: tl.constexpr = (H - SIZE + 1) // 2
    w: tl.constexpr = (W - SIZE + 1) // 2
    blocks: tl.constexpr = (H // 2) * (W // 2)
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    number = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_row, is_number = row < rows, number < 4 * C
    n, block = row // blocks, row % blocks
    top, left = block // (W // 2), block % (W // 2)
    channel, up, beside = number // 4, number // 2 % 2, number % 2
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for first in range(0, 9 * 4 * O, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        is_product = k < 9 * 4 * O
        i, j, column = k // (4 * O) // 3, k // (4 * O) % 3, k % (4 * O)
        y, x = top[:, None] - i[None, :], left[:, None] - j[None, :]
        is_window = (y >= 0) & (y < h) & (x >= 0) & (x < w)
        mask = is_row[:, None] & is_product[None, :] & is_window
        at = n.to(tl.int64)[:, None] * (h * w * 4 * O) + (y * w + x) * (4 * O) + column[None, :]
        gradients = tl.load(into_values + at, mask=mask, other=0.0)
        factors = _weights(
            weight,
            column[:, None],
            channel[None, :],
            2 * i[:, None] + up[None, :],
            2 * j[:, None] + beside[None, :],
            is_product[:, None] & is_number[None, :],
            C,
        )
        total = tl.dot(gradients, factors, total, input_precision="ieee")
    at = (2 * top[:, None] + up[None, :]) * W + 2 * left[:, None] + beside[None, :]
    at += n.to(tl.int64)[:, None] * (C * H * W) + channel[None, :] * (H * W)
    tl.store(into_images + at, total, mask=is_row[:, None] & is_number[None, :])
