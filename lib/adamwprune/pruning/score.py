"""What a pruning method is: a score for each weight, higher = keep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from adamwprune.pruning.select.parts import Part

FLOAT = 4  # bytes of a float32


def wide(values: Tensor) -> Tensor:
    """float16 and bfloat16 as float32, others as they are."""
    return values.float() if values.dtype.itemsize < FLOAT else values


class Score:
    """Base of all methods. Class attributes say what the pruner has to do for a method.

    The method's Kconfig entry sets the symbols of the same names, with which a matrix is planned:
    ``PRUNES``, ``RETURNS``, ``REGROWS``, ``SCORES_UNTRAINED``, ``STARTS_SPARSE``.
    """

    prunes = True  # false for dense training alone
    returns = False  # whether pruned weights keep their values and can return
    regrows = False  # whether pruned weights are taken into use again, from zero
    scores_untrained = False  # whether it can say what to prune before the first step
    reads_states = False  # whether the score needs exp_avg and exp_avg_sq
    reads_gradients = False  # whether a regrowing one needs the gradients of all weights
    least_at_zero = False  # whether a weight that is zero scores 0, and none scores lower
    keeps: Mapping[str, int] = {}  # bytes a prunable weight, by the names of buffers()

    @property
    def observes(self) -> bool:
        """Whether the method looks at each step: it has an :meth:`observe` of its own."""
        return type(self).observe is not Score.observe

    @property
    def observes_inputs(self) -> bool:
        """Whether the method looks at what its layers read: it has an :meth:`observe_input`."""
        return type(self).observe_input is not Score.observe_input

    @property
    def starts_sparse(self) -> bool:
        """Whether a ramp may begin above 0: it scores untrained weights, or has an :meth:`initial`
        by which the first of them go.
        """
        return self.scores_untrained or type(self).initial is not Score.initial

    def begin(self, weights: list[Tensor]) -> None:
        """Called with all prunable weights in their order: when the pruner is attached, and again
        when the first step begins, since the weights may have been loaded in between.
        """

    def observe(self, weight: Tensor, full: Tensor, grad: Tensor, rate: float | Tensor) -> None:
        """Called before each optimizer step with the weight as the model saw it, the same with
        the values that pruned weights of a returning method keep, its unmasked gradient, and the
        size of the step to come (a learning rate, negative where an optimizer maximises; a
        tensor where steps are captured).
        """

    def observe_input(self, weight: Tensor, layer: nn.Module, given: Tensor) -> None:
        """Called in each forward pass of training with what the ``layer`` of ``weight`` reads.

        A step may be captured in a CUDA graph: write to tensors in place and read nothing back.
        """

    def sums_over_examples(self) -> list[Tensor]:
        """What :meth:`observe_input` adds up, in an order that is the same on all ranks of a
        distributed training: after each step they are the sums over all ranks' examples.
        """
        return []

    def options(self) -> dict[str, Any]:
        """What tells two scores of a class apart: its public attributes that are plain values."""
        return {
            name: value
            for name, value in vars(self).items()
            if not name.startswith("_") and isinstance(value, (bool, int, float, str))
        }

    def score(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        """The scores [n] of a ``part`` of ``weight``, from it and its optimizer state.

        The state is empty as long as the weight has had no gradient.

        A fresh tensor. Each weight's score must not depend on which part it is computed in.
        """
        raise NotImplementedError

    def initial(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        """:meth:`score` before the first step, where a schedule begins sparse."""
        return self.score(weight, state, part)

    def buffers(self) -> dict[str, list[Tensor]]:
        """Tensors the method keeps from step to step, by name."""
        return {}

    def expected_bytes(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
        """Bytes by owner beside the masks, for weights of these ``shapes``: :attr:`keeps`, and the
        full weights of a returning method.
        """
        numel = sum(math.prod(shape) for shape in shapes)
        kept = {**self.keeps, "kept_weights": FLOAT} if self.returns else self.keeps
        return {name: each * numel for name, each in kept.items()}

    def state_dict(self, weights: list[Tensor]) -> dict[str, Any]:
        """What a checkpoint holds; ``weights`` fix the order."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any], weights: list[Tensor]) -> None:
        """The inverse of :meth:`state_dict`."""


class Size(Score):
    """|w|: magnitude pruning, and what other methods are compared with."""

    least_at_zero = True
    scores_untrained = True

    def score(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        return part.of(weight).abs()
