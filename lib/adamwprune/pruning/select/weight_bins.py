"""Weights counted in fixed bins, the same for every run: runs can be added up and compared."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from adamwprune.pruning.select.parts import parts

LIMIT = 0.5  # what lies beyond is counted in the first and the last bin
BINS = 100  # of equal width from -LIMIT to LIMIT; zero is the border of two


@torch.no_grad()
def histogram(weights: Iterable[Tensor]) -> list[int]:
    """How many of ``weights`` lie in each bin, without those that are exactly zero.

    Zeros are pruned weights; beside their number no other bin could be seen. The device is asked
    once.
    """
    layers = list(weights)
    counts = [_counts(part.of(weight)) for weight in layers for part in parts(weight)]
    if not counts:  # a rank may hold no row of any of them
        return [0] * BINS if layers else []
    return [int(count) for count in torch.stack(counts).sum(0).tolist()]


def _counts(weight: Tensor) -> Tensor:
    """Of part of a layer, float64 [BINS]: histc counts in float32, exactly only as far as 2²⁴."""
    # histc and a correction, not weight[weight != 0]: that would need an index eight bytes wide.
    found = torch.histc(weight.float().clamp(-LIMIT, LIMIT), BINS, -LIMIT, LIMIT).double()
    found[BINS // 2] -= (weight == 0).sum()
    return found
