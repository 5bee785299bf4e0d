"""Wanda (Sun et al., arXiv 2306.11695), as a member that scores what its layers read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from adamwprune.pruning.inputs import InputNorms
from adamwprune.pruning.score import FLOAT, Score
from adamwprune.pruning.select.parts import Part


class Wanda(Score):
    """|w_ij|·‖X_j‖₂ (eq. 1), with X_j all that input j was in training so far.

    The paper compares the weights of one output with each other; here the scope says which.
    """

    least_at_zero = True

    def __init__(self) -> None:
        self._norms = InputNorms()

    def observe_input(self, weight: Tensor, layer: nn.Module, given: Tensor) -> None:
        self._norms.add(weight, layer, given)

    def sums_over_examples(self) -> list[Tensor]:
        return self._norms.tensors()

    def score(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        return self._norms.of(weight, part).mul_(part.of(weight).abs())

    def buffers(self) -> dict[str, list[Tensor]]:
        return {"input_norms": self._norms.tensors()}

    def expected_bytes(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
        return {"input_norms": FLOAT * sum(shape[1] for shape in shapes)}  # without groups

    def state_dict(self, weights: list[Tensor]) -> dict[str, Any]:
        return {"input_norms": self._norms.state_dict(weights)}

    def load_state_dict(self, state: Mapping[str, Any], weights: list[Tensor]) -> None:
        self._norms.load_state_dict(state["input_norms"], weights)
