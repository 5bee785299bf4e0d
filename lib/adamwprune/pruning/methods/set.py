"""SET: drop the smallest weights, grow others at random (Mocanu et al., arXiv 1707.04780)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adamwprune.pruning.regrowth import Regrowth
from adamwprune.pruning.select.parts import Part


class Set(Regrowth):
    """Sparse evolutionary training: ζ of the weights in use are exchanged, algorithm 1.

    What grows depends on ``seed``, the step and the weight's index alone. There is no exchange in
    the last update, as there is none after the paper's last epoch. A grown weight starts at zero
    and not at a random value, as in RigL's experiments with SET (arXiv 1911.11134).
    """

    def growth(self, weight: Tensor, gradient: Tensor | None, step: int, part: Part) -> Tensor:
        return self._numbers.of(weight, part, draw=step)


def build(values: Mapping[str, Any]) -> Set:
    """SET with the run's fraction and seed."""
    return Set(values["REGROW_FRACTION"], values["SEED"])
