"""How many weights are pruned: the arithmetic that planning and pruning share, without torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

GROUP, ZEROS = 4, 2  # of N:M sparsity: of each 4 neighbouring inputs 2 are zero
SETTLING = (
    20  # steps after the start and after a momentum reset in which exp_avg_sq says too little
)


def count(sparsity: float, numel: int) -> int:
    """k = floor(s·N + 1/2), with s the decimal number it was written as.

    In binary 0.15 lies below 3/20: 0.15·10 + 0.5 must round to 2 all the same.
    """
    return math.floor(_decimal(sparsity) * numel + Fraction(1, 2))


def mean_density(
    numel: int, taken: int, updates: Sequence[Mapping[str, float]], steps: int
) -> float:
    """Return the mean over ``steps`` of the fraction of ``numel`` weights that are not pruned.

    ``updates``: of each mask update its ``step`` and the ``zeros`` from there on. A step counts
    with the mask that its forward pass saw: an update after it counts from the next step on.
    ``taken``: weights that were pruned before the first update.
    """
    if not numel or not steps:
        return 1.0
    pruned, before, k = 0, 0, taken  # pruned: summed over the steps
    for update in updates:
        pruned += k * (int(update["step"]) - before)
        before, k = int(update["step"]), int(update["zeros"])
    pruned += k * (steps - before)
    return 1 - pruned / (numel * steps)


def part_of(numel: int, fraction: float) -> int:
    """⌊f·n⌋, with f the decimal number it was written as, as in :func:`count`."""
    return math.floor(_decimal(fraction) * numel)


def _decimal(number: float) -> Fraction:
    return Fraction(repr(float(number)))


def room_above(numels: Iterable[int], floor: int) -> list[int]:
    """How many weights of each layer can be pruned if at least ``floor`` of them are kept."""
    return [max(0, numel - floor) for numel in numels]


def divides_by_group(shape: Sequence[int]) -> bool:
    """Whether 2:4 can prune a weight [outputs, inputs, …]: its inputs divide by 4."""
    return len(shape) > 1 and shape[1] % GROUP == 0


def kept_by_group(shape: Sequence[int]) -> int:
    """How many weights of a layer of this shape 2:4 keeps."""
    return math.prod(shape) * (GROUP - ZEROS) // GROUP
