"""Whether a run's target sparsity can be reached with its scope and floor, known without torch.

The arithmetic is that of :mod:`adamwprune.pruning`, which refuses the same when a run begins; here
it is said when the matrix is planned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from adamwprune.plan.shapes import Shape, prunable_shapes
from adamwprune.plan.spec import RunSpec

GROUP, ZEROS = 4, 2  # of N:M sparsity: 2 of 4


def problems(
    spec: RunSpec, shapes: Callable[[RunSpec], Sequence[Shape]] = prunable_shapes
) -> list[str]:
    """Why the weights of a run's model cannot be pruned as ``spec`` asks.

    ``shapes`` is asked only where they matter: without a floor any sparsity has room.
    """
    if "PRUNING_SCOPE" not in spec:
        return []
    floor, is_two_of_four = int(spec["PRUNING_FLOOR"]), spec["PRUNING_SCOPE"] == "2-4"
    if not floor and not is_two_of_four:
        return []
    layers = shapes(spec)
    if is_two_of_four:
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
