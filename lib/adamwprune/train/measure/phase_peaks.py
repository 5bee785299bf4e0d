"""A GPU's peaks by phase of a run: init, first step, mask update, steady.

The allocator knows one peak, since it was last reset. Whoever resets it between phases has to
keep the ones before; that is done here, and nowhere else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch

INIT = "init"
FIRST_STEP = "first_step"
MASK_UPDATE = "mask_update"
STEADY = "steady"


class Allocator(Protocol):
    """Bytes of tensors that an allocator has given out."""

    def allocated(self) -> int:
        """Now."""

    def peak(self) -> int:
        """At most since the last reset."""

    def reset(self) -> None:
        """The peak is what is allocated now."""


class Cuda:
    """torch's allocator of one GPU: the numbers of ``torch.cuda.memory_allocated`` and its kin.

    Its readings are bookkeeping of this process: no synchronisation with the device.
    """

    def __init__(self, device: torch.device) -> None:
        torch.cuda.init()  # before there is an allocator its peak cannot be reset
        self.device = device

    def allocated(self) -> int:
        return self._bytes("current")

    def peak(self) -> int:
        return self._bytes("peak")

    def _bytes(self, name: str) -> int:
        # memory_allocated() makes a flat dictionary of hundreds of entries first: 0.3 ms.
        stats = torch.cuda.memory_stats_as_nested_dict(self.device)
        return int(stats["allocated_bytes"]["all"][name])

    def reset(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.device)


class Phases:
    """The most bytes allocated in each phase; a phase that comes again adds to the first."""

    def __init__(self, allocator: Allocator) -> None:
        self.allocator = allocator
        self._peaks: dict[str, int] = {}
        self._phase = ""

    @property
    def phase(self) -> str:
        """The one in hand."""
        return self._phase

    def enter(self, phase: str) -> None:
        """End the phase in hand, if any, and begin ``phase``."""
        self._note()
        self._phase = phase
        self.allocator.reset()

    @contextlib.contextmanager
    def within(self, phase: str) -> Iterator[None]:
        """``phase`` inside the one in hand, which goes on afterwards."""
        around = self._phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(around)

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        """Leave what is allocated meanwhile out of all peaks."""
        self._note()
        try:
            yield
        finally:
            self.allocator.reset()

    def record(self) -> dict[str, int]:
        """Peak bytes by phase, the one in hand included."""
        self._note()
        return dict(self._peaks)

    @property
    def peak(self) -> int:
        """The most bytes in any phase."""
        return max(self.record().values(), default=0)

    def _note(self) -> None:
        if self._phase:
            before = self._peaks.get(self._phase, 0)
            self._peaks[self._phase] = max(before, self.allocator.peak())

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"peaks": self.record()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; the phase in hand goes on."""
        for phase, peak in state["peaks"].items():
            self._peaks[phase] = max(peak, self._peaks.get(phase, 0))
