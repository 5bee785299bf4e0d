"""A GPU's utilisation, power and memory over a training, as NVIDIA's driver reports them (NVML).

They are there where the module ``pynvml`` is (the package ``nvidia-ml-py``), and only what the
device reports: a part of a GPU (MIG) has no utilisation of its own. They are of the whole device,
with whatever else runs on it.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch

log = logging.getLogger(__name__)
MOST = 1_000  # samples; then every second one is dropped, and they are taken half as often
INTERVAL = 0.5  # seconds between samples, at first: a reading takes up to some milliseconds

Reading = Callable[[], float]


class Sensors:
    """Samples of what :func:`readings` give, as columns of equal length."""

    def __init__(self, readings: Mapping[str, Reading]) -> None:
        self.readings = dict(readings)
        self.interval = INTERVAL
        self.columns: dict[str, list[float]] = {}

    def sample(self, step: int, seconds: float) -> None:
        """Note all readings after ``step``, unless the last ones were just taken.

        The device is not waited for: the driver is asked, not the work in its queue.
        """
        times = self.columns.get("seconds", [])
        if not self.readings or (times and seconds - times[-1] < self.interval):
            return
        found = {"step": step, "seconds": seconds}
        try:
            found.update({name: read() for name, read in self.readings.items()})
        except Exception as error:  # noqa: BLE001  NVML's own; a run goes on without them
            log.warning("the GPU reports nothing more: %s", error)
            self.readings.clear()
            return
        for name, value in found.items():
            self.columns.setdefault(name, []).append(value)
        if len(self.columns["step"]) > MOST:
            self.columns = {name: column[::2] for name, column in self.columns.items()}
            self.interval *= 2

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"columns": {n: list(c) for n, c in self.columns.items()}, "every": self.interval}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`. Samples go on only if the same readings are there."""
        self.columns = {name: list(column) for name, column in state["columns"].items()}
        self.interval = state["every"]
        if self.columns and self.columns.keys() - {"step", "seconds"} != self.readings.keys():
            self.readings.clear()


def readings(device: torch.device) -> dict[str, Reading]:
    """What NVML reports of a device: ``utilization`` (the fraction of time in which a kernel ran),
    ``power`` in watts, ``memory`` in bytes that are taken of it. Empty without NVML.
    """
    if device.type != "cuda":
        return {}
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    except Exception as error:  # noqa: BLE001  a missing module, library, driver or right
        log.info("no utilisation and power of the GPU: %s", error)
        return {}
    known: dict[str, Reading] = {
        "utilization": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
        "power": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        "memory": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
    }
    return {name: read for name, read in known.items() if _is_reported(read)}


def _is_reported(read: Reading) -> bool:
    try:
        read()
    except Exception:  # noqa: BLE001  NVML's own: not supported, no right
        return False
    return True
