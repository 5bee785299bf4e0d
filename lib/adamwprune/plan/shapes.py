"""Shapes of the weights that pruning may touch, known to planning without torch.

They are the model's own.
"""

from __future__ import annotations

from adamwprune.base.errors import UserError
from adamwprune.plan.answers import Answers
from adamwprune.plan.spec import RunSpec

Shape = tuple[int, ...]

_SHAPES = Answers("shapes", ("models", "datasets", "pruning"))


def prunable_shapes(spec: RunSpec) -> list[Shape]:
    """Of the run's model on the run's data, in the order of its layers.

    Raises :class:`UserError` where the model cannot be built.
    """
    try:
        answer = _SHAPES.of(spec.settings)
    except UserError as error:
        raise UserError(f"the weights of {spec['MODEL']} cannot be counted: {error}") from None
    return [tuple(shape) for shape in answer["shapes"]]
