"""A GPU's allocated bytes over the steps of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from adamwprune.train.measure.clock import Clock
from adamwprune.train.measure.phase_peaks import Cuda, Phases
from adamwprune.train.measure.sensors import Sensors, readings

TIMELINE_INTERVAL = 10  # steps between samples


class Timeline:
    """A GPU's allocated bytes over the steps; nothing on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.allocator = Cuda(device) if device.type == "cuda" else None
        self.samples: list[tuple[int, float, int]] = []
        self.sensors = Sensors(readings(device))
        self.clock = Clock()

    def sample(self, step: int) -> None:
        """Note the bytes allocated after ``step``."""
        if self.allocator is not None and step % TIMELINE_INTERVAL == 0:
            allocated = self.allocator.allocated()
            seconds = round(self.clock.elapsed(), 4)
            self.samples.append((step, seconds, allocated))
            self.sensors.sample(step, seconds)

    def record(self, phases: Phases | None) -> dict[str, Any] | None:
        """``timeline``: [step, seconds, bytes] rows; ``peak``, ``reserved``: bytes the run's
        tensors took at most, and torch from the device for them; ``phases``: the peak of each;
        ``sensors``: what its driver reports, where it does. None on a CPU.
        """
        if phases is None:
            return None
        sensors = {"sensors": self.sensors.columns} if self.sensors.columns else {}
        return {
            **sensors,
            "timeline": [list(sample) for sample in self.samples],
            "peak": phases.peak,
            "reserved": torch.cuda.max_memory_reserved(self.device),
            "phases": phases.record(),
        }

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "samples": list(self.samples),
            "clock": self.clock.elapsed(),
            "sensors": self.sensors.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.samples = [tuple(sample) for sample in state["samples"]]
        self.clock.load_state_dict({"totals": {}, "elapsed": state["clock"]})
        self.sensors.load_state_dict(state["sensors"])
