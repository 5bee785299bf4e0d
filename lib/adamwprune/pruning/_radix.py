"""The k lowest of very many float32 scores, by two histograms instead of a sort.

An order-preserving map takes each score to an int32. The first histogram is over the upper 16 bits
of it, and says in which of 2¹⁶ buckets the k-th lowest lies; the second over the lower 16 bits of
what lies in that bucket, and says which number it is. All of it goes over one chunk of one layer
after the other: beside the masks that are the result there are the bins, 512 KiB, and what a chunk
takes. The choice is the one of a stable sort, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)  # float32 holds each of them exactly
_BINS = 1 << 16
_CHUNK = {"cpu": 1 << 18, "cuda": 1 << 24}  # numbers: near a core's cache; few kernels on a GPU
_DIGITS = (1 << 31) - 1  # all bits of an int32 but the sign


class Threshold(NamedTuple):
    """What tells the k lowest scores from the others."""

    key: int  # of the k-th lowest
    ties: int  # how many scores have this key
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
            seen += _choose(_keys(chunk), found, seen, part)
        masks[name] = mask.view(score.shape)
    return masks


def threshold(scores: Sequence[Tensor], k: int) -> Threshold:
    """The key of the ``k``-th lowest score, 1 ≤ k ≤ their number; reads back four numbers."""
    upper = _histogram(scores, lambda keys: (keys >> 16) + _BINS // 2)
    bucket, below = _bin_of(upper, k)
    prefix = bucket - _BINS // 2
    lower = _histogram(scores, lambda keys: keys[(keys >> 16) == prefix] & (_BINS - 1))
    digit, before = _bin_of(lower, k - below)
    return Threshold((prefix << 16) | digit, int(lower[digit]), k - below - before)


def _histogram(scores: Sequence[Tensor], digits: Callable[[Tensor], Tensor]) -> Tensor:
    """How often each of the 2¹⁶ values of ``digits(keys)`` occurs, int64."""
    bins = torch.zeros(_BINS, dtype=torch.int64, device=scores[0].device)
    for score in scores:
        for chunk in _chunks(score):
            bins += torch.bincount(digits(_keys(chunk)), minlength=_BINS)
    return bins


def _bin_of(bins: Tensor, k: int) -> tuple[int, int]:
    """The bin in which the ``k``-th lies, counted from 1, and how many lie in those before it."""
    sums = bins.cumsum(0)
    found = int(torch.searchsorted(sums, k))
    return found, int(sums[found] - bins[found])


def _choose(keys: Tensor, found: Threshold, seen: int, mask: Tensor) -> int:
    """Fill the ``mask`` of a chunk; how many of its keys are ties, ``seen`` having gone before."""
    if found.ties == found.chosen:
        torch.le(keys, found.key, out=mask)
        return 0
    torch.lt(keys, found.key, out=mask)
    ties = keys == found.key
    number = int(ties.sum())
    if seen + number <= found.chosen:
        mask |= ties
    elif seen < found.chosen:
        mask |= ties & (ties.cumsum(0) <= found.chosen - seen)
    return number


def _keys(scores: Tensor) -> Tensor:
    """int32 numbers in the order of float32 ``scores``: the bits of |x|, negated where x < 0.

    −0 and 0 have the same key, as they are the same number.
    """
    bits = scores.float().view(torch.int32)
    sign = bits >> 31  # 0 or −1: x ^ −1 is −x − 1
    return (bits & _DIGITS).bitwise_xor_(sign).sub_(sign)


def _chunks(score: Tensor) -> Iterator[Tensor]:
    yield from score.reshape(-1).split(_size(score))


def _size(score: Tensor) -> int:
    return _CHUNK.get(score.device.type, _CHUNK["cpu"])
