"""How the pruner remembers which weights are pruned: a bool, a bit, or nothing a weight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adamwprune.pruning.select.parts import Part


class Masks:
    """Bool masks of ``weights`` by name, True = pruned: one byte a weight.

    Nothing is pruned where no mask was set. A checkpoint holds bits, whatever is in memory.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights
        self.stored: dict[str, Tensor] = {}

    def put(self, name: str, part: Part, mask: Tensor) -> None:
        """Set a part [n] of a mask. In place: a captured step reads the mask where it was."""
        if name not in self.stored:
            self.stored[name] = self._none(name)
        part.of(self.stored[name]).copy_(mask)

    def part(self, name: str, part: Part, states: Mapping[str, Any]) -> Tensor:
        """A part [n] of a mask; ``states``: the optimizer's of this weight."""
        if name not in self.stored:
            number = part.stop - part.start
            return torch.zeros(number, dtype=torch.bool, device=self.weights[name].device)
        return part.of(self.stored[name])

    def mask(self, name: str, states: Mapping[str, Any]) -> Tensor:
        """The bool mask of a weight."""
        shape = self.weights[name].shape
        return self.part(name, Part(0, shape.numel()), states).view(shape)

    def _none(self, name: str) -> Tensor:
        weight = self.weights[name]
        return torch.zeros(weight.shape, dtype=torch.bool, device=weight.device)

    def tensors(self) -> list[Tensor]:
        """What is kept from step to step."""
        return list(self.stored.values())

    @staticmethod
    def expected_bytes(shapes: Sequence[tuple[int, ...]]) -> int:
        """Bytes of all masks for weights of these ``shapes``."""
        return sum(map(math.prod, shapes))

    def state_dict(self) -> dict[str, Tensor]:
        """The masks that were set, packed."""
        return {name: pack(mask) for name, mask in self.stored.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.stored = {}
        for name, packed in state.items():
            weight = self.weights[name]
            # Without the bits that filled the last byte: bytes are counted by storage.
            self.stored[name] = unpack(packed.to(weight.device), weight.shape).clone()


class Bits(Masks):
    """Eight weights a byte, packed layer by layer; a mask is unpacked when it is used."""

    def put(self, name: str, part: Part, mask: Tensor) -> None:
        weight = self.weights[name]
        if name not in self.stored:
            size = -(-weight.numel() // 8)
            self.stored[name] = torch.zeros(size, dtype=torch.uint8, device=weight.device)
        _bytes_of(self.stored[name], part).copy_(pack(mask))

    def part(self, name: str, part: Part, states: Mapping[str, Any]) -> Tensor:
        if name not in self.stored:
            return super().part(name, part, states)
        return unpack(_bytes_of(self.stored[name], part), torch.Size([part.stop - part.start]))

    @staticmethod
    def expected_bytes(shapes: Sequence[tuple[int, ...]]) -> int:
        return sum(-(-math.prod(shape) // 8) for shape in shapes)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.stored)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.stored = {n: p.to(self.weights[n].device).clone() for n, p in state.items()}


class Implied(Masks):
    """No bytes: a weight is pruned where it and its ``exp_avg_sq`` are zero.

    Needs gradients that are masked and states that are zeroed when a weight is pruned. A weight
    that starts at exactly zero and has never had a gradient counts as pruned.
    """

    def put(self, name: str, part: Part, mask: Tensor) -> None:
        """The pruner zeroes the weights and their states: that is the mask."""

    @staticmethod
    def expected_bytes(shapes: Sequence[tuple[int, ...]]) -> int:
        return 0

    def part(self, name: str, part: Part, states: Mapping[str, Any]) -> Tensor:
        zeros = part.of(self.weights[name]) == 0
        if "exp_avg_sq" not in states:  # before the first step
            return zeros
        return zeros.logical_and_(part.of(states["exp_avg_sq"]) == 0)


STORAGES: dict[str, type[Masks]] = {"bool": Masks, "bits": Bits, "implied": Implied}


def pack(mask: Tensor) -> Tensor:
    """A bool tensor of n elements as ⌈n/8⌉ bytes (uint8), the first element in the lowest bit."""
    flat = mask.reshape(-1)
    padded = torch.nn.functional.pad(flat, (0, -flat.numel() % 8))
    return (padded.view(-1, 8) * _places(mask)).sum(1, dtype=torch.uint8)


def unpack(packed: Tensor, shape: torch.Size) -> Tensor:
    """The bool tensor of this ``shape`` that :func:`pack` made the bytes of."""
    bits = (packed.unsqueeze(1) & _places(packed)) != 0
    return bits.view(-1)[: shape.numel()].view(shape)


def _bytes_of(packed: Tensor, part: Part) -> Tensor:
    """The bytes of a part; every part begins with a whole byte."""
    return packed[part.start // 8 : -(-part.stop // 8)]


def _places(like: Tensor) -> Tensor:
    """1, 2, 4, …, 128."""
    return torch.ones((), dtype=torch.uint8, device=like.device) << torch.arange(
        8, dtype=torch.uint8, device=like.device
    )
