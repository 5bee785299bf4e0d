"""The k lowest of very many float32 scores, by two histograms instead of a sort.

Read as an integer, a float32 is in order among the positive ones, and in reverse order among the
negative ones. The first histogram is over the upper 16 of its bits, and says in which of 2¹⁶
buckets the k-th lowest lies; the second over the lower 16 bits of what lies in that bucket, and
says which number it is. All of it goes over one chunk of one layer after the other: beside the
masks that are the result there are the bins, 512 KiB, and what a chunk takes. The choice is the
one of a stable sort, bit for bit.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)  # float32 holds each of them exactly
_BINS = 1 << 16
_HALF = _BINS // 2
_CHUNK = {"cpu": 1 << 17, "cuda": 1 << 24}  # numbers: in a core's cache; few kernels on a GPU


class Threshold(NamedTuple):
    """What tells the k lowest scores from the others."""

    score: float  # the k-th lowest
    ties: int  # how many scores equal it
    chosen: int  # how many of these, from the first on, are among the k lowest


def lowest(scores: Mapping[str, Tensor], k: int) -> dict[str, Tensor]:
    """Bool tensors, True at the ``k`` lowest of all ``scores`` together, none of which is NaN.

    Among equal scores the lower index goes first, in the order of the mapping.
    """
    if k == 0:
        return {n: torch.zeros_like(s, dtype=torch.bool) for n, s in scores.items()}
    found = threshold(list(scores.values()), k)
    seen = 0  # of the ties
    masks = {}
    for name, score in scores.items():
        mask = torch.empty(score.numel(), dtype=torch.bool, device=score.device)
        for part, chunk in zip(mask.split(_size(score)), _chunks(score), strict=True):
            seen += _choose(chunk, found, seen, part)
        masks[name] = mask.view(score.shape)
    return masks


def threshold(scores: Sequence[Tensor], k: int) -> Threshold:
    """The ``k``-th lowest score, 1 ≤ k ≤ their number; reads back five numbers."""
    upper = _histogram(scores, lambda bits: (bits >> 16).add_(_HALF))
    # The lower half is that of the negative numbers, from −0 to −∞.
    bucket, below = _bin_of(torch.cat([upper[:_HALF].flip(0), upper[_HALF:]]), k)
    prefix = bucket - _HALF if bucket >= _HALF else -1 - bucket
    lower = _histogram(scores, lambda bits: bits[(bits >> 16) == prefix].bitwise_and_(_BINS - 1))
    ordered = lower if prefix >= 0 else lower.flip(0)
    digit, before = _bin_of(ordered, k - below)
    bits = (prefix << 16) | (digit if prefix >= 0 else _BINS - 1 - digit)
    (score,) = struct.unpack("=f", struct.pack("=i", bits))
    return Threshold(score, int(ordered[digit]), k - below - before)


def _histogram(scores: Sequence[Tensor], digits: Callable[[Tensor], Tensor]) -> Tensor:
    """How often each of the 2¹⁶ values of ``digits`` of the scores' bits occurs, int64."""
    bins = torch.zeros(_BINS, dtype=torch.int64, device=scores[0].device)
    for score in scores:
        for chunk in _chunks(score):
            bits = (chunk + 0.0).view(torch.int32)  # −0 + 0 is 0: they are the same number
            bins += torch.bincount(digits(bits), minlength=_BINS)
    return bins


def _bin_of(bins: Tensor, k: int) -> tuple[int, int]:
    """The bin in which the ``k``-th lies, counted from 1, and how many lie in those before it."""
    sums = bins.cumsum(0)
    found = int(torch.searchsorted(sums, k))
    return found, int(sums[found] - bins[found])


def _choose(scores: Tensor, found: Threshold, seen: int, mask: Tensor) -> int:
    """Fill the ``mask`` of a chunk; how many of it are ties, ``seen`` having gone before."""
    if found.ties == found.chosen:
        torch.le(scores, found.score, out=mask)
        return 0
    torch.lt(scores, found.score, out=mask)
    ties = scores == found.score
    number = int(ties.sum())
    if seen + number <= found.chosen:
        mask |= ties
    elif seen < found.chosen:
        mask |= ties & (ties.cumsum(0) <= found.chosen - seen)
    return number


def _chunks(score: Tensor) -> Iterator[Tensor]:
    """All scores as float32, in the order of their indices."""
    for chunk in score.reshape(-1).split(_size(score)):
        yield chunk.float()


def _size(score: Tensor) -> int:
    return _CHUNK.get(score.device.type, _CHUNK["cpu"])
