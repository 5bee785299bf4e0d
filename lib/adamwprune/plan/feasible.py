"""Whether a run's target sparsity can be reached with its scope and floor, known without torch.

The arithmetic is that of :mod:`adamwprune.pruning`, which refuses the same when a run begins; here
it is said when the matrix is planned. It is no part of the code that makes a record.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from adamwprune.plan.spec import RunSpec

Shape = tuple[int, ...]
GROUP, ZEROS = 4, 2  # of N:M sparsity: 2 of 4


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
    room = sum(max(0, numel - floor) for numel in numels)
    wanted = math.floor(Fraction(repr(spec.sparsity)) * sum(numels) + Fraction(1, 2))
    if wanted <= room:
        return []
    return [
        f"PRUNING_FLOOR={floor}: with so many weights kept in each layer at most {room} of "
        f"{sum(numels)} can be pruned, TARGET_SPARSITY={spec.sparsity:g} needs {wanted}"
    ]


def _two_of_four_problems(spec: RunSpec, layers: Sequence[Shape], floor: int) -> list[str]:
    fitting = [math.prod(shape) for shape in layers if math.prod(shape[1:]) % GROUP == 0]
    if not fitting:
        return [f"PRUNING_SCOPE=2-4: no layer of {spec['MODEL']} has rows that divide by 4"]
    kept = min(fitting) * ZEROS // GROUP
    return [f"PRUNING_FLOOR={floor}: 2:4 keeps {kept} weights of a layer"] if kept < floor else []
