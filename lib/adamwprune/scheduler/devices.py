"""Which devices there are and how many runs each takes, without importing torch."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adamwprune.base.errors import UserError
from adamwprune.base.subprocesses import WAITING
from adamwprune.base.wording import at_place, counted

GPU_JOBS = 4  # runs at a time on a GPU: one small network leaves most of it idle
# In a process of its own: it takes memory of each GPU while it asks. CUDA's driver numbers GPUs as
# torch does; it answers seconds sooner than torch is imported.
_QUESTION = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
def call(name, *arguments):
    status = getattr(cuda, name)(*arguments)
    if status:
        raise SystemExit(f"{name}: error {status}")
call("cuInit", 0)
count, found = ctypes.c_int(), {}
call("cuDeviceGetCount", ctypes.byref(count))
for i in range(count.value):
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), i)
    call("cuCtxSetCurrent", context)
    call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    found[f"cuda:{i}"] = free.value
print(json.dumps(found))
"""
_QUESTION_TO_TORCH = """
import json, torch
count = torch.cuda.device_count()
print(json.dumps({f"cuda:{i}": torch.cuda.mem_get_info(i)[0] for i in range(count)}))
"""


@dataclass(frozen=True)
class Slot:
    """A place for one run at a time."""

    device: str  # of several ranks the first one's
    threads: int  # of each rank
    ranks: int = 1  # processes that train a run together, on GPUs one on each

    @property
    def cores(self) -> int:
        """CPU threads of all ranks."""
        return self.threads * self.ranks

    @property
    def words(self) -> str:
        """``cpu, 2 threads``; ``cuda:0, 2 ranks of 1 thread``."""
        return at_place(self.device, self.threads, self.ranks)


@dataclass(frozen=True)
class Machine:
    """What there is to train on: the cores this process may use, and each GPU's free bytes."""

    cores: int
    gpus: Mapping[str, int] = field(default_factory=dict)  # "cuda:0" -> bytes


@dataclass(frozen=True)
class Agents:
    """What a cluster is asked for: so many agents, each of which holds this until all runs end."""

    count: int
    cores: int
    gpus: float = 0.0

    @property
    def node(self) -> Machine:
        """What an agent sees of its node, but for the bytes of its GPUs."""
        return Machine(self.cores, {f"cuda:{i}": 0 for i in range(math.ceil(self.gpus))})

    def cost(self, seconds: float) -> float:
        """The GPU hours, or without GPUs the core hours, of a matrix that takes ``seconds``."""
        return self.count * (self.gpus or self.cores) * seconds / 3600

    def __str__(self) -> str:
        cores = _cores(self.cores)
        return f"{counted(self.count, 'agent')} with {f'{self.gpus:g} GPU' if self.gpus else cores}"


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


def slots(here: Machine, jobs: int, threads: int, runs: int, ranks: int = 1) -> list[Slot]:
    """The places for ``runs`` runs, spread over the devices.

    ``jobs`` a device; 0 chooses: as many as fit on the CPU, on a GPU :data:`GPU_JOBS` if there are
    two cores for each, or one where a run has several GPUs. ``threads`` a rank; 0 shares the cores
    out. ``ranks`` a run: on GPUs so many of them, the first of which names the place. On the CPU
    jobs x threads x ranks never exceeds the cores.
    """
    if here.gpus:
        if ranks > len(here.gpus):
            there = "there is 1 GPU" if len(here.gpus) == 1 else f"there are {len(here.gpus)} GPUs"
            raise UserError(f"RANKS={ranks}: {there} here")
        firsts = list(here.gpus)[: len(here.gpus) // ranks * ranks : ranks]
        most = max(1, here.cores // (2 * len(here.gpus))) if ranks == 1 else 1
        places = [gpu for _ in range(jobs or min(GPU_JOBS, most)) for gpu in firsts][:runs]
        each = threads or max(1, here.cores // (len(places) * ranks))
        return [Slot(gpu, each, ranks) for gpu in places]
    if (threads or 1) * ranks > here.cores:
        raise UserError(f"{asked(threads, ranks)}: this machine has {_cores(here.cores)}")
    count = min(jobs or here.cores, here.cores // ((threads or 1) * ranks), runs)
    each = threads or max(1, here.cores // (count * ranks))
    return [Slot("cpu", each, ranks) for _ in range(count)]


def asked(threads: int, ranks: int) -> str:
    """How these were asked for: ``RANKS=4, THREADS=2``."""
    named = {"RANKS": ranks if ranks > 1 else 0, "THREADS": threads}
    return ", ".join(f"{name}={value}" for name, value in named.items() if value)


def limits(here: Machine, jobs: int, threads: int, ranks: int = 1) -> list[str]:
    """What was asked for and cannot be had: more runs at a time than there are cores for."""
    most = here.cores // max(1, threads * ranks)
    if here.gpus or jobs <= most:
        return []
    return [f"JOBS={jobs}: {_cores(here.cores)} run {most} at a time"]


def environment(threads: int) -> dict[str, str]:
    """What a process that trains on so many threads needs in its environment before torch is
    imported.
    """
    return {
        **WAITING,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS is deterministic only with this
    }


def _cores(count: int) -> str:
    return f"{count} core{'s' if count > 1 else ''}"


def _gpus() -> dict[str, int]:
    """Only if there may be a driver; torch is asked where CUDA's own driver gives no answer."""
    if not (any(Path("/dev").glob("nvidia[0-9]*")) or os.environ.get("CUDA_VISIBLE_DEVICES")):
        return {}
    return _answer(_QUESTION) or _answer(_QUESTION_TO_TORCH)


def _answer(question: str) -> dict[str, int]:
    answer = subprocess.run(
        [sys.executable, "-c", question], capture_output=True, text=True, check=False
    )
    try:
        found = json.loads(answer.stdout)
    except ValueError:
        return {}
    return {str(name): int(free) for name, free in found.items()}
