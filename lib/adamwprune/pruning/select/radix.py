"""The k-th lowest of very many float32 scores, by two histograms instead of a sort.

Read as an integer, a float32 is in order among the positive ones, and in reverse order among the
negative ones. The first histogram is over the upper 16 of its bits, and says in which of 2¹⁶
buckets the k-th lowest lies; the second over the lower 16 bits of what lies in that bucket, and
says which number it is. Scores are seen one part after the other, twice: there are the bins and
what a part takes. The threshold is the one of a sort, bit for bit.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

Each = Callable[[], Iterator[Tensor]]  # all scores, part by part, as often as it is called
_BINS = 1 << 16
_HALF = _BINS // 2
_NANS = 127  # buckets of the negative NaNs, above −∞ in bits; the positive ones are above +∞


class Threshold(NamedTuple):
    """What tells the k lowest scores from the others."""

    score: float  # the k-th lowest
    ties: int  # how many scores equal it
    chosen: int  # how many of these, from the first on, are among the k lowest


def threshold(each: Each, k: int, summed: Callable[[Tensor], Tensor] = lambda t: t) -> Threshold:
    """The ``k``-th lowest score, from 1 to the number of those that are not NaN.

    ``summed``: makes a histogram of this rank's scores one of all ranks'. Reads three numbers back
    from the device, twice.
    """
    upper = summed(_histogram(each, None))
    # The lower half is that of the negative numbers, from −0 to −∞.
    upper[_HALF - _NANS : _HALF] = 0
    bucket, below, _ = _bin_of(torch.cat([upper[:_HALF].flip(0), upper[_HALF:]]), k)
    prefix = bucket - _HALF if bucket >= _HALF else -1 - bucket
    lower = summed(_histogram(each, prefix))
    digit, before, ties = _bin_of(lower if prefix >= 0 else lower.flip(0), k - below)
    bits = (prefix << 16) | (digit if prefix >= 0 else _BINS - 1 - digit)
    (score,) = struct.unpack("=f", struct.pack("=i", bits))
    return Threshold(score, ties, k - below - before)


def _histogram(each: Each, prefix: int | None) -> Tensor:
    """How often each upper half of the scores' bits occurs, counted from the lowest, −2¹⁵; or
    each lower half under the ``prefix``. Int64 [2¹⁶].
    """
    bins = torch.zeros(_BINS, dtype=torch.int64)
    for scores in each():
        bins = bins.to(scores.device)
        bits = (scores + 0.0).view(torch.int32)  # −0 + 0 is 0: they are the same number
        upper = bits >> 16
        if prefix is None:
            digits, counts = upper.add_(_HALF), scores == scores
        else:
            digits, counts = bits.bitwise_and_(_BINS - 1), upper == prefix
        if scores.is_cuda:
            _scatter(bins, digits, counts)
        else:
            found = digits if prefix is None else digits[counts]
            bins += torch.bincount(found, minlength=_BINS)
    return bins


def _scatter(bins: Tensor, digits: Tensor, counts: Tensor) -> None:
    """Count on a GPU, which waits for nothing: a bincount would read its limits back.

    What does not count adds nothing to a bin by its place: all to one bin would queue there.
    """
    places = torch.arange(len(digits), dtype=torch.int32, device=digits.device)
    places.bitwise_and_(_BINS - 1)
    bins.index_add_(0, torch.where(counts, digits, places), counts.long())


def _bin_of(bins: Tensor, k: int) -> tuple[int, int, int]:
    """The bin in which the ``k``-th lies, counted from 1, how many lie in those before it, and
    how many in it.
    """
    sums = bins.cumsum(0)
    found = torch.searchsorted(sums, torch.full((1,), k, device=bins.device))
    found.clamp_(max=_BINS - 1)  # fewer than k: the others are NaN, and nobody uses the answer
    number, up_to, within = torch.cat([found, sums[found], bins[found]]).tolist()
    return number, up_to - within, within
