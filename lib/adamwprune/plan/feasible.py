"""Whether a run's target sparsity can be reached with its scope and floor, known without torch.

The arithmetic is that of :mod:`adamwprune.pruning` (:mod:`adamwprune.base.sparsity`), which refuses
the same when a run begins. Here the refusal comes when the matrix is planned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from adamwprune.base import sparsity
from adamwprune.plan.spec import RunSpec

Shape = tuple[int, ...]


def shapes(text: str) -> list[Shape]:
    """The shapes in the words of PRUNABLE_SHAPES: ``6x1x5x5 120x400``."""
    return [tuple(map(int, word.split("x"))) for word in text.split()]


def problems(spec: RunSpec, layers: Sequence[Shape]) -> list[str]:
    """Why weights of these shapes cannot be pruned as ``spec`` asks; nothing of no shapes."""
    if "PRUNING_SCOPE" not in spec or not layers:
        return []
    floor = int(spec["PRUNING_FLOOR"])
    if spec["PRUNING_SCOPE"] == "2-4":
        return _two_of_four_problems(spec, layers, floor)
    numels = [math.prod(shape) for shape in layers]
    room = sum(sparsity.room_above(numels, floor))
    wanted = sparsity.count(spec.sparsity, sum(numels))
    if wanted <= room:
        return []
    return [
        f"PRUNING_FLOOR={floor}: with so many weights kept in each layer at most {room} of "
        f"{sum(numels)} can be pruned, TARGET_SPARSITY={spec.sparsity:g} needs {wanted}"
    ]


def _two_of_four_problems(spec: RunSpec, layers: Sequence[Shape], floor: int) -> list[str]:
    kept = [sparsity.kept_by_group(shape) for shape in layers if sparsity.divides_by_group(shape)]
    if not kept:
        return [f"PRUNING_SCOPE=2-4: no layer of {spec['MODEL']} has rows that divide by 4"]
    if min(kept) >= floor:
        return []
    return [f"PRUNING_FLOOR={floor}: 2:4 keeps {min(kept)} weights of a layer"]
