"""Which devices there are and how many runs each takes, without importing torch."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from adamwprune.errors import UserError


@dataclass(frozen=True)
class Slot:
    """A place for one run at a time."""

    device: str
    threads: int


def slots(choice: str, jobs: int, runs: int) -> list[Slot]:
    """The places for ``runs`` runs on the devices of ``choice`` (auto, cpu, cuda).

    ``jobs`` a device; 0 chooses: as many as cores on the CPU, one on a GPU. On the CPU the cores
    are shared out: jobs x threads never exceeds them, unless there are more jobs than cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    gpus = [] if choice == "cpu" else _cuda_devices()
    if choice == "cuda" and not gpus:
        raise UserError("DEVICE=cuda: there is no CUDA device; use DEVICE=cpu or DEVICE=auto")
    if gpus:
        places = [gpu for _ in range(jobs or 1) for gpu in gpus][:runs]
        return [Slot(gpu, max(1, cores // len(places))) for gpu in places]
    count = min(jobs or cores, runs)
    return [Slot("cpu", max(1, cores // count)) for _ in range(count)]


def _cuda_devices() -> list[str]:
    """``cuda:0`` and so on; asks torch in a process of its own, and only if a driver is there."""
    if not (any(Path("/dev").glob("nvidia[0-9]*")) or os.environ.get("CUDA_VISIBLE_DEVICES")):
        return []
    question = "import torch; print(torch.cuda.device_count())"
    answer = subprocess.run(
        [sys.executable, "-c", question], capture_output=True, text=True, check=False
    )
    count = int(answer.stdout) if answer.stdout.strip().isdigit() else 0
    return [f"cuda:{index}" for index in range(count)]
