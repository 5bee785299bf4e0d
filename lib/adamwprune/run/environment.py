"""Where a run takes place: packages, machine, threads and what makes its arithmetic repeatable."""

from __future__ import annotations

import functools
import os
import platform
import re
import socket
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

DEPENDENCIES = (
    *("torch", "torchvision", "numpy", "kconfiglib", "matplotlib", "PyYAML", "rich"),
    *("safetensors", "scipy", "bokeh"),
)
COMPILERS = ("numba",)  # optional, of kernels
_SWITCHES = ("CUBLAS_WORKSPACE_CONFIG", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_DRIVER = Path("/proc/driver/nvidia/version")
_CPU = Path("/proc/cpuinfo")


def describe(
    device: torch.device, threads: int, ranks: int = 1, *, sharded: bool = False
) -> dict[str, Any]:
    """What a record holds of the machine and its software, ready for ``json.dumps``.

    ``threads`` are those of one operation (intra-op), in each of ``ranks`` processes; of
    ``sharded`` ones each held but its rows. The code itself is
    :meth:`adamwprune.records.provenance.Source.record`.
    """
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "packages": packages(device),
        "os": platform.platform(),
        "host": socket.gethostname(),
        "device": str(device),
        "device_name": device_name(device),
        "threads": threads,
        "ranks": ranks,
        "sharded": sharded,
        "cpu": cpu(),
        "gpu": gpu(device),
        "driver": driver() if device.type == "cuda" else None,
        "determinism": determinism(),
    }


def packages(device: torch.device) -> dict[str, str | None]:
    """Versions of the declared dependencies and of the libraries whose kernels compute.

    None where a package is not installed or torch was built without it; cuDNN's is known only on
    a GPU, because loading it takes a third of a second.
    """
    cudnn = torch.backends.cudnn.version() if device.type == "cuda" else None
    return {
        **_installed(),
        "mkl": _mkl(),
        "cuda": torch.version.cuda,
        "cudnn": None if cudnn is None else str(cudnn),
    }


@functools.cache
def _installed() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in (*DEPENDENCIES, *COMPILERS):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


@functools.cache
def _mkl() -> str | None:
    match = re.search(r"Math Kernel Library Version (\S+)", torch.__config__.show())
    return match[1] if match else None


def cpu() -> dict[str, Any]:
    """The CPU's ``model``, its logical ``cores``, how many of them this process may use, and the
    instruction set that torch's kernels use there.
    """
    return {
        "model": _cpu_model(),
        "cores": os.cpu_count(),
        "usable": len(os.sched_getaffinity(0)),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def gpu(device: torch.device) -> dict[str, Any] | None:
    """The GPU's ``name``, ``memory`` in bytes and compute ``capability``; None on a CPU."""
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "memory": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
    }


@functools.cache
def driver() -> str | None:
    """The version of NVIDIA's driver, of its kernel module or else of nvidia-smi."""
    if _DRIVER.is_file():
        match = re.search(r"NVRM version:.*?\s([0-9]+(?:\.[0-9]+)+)\s", _DRIVER.read_text())
        if match:
            return match[1]
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(told.stdout.split()), None)


def determinism() -> dict[str, Any]:
    """Every switch that decides whether, and how exactly, the same run gives the same bits."""
    return {
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        **{name: os.environ.get(name) for name in _SWITCHES},
    }


def device_name(device: torch.device) -> str:
    """The model of the GPU or the CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_model()


def _cpu_model() -> str:
    for line in _CPU.read_text().splitlines() if _CPU.is_file() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
