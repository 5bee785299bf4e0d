"""Which run fits where: cores and device memory are reserved, and never more than there is.

On a device whose memory is metered, a run like none that was measured, here or for a published
record, starts alone and holds all of it; after its first steps it holds what it needs, and others
join it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult
from adamwprune.scheduler.devices import Slot

MARGIN = 1.1  # of a measured peak: allocators do not repeat themselves to the byte
CONTEXT = 1 << 30  # bytes that a process takes of a GPU beside its tensors, at most
# What a run's memory depends on; not its seed, its learning rate or its sparsity.
_NETWORK = ("MODEL", "DATASET", "BATCH_SIZE")
_SIZES = (*_NETWORK, "OPTIMIZER", "AMSGRAD", "PRUNING_METHOD", "MASK_STORAGE")
STATES = 3.0  # of its peak another optimizer and method may take of the same network, at most

Likeness = tuple[object, ...]


@dataclass(frozen=True)
class Need:
    """What a run takes: CPU threads of each rank, and bytes of its device (None: nobody knows)."""

    threads: int
    bytes: int | None = None
    alone: bool = False  # with its device to itself: it has run out of memory beside others


class Packer:
    """Reservations over ``slots``. ``cores`` is how many threads the CPU's runs share;
    ``free`` is how many bytes each metered device has for us.
    """

    def __init__(self, slots: Sequence[Slot], cores: int, free: Mapping[str, int]) -> None:
        self.slots, self.cores, self.free = slots, cores, free
        self._held: dict[int, tuple[Slot, Need, int]] = {}  # by place: what, and how many bytes

    def fits(self, place: int, need: Need) -> bool:
        """Whether a run with this need may start at the slot numbered ``place``, free now."""
        slot = self.slots[place]
        others = [held for held in self._held.values() if held[0].device == slot.device]
        taken = self._threads(others) + need.threads * slot.ranks
        if slot.device == "cpu" and others and taken > self.cores:
            return False
        if any(held.alone for _, held, _ in others) or (need.alone and others):
            return False
        if slot.device not in self.free:
            return True
        if need.bytes is None:
            return not others
        # One that is larger than the whole device may try, alone: it fails with its own message.
        return not others or need.bytes <= self._left(slot.device)

    def take(self, place: int, need: Need) -> None:
        """Reserve; to be called where :meth:`fits` said so."""
        device = self.slots[place].device
        everything = need.bytes is None or need.alone
        held = (self._left(device) if everything else need.bytes) if device in self.free else 0
        self._held[place] = (self.slots[place], need, held or 0)

    def measured(self, place: int, peak: int) -> None:
        """A run's first steps took ``peak`` bytes: more is not held for it."""
        if place in self._held:
            slot, need, held = self._held[place]
            if slot.device in self.free and not need.alone:
                self._held[place] = (slot, need, min(held, reserve(peak)))

    def release(self, place: int) -> None:
        """The run at this slot has ended."""
        self._held.pop(place, None)

    def held(self, device: str) -> int:
        """Bytes reserved on a device."""
        return sum(held for slot, _, held in self._held.values() if slot.device == device)

    def _left(self, device: str) -> int:
        return max(0, self.free[device] - self.held(device))

    @staticmethod
    def _threads(held: Iterable[tuple[Slot, Need, int]]) -> int:
        return sum(need.threads * slot.ranks for slot, need, _ in held)


class History:
    """Peak bytes of runs that were measured, by what they depend on.

    ``elsewhere`` reads the records of runs on other machines, at most once: they speak for a
    network until a run of it was measured here.
    """

    def __init__(
        self,
        results: Iterable[RunResult] = (),
        elsewhere: Callable[[], Iterable[RunResult]] = tuple,
    ) -> None:
        self._peaks: dict[Likeness, int] = {}
        self._of_network: dict[Likeness, int] = {}
        self._read = elsewhere
        for result in results:
            device = result.memory.get("device") or {}
            if isinstance(device.get("reserved"), int):
                self.learn(result.spec, device["reserved"])

    def learn(self, spec: RunSpec, peak: int) -> None:
        """A run like ``spec`` took ``peak`` bytes of its device."""
        for peaks, likeness in ((self._peaks, alike(spec)), (self._of_network, network(spec))):
            peaks[likeness] = max(peak, peaks.get(likeness, 0))

    def bytes_of(self, spec: RunSpec) -> int | None:
        """What to reserve for a run like ``spec``; None if none of its network was measured."""
        known = self._known(spec)
        return self._elsewhere._known(spec) if known is None else known

    def _known(self, spec: RunSpec) -> int | None:
        peak = self._peaks.get(alike(spec))
        if peak is not None:
            return reserve(peak)
        peak = self._of_network.get(network(spec))
        return None if peak is None else reserve(round(STATES * peak))

    @cached_property
    def _elsewhere(self) -> History:
        return History(self._read())


def alike(spec: RunSpec) -> Likeness:
    """What a run's memory depends on."""
    return tuple(spec.values.get(name) for name in _SIZES)


def network(spec: RunSpec) -> Likeness:
    """What most of a run's memory depends on: its network and how much is fed to it."""
    return tuple(spec.values.get(name) for name in _NETWORK)


def reserve(peak: int) -> int:
    """Bytes to hold for a run whose tensors took ``peak``."""
    return round(peak * MARGIN) + CONTEXT
