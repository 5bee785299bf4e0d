"""Whether a run's network can be built, and its target sparsity reached with its scope and floor,
known without torch.

The arithmetic is that of :mod:`adamwprune.models` and :mod:`adamwprune.pruning`
(:mod:`adamwprune.base.sparsity`), which refuse the same when a run begins. Here the refusal comes
when the matrix is planned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from adamwprune.base import sparsity
from adamwprune.plan.shapes import Shape, prunable_shapes
from adamwprune.plan.spec import RunSpec


def problems(
    spec: RunSpec, shapes: Callable[[RunSpec], Sequence[Shape]] = prunable_shapes
) -> list[str]:
    """Why a run's model cannot be built, or its weights not be pruned as ``spec`` asks.

    ``shapes`` is asked only where they matter: without a floor any sparsity has room.
    """
    width, heads = spec.values.get("GPT_WIDTH"), spec.values.get("GPT_HEADS")
    # Of a network that MODEL_WIDTH narrows the width is rounded to what the heads divide.
    if width and heads and spec["MODEL_WIDTH"] == 1 and int(width) % int(heads):
        return [f"GPT_HEADS={heads}: so many heads do not divide GPT_WIDTH={width}"]
    if "PRUNING_SCOPE" not in spec:
        return []
    floor, is_two_of_four = int(spec["PRUNING_FLOOR"]), spec["PRUNING_SCOPE"] == "2-4"
    if not floor and not is_two_of_four:
        return []
    layers = shapes(spec)
    if is_two_of_four:
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
        return [f"PRUNING_SCOPE=2-4: no layer of {spec['MODEL']} has inputs that divide by 4"]
    if min(kept) >= floor:
        return []
    return [f"PRUNING_FLOOR={floor}: 2:4 keeps {min(kept)} weights of a layer"]
