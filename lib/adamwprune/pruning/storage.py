"""How the pruner remembers which weights are pruned: a bool, a bit, or nothing a weight; or by the
index of those that are not, for which alone there are optimizer states then.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adamwprune.pruning.live import LANES, Live, length
from adamwprune.pruning.masking import zero_where_set, zero_where_zero
from adamwprune.pruning.score import FLOAT
from adamwprune.pruning.select.parts import Part, parts

ADAM_MOMENTS = ("exp_avg", "exp_avg_sq")  # AMSGrad's maximum is zero where the second one is
INDEX = 4  # bytes of a number's place
SQUARES = ("exp_avg_sq", "max_exp_avg_sq")  # moments that are never negative


class Count(NamedTuple):
    """Of a float32 weight on a CPU: its numbers, how many of them are live, and how many of these
    among the last ``numel`` modulo 8 (see :mod:`adamwprune.pruning.live`).
    """

    numel: int
    live: int
    rest: int = 0

    @property
    def is_packed(self) -> bool:
        """Whether packed states have no more than the live numbers."""
        return 2 * self.live <= self.numel


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
            return torch.zeros(part.numel, dtype=torch.bool, device=self.weights[name].device)
        return part.of(self.stored[name])

    def mask(self, name: str, states: Mapping[str, Any]) -> Tensor:
        """The bool mask of a weight."""
        shape = self.weights[name].shape
        return self.part(name, Part(0, shape.numel()), states).view(shape)

    def flags(self, name: str, part: Part, states: Mapping[str, Any]) -> Tensor:
        """A part of a mask as float32 [n]: 1 where a weight is pruned, 0 where it is live."""
        return self.part(name, part, states).float()

    def zero(self, name: str, values: Tensor, states: Mapping[str, Any]) -> None:
        """Zero ``values``, of the weight's shape, in place where the weight is pruned."""
        if not values.is_contiguous():
            values.masked_fill_(self.mask(name, states), 0)
            return
        for part in parts(values):
            self._zero(name, part, part.of(values), states)

    def _zero(self, name: str, part: Part, values: Tensor, states: Mapping[str, Any]) -> None:
        zero_where_set(values, self.part(name, part, states))

    def settle(self, name: str, states: MutableMapping[str, Any]) -> None:
        """Called when all parts of a mask were put, with the optimizer's states of the weight."""

    def live(self, name: str) -> Live | None:
        """Where the live numbers are, if the optimizer keeps states of these alone."""
        return None

    def _none(self, name: str) -> Tensor:
        weight = self.weights[name]
        return torch.zeros(weight.shape, dtype=torch.bool, device=weight.device)

    def tensors(self) -> list[Tensor]:
        """What is kept from step to step."""
        return list(self.stored.values())

    @staticmethod
    def expected_bytes(counts: Sequence[Count]) -> int:
        """Bytes of all masks for weights of these ``counts``."""
        return sum(count.numel for count in counts)

    @staticmethod
    def without_states(counts: Sequence[Count]) -> int:
        """How many numbers an optimizer's state has less than there are weights."""
        return 0

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
        if part.step > 1:
            places = torch.arange(*part, device=self.weights[name].device)
            return (self.stored[name][places // 8] >> (places % 8).byte() & 1).bool()
        return unpack(_bytes_of(self.stored[name], part), torch.Size([part.numel]))

    @staticmethod
    def expected_bytes(counts: Sequence[Count]) -> int:
        return sum(-(-count.numel // 8) for count in counts)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.stored)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.stored = {n: p.to(self.weights[n].device).clone() for n, p in state.items()}


class Implied(Masks):
    """No bytes: a weight is pruned where it and its moments are zero.

    Needs gradients that are masked and states that are zeroed when a weight is pruned. A live
    weight that is zero for a moment has moments that are not. One that starts at zero is told apart
    by :func:`tiny`.
    """

    def put(self, name: str, part: Part, mask: Tensor) -> None:
        """The pruner zeroes the weights and their states: that is the mask."""

    @staticmethod
    def expected_bytes(counts: Sequence[Count]) -> int:
        return 0

    def part(self, name: str, part: Part, states: Mapping[str, Any]) -> Tensor:
        return self._sizes(name, part, states) == 0

    def flags(self, name: str, part: Part, states: Mapping[str, Any]) -> Tensor:
        sizes = self._sizes(name, part, states)
        return torch.eq(sizes, 0, out=torch.empty_like(sizes, dtype=torch.float32))

    def _zero(self, name: str, part: Part, values: Tensor, states: Mapping[str, Any]) -> None:
        sizes = self._sizes(name, part, states)
        if sizes.dtype == values.dtype:
            zero_where_zero(values, sizes)
        else:
            values.masked_fill_(sizes == 0, 0)

    def _sizes(self, name: str, part: Part, states: Mapping[str, Any]) -> Tensor:
        """[n], zero where a weight is pruned and positive where it is live."""
        sizes = part.of(self.weights[name]).abs()
        for moment in ADAM_MOMENTS:
            if moment in states:
                values = part.of(states[moment])
                values = values if moment in SQUARES else values.abs()
                sizes = sizes.add_(values) if sizes.dtype == values.dtype else sizes + values
        return sizes


class Packed(Bits):
    """Optimizer states of live weights alone, and the index of these: 4 bytes a live weight.

    A layer is packed once no more than half of it is live. With more, an index would take what the
    states of pruned weights do: until then it has a bit a weight and whole states.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__(weights)
        self._live: dict[str, Live] = {}
        self._put: dict[str, Tensor] = {}  # a mask whose parts are being put

    def live(self, name: str) -> Live | None:
        return self._live.get(name)

    def put(self, name: str, part: Part, mask: Tensor) -> None:
        if name not in self._put:
            self._put[name] = self.mask(name, {})
        part.put(self._put[name], mask)

    def settle(self, name: str, states: MutableMapping[str, Any]) -> None:
        """Pack the states for the mask that was put."""
        if name not in self._put:
            return
        mask = self._put.pop(name)
        was_packed = name in self._live
        whole = {key: self.whole(name, value) for key, value in states.items()}
        self._store(name, mask)
        for key, value in whole.items():
            if was_packed and isinstance(value, Tensor) and value.shape == mask.shape:
                value.masked_fill_(mask, 0)  # it may have more live weights now, and not be packed
            states[key] = self.packed(name, value)

    def _store(self, name: str, mask: Tensor) -> None:
        self._live.pop(name, None)
        self.stored.pop(name, None)
        live = Live(self.weights[name], mask)
        if Count(mask.numel(), len(live.index)).is_packed:
            self._live[name] = live
        else:
            self.stored[name] = pack(mask)

    def packed(self, name: str, state: Any) -> Any:
        """A state without the numbers of pruned weights, if the layer is packed and it is not."""
        live = self._live.get(name)
        if live is None or not isinstance(state, Tensor) or state.shape != live.weight.shape:
            return state
        return live.gather(state)

    def whole(self, name: str, state: Any) -> Any:
        """The inverse of :meth:`packed`."""
        live = self._live.get(name)
        if live is None or not isinstance(state, Tensor) or state.shape != live.shape:
            return state
        return live.expand(state)

    def part(self, name: str, part: Part, states: Mapping[str, Any]) -> Tensor:
        if name in self._put:
            return part.of(self._put[name])
        live = self._live.get(name)
        return super().part(name, part, states) if live is None else live.mask_part(part)

    def mask(self, name: str, states: Mapping[str, Any]) -> Tensor:
        live = self._live.get(name)
        return super().mask(name, states) if live is None or name in self._put else live.mask()

    @staticmethod
    def expected_bytes(counts: Sequence[Count]) -> int:
        packed = [count for count in counts if count.is_packed]
        others = [count for count in counts if not count.is_packed]
        return INDEX * sum(count.live for count in packed) + Bits.expected_bytes(others)

    @staticmethod
    def without_states(counts: Sequence[Count]) -> int:
        packed = (count for count in counts if count.is_packed)
        return sum(count.numel - length(*count, LANES // FLOAT) for count in packed)

    def tensors(self) -> list[Tensor]:
        return [*super().tensors(), *(live.index for live in self._live.values())]

    def state_dict(self) -> dict[str, Tensor]:
        return {**self.stored, **{name: pack(live.mask()) for name, live in self._live.items()}}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.stored, self._live, self._put = {}, {}, {}
        for name, bits in state.items():
            weight = self.weights[name]
            self._store(name, unpack(bits.to(weight.device), weight.shape).clone())


STORAGES: dict[str, type[Masks]] = {
    "bool": Masks,
    "bits": Bits,
    "implied": Implied,
    "packed": Packed,
}


def tiny(dtype: torch.dtype) -> float:
    """A number that is next to nothing, by which a live weight is told from a pruned one."""
    return 2.0**-24 if dtype is torch.float16 else torch.finfo(dtype).tiny


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
