"""Which devices there are and how many runs each takes, without importing torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adamwprune.errors import UserError

_QUESTION = """
import json, torch
count = torch.cuda.device_count()
print(json.dumps({f"cuda:{i}": torch.cuda.mem_get_info(i)[0] for i in range(count)}))
"""


@dataclass(frozen=True)
class Slot:
    """A place for one run at a time."""

    device: str
    threads: int


@dataclass(frozen=True)
class Machine:
    """What there is to train on: the cores this process may use, and each GPU's free bytes."""

    cores: int
    gpus: Mapping[str, int] = field(default_factory=dict)  # "cuda:0" -> bytes


def machine(choice: str) -> Machine:
    """This machine as DEVICE=``choice`` (auto, cpu, cuda) sees it.

    Raises :class:`UserError` where ``cuda`` is asked for and is not there.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    gpus = {} if choice == "cpu" else _gpus()
    if choice == "cuda" and not gpus:
        raise UserError("DEVICE=cuda: there is no CUDA device; use DEVICE=cpu or DEVICE=auto")
    return Machine(cores, gpus)


def slots(here: Machine, jobs: int, threads: int, runs: int) -> list[Slot]:
    """The places for ``runs`` runs, spread over the devices.

    ``jobs`` a device; 0 chooses: as many as fit on the CPU, one on a GPU. ``threads`` a run; 0
    shares the cores out. On the CPU jobs x threads never exceeds the cores.
    """
    if here.gpus:
        places = [gpu for _ in range(jobs or 1) for gpu in here.gpus][:runs]
        each = threads or max(1, here.cores // len(places))
        return [Slot(gpu, each) for gpu in places]
    if threads > here.cores:
        raise UserError(f"THREADS={threads}: this machine has {_cores(here.cores)}")
    count = min(jobs or here.cores, here.cores // (threads or 1), runs)
    return [Slot("cpu", threads or max(1, here.cores // count)) for _ in range(count)]


def limits(here: Machine, jobs: int, threads: int) -> list[str]:
    """What was asked for and cannot be had: more runs at a time than there are cores for."""
    most = here.cores // max(1, threads)
    if here.gpus or jobs <= most:
        return []
    return [f"JOBS={jobs}: {_cores(here.cores)} run {most} at a time"]


def environment(threads: int) -> dict[str, str]:
    """What a process that trains on so many threads needs in its environment before torch is
    imported.
    """
    # Threads that spin while they wait starve other workers. Where there can be none, threads that
    # sleep and are woken for each operation take up to twice as long.
    waiting = {"OMP_WAIT_POLICY": "passive"} if threads < machine("cpu").cores else {}
    return {
        **waiting,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS is deterministic only with this
    }


def _cores(count: int) -> str:
    return f"{count} core{'s' if count > 1 else ''}"


def _gpus() -> dict[str, int]:
    """Asks torch in a process of its own, and only if there may be a driver."""
    if not (any(Path("/dev").glob("nvidia[0-9]*")) or os.environ.get("CUDA_VISIBLE_DEVICES")):
        return {}
    answer = subprocess.run(
        [sys.executable, "-c", _QUESTION], capture_output=True, text=True, check=False
    )
    try:
        found = json.loads(answer.stdout)
    except ValueError:
        return {}
    return {str(name): int(free) for name, free in found.items()}
