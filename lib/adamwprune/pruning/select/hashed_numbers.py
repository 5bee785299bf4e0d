"""Numbers that look random, from a seed and a weight's index alone: nothing is stored or drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from adamwprune.pruning.select.parts import Part

_WORD = (1 << 32) - 1


class Numbers:
    """A number in [0, 1) a weight, the same on every device, that depends on ``seed`` and the
    weight's index in the network, and on the number of the draw where there are several.

    No random state is touched: the rest of the run is the one of the same seed under any other
    method. Raises ``ValueError`` for a seed beyond 32 bits.
    """

    def __init__(self, seed: int) -> None:
        if not 0 <= seed <= _WORD:
            raise ValueError(f"Invalid seed: {seed}")
        self.seed = seed
        self._first: dict[Tensor, int] = {}  # index of a layer's first weight in the network

    def begin(self, weights: list[Tensor]) -> None:
        """Number all ``weights`` in their order."""
        first = 0
        for weight in weights:
            self._first[weight] = first
            first += weight.numel()

    def of(self, weight: Tensor, part: Part, draw: int | None = None) -> Tensor:
        """Those of a ``part`` of ``weight``, float32 [n]."""
        device = weight.device
        numbers = torch.arange(part.start, part.stop, part.step, device=device)
        mixed = _mix(numbers.add_(self._first[weight]).bitwise_and_(_WORD))
        for word in (self.seed, *(() if draw is None else (draw,))):
            added = torch.full((), (word & _WORD) ^ 0x9E3779B9, device=device)
            mixed = _mix((mixed + _mix(added)) & _WORD)
        # Its upper 24 bits are what a float32 holds exactly.
        return (mixed >> 8).float() / (1 << 24)


def _mix(x: Tensor) -> Tensor:
    """A one-to-one map of 32-bit numbers (int64), each of whose bits depends on all of ``x``.

    Two rounds of xor-shift and multiply, with a factor so small that no product exceeds 63 bits.
    """
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 0x45D9F3B) & _WORD
    return x ^ (x >> 16)
