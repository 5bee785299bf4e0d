"""Random pruning: the control that every other score has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adamwprune.pruning._parts import Part
from adamwprune.pruning._score import Score

_WORD = (1 << 32) - 1


class Random(Score):
    """A number in [0, 1) that depends on ``seed`` and the weight's index alone.

    A weight's score is the same at every update, so that the masks are nested, and on every
    device. Nothing is stored and no random state is drawn from: the rest of the run is the one
    of the same seed under any other method. Raises ``ValueError`` for a seed beyond 32 bits.
    """

    def __init__(self, seed: int = 0) -> None:
        if not 0 <= seed <= _WORD:
            raise ValueError(f"Invalid seed: {seed}")
        self.seed = seed
        self._first: dict[Tensor, int] = {}  # index of a layer's first weight in the network

    def begin(self, weights: list[Tensor]) -> None:
        first = 0
        for weight in weights:
            self._first[weight] = first
            first += weight.numel()

    def score(self, weight: Tensor, state: Mapping[str, Any], part: Part) -> Tensor:
        first, device = self._first[weight], weight.device
        numbers = torch.arange(part.start, part.stop, part.step, device=device)
        index = numbers.add_(first).bitwise_and_(_WORD)
        seed = torch.full((), self.seed ^ 0x9E3779B9, device=device)
        mixed = _mix((_mix(index) + _mix(seed)) & _WORD)
        # Its upper 24 bits are what a float32 holds exactly.
        return (mixed >> 8).float() / (1 << 24)


def _mix(x: Tensor) -> Tensor:
    """A one-to-one map of 32-bit numbers (int64), each of whose bits depends on all of ``x``.

    Two rounds of xor-shift and multiply, with a factor so small that no product exceeds 63 bits.
    """
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 0x45D9F3B) & _WORD
    return x ^ (x >> 16)


def build(values: Mapping[str, Any]) -> Random:
    """Random pruning, by the run's seed."""
    return Random(values["SEED"])
