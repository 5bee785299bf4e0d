"""How the pruner remembers which weights are pruned: a bool, a bit, or nothing a weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Masks:
    """Bool masks of ``weights`` by name, True = pruned: one byte a weight.

    Nothing is pruned where no mask was set. A checkpoint holds bits, whatever is in memory.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights
        self.stored: dict[str, Tensor] = {}

    def __setitem__(self, name: str, mask: Tensor) -> None:
        self._store(name, mask)

    def _store(self, name: str, tensor: Tensor) -> None:
        """In place: a captured step reads the mask where it was."""
        if name in self.stored:
            self.stored[name].copy_(tensor)
        else:
            self.stored[name] = tensor

    def mask(self, name: str, states: Mapping[str, Any]) -> Tensor:
        """The bool mask of a weight; ``states``: its optimizer states."""
        return self.stored[name] if name in self.stored else self._none(name)

    def _none(self, name: str) -> Tensor:
        return torch.zeros_like(self.weights[name], dtype=torch.bool)

    def tensors(self) -> list[Tensor]:
        """What is kept from step to step."""
        return list(self.stored.values())

    def state_dict(self) -> dict[str, Tensor]:
        """The masks that were set, packed."""
        return {name: pack(mask) for name, mask in self.stored.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.stored = {}
        for name, packed in state.items():
            weight = self.weights[name]
            # Without the bits that filled the last byte: bytes are counted by storage.
            self[name] = unpack(packed.to(weight.device), weight.shape).clone()


class Bits(Masks):
    """Eight weights a byte, packed layer by layer; a mask is unpacked when it is used."""

    def __setitem__(self, name: str, mask: Tensor) -> None:
        self._store(name, pack(mask))

    def mask(self, name: str, states: Mapping[str, Any]) -> Tensor:
        if name not in self.stored:
            return self._none(name)
        return unpack(self.stored[name], self.weights[name].shape)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.stored)


class Implied(Masks):
    """No bytes: a weight is pruned where it and its ``exp_avg_sq`` are zero.

    Needs gradients that are masked and states that are zeroed when a weight is pruned. A weight
    that starts at exactly zero and has never had a gradient counts as pruned.
    """

    def __setitem__(self, name: str, mask: Tensor) -> None:
        """The pruner zeroes the weights and their states: that is the mask."""

    def mask(self, name: str, states: Mapping[str, Any]) -> Tensor:
        exp_avg_sq: Tensor = states["exp_avg_sq"]
        return (self.weights[name] == 0) & (exp_avg_sq == 0)


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


def _places(like: Tensor) -> Tensor:
    """1, 2, 4, …, 128."""
    return torch.ones((), dtype=torch.uint8, device=like.device) << torch.arange(
        8, dtype=torch.uint8, device=like.device
    )
