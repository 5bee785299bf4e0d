"""What a pruning method is: a score for each weight, higher = keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adamwprune.pruning.select.parts import Part


class Score:
    """Base of all methods. Class attributes say what the pruner has to do for it."""

    prunes = True
    reads_states = False  # whether the score needs exp_avg and exp_avg_sq
    least_at_zero = False  # whether a weight that is zero scores 0, and none scores lower
    returns = False  # whether pruned weights keep their values and can return
    scores_untrained = False  # whether it can say what to prune before the first step

    @property
    def observes(self) -> bool:
        """Whether the method looks at each step: it has an :meth:`observe` of its own."""
        return type(self).observe is not Score.observe

    def begin(self, weights: list[Tensor]) -> None:
        """Called once, before the first step, with all prunable weights in their order."""

    def observe(self, weight: Tensor, full: Tensor, grad: Tensor, rate: float | Tensor) -> None:
        """Called before each optimizer step with the weight as the model saw it, the same with
        the values that pruned weights of a returning method keep, its unmasked gradient, and the
        size of the step to come (a learning rate; a tensor where steps are captured).
        """

    def score(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        """The scores [n] of a ``part`` of ``weight``, from it and its optimizer state.

        A fresh tensor. Each weight's score must not depend on which part it is computed in.
        """
        raise NotImplementedError

    def initial(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        """:meth:`score` before the first step, where a constant sparsity begins."""
        return self.score(weight, state, part)

    def buffers(self) -> dict[str, list[Tensor]]:
        """Tensors the method keeps from step to step, by name."""
        return {}

    def state_dict(self, weights: list[Tensor]) -> dict[str, Any]:
        """What a checkpoint holds; ``weights`` fix the order."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any], weights: list[Tensor]) -> None:
        """The inverse of :meth:`state_dict`."""
