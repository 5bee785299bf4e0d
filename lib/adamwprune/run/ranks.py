"""The other ranks of a run that several processes train: started beside it, and ended with it.

The process of the run is rank 0. It alone keeps the directory: log, checkpoints, record. The others
build the same training, load the same checkpoint and make the same steps on their shares of the
batches; nothing of them is kept. What ends one of them ends the run, which goes on from its last
checkpoint as after any crash.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from adamwprune.base import subprocesses
from adamwprune.plan.job import Job
from adamwprune.records.code import LIBRARY

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

PATIENCE = timedelta(minutes=30)  # for one collective; a rank may evaluate or save meanwhile
GRACE = 5.0  # seconds that rank 0 has to notice by itself that another one has ended
# All ranks are on this machine; without these a library may look for it by its name.
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
READY = "ready"


@contextlib.contextmanager
def others(job: Job, threads: int, checkpoint: Path | None) -> Iterator[ProcessGroup | None]:
    """The other ranks of ``job`` while it trains, which load ``checkpoint`` if there is one; the
    group of all. None where the run has one rank.

    Raises ``RuntimeError`` if one of them cannot start.
    """
    if job.ranks == 1:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="adamwprune-ranks-") as folder:
        store = Path(folder) / "store"
        words = {"store": str(store), "checkpoint": str(checkpoint or ""), "threads": threads}
        processes = [_started(job, {**words, "rank": rank}) for rank in range(1, job.ranks)]
        ended = threading.Event()
        try:
            for rank, process in enumerate(processes, 1):
                assert process.stdout is not None
                if process.stdout.readline().strip() != READY:
                    raise RuntimeError(f"rank {rank} {_end(process)} before it had begun")
            threading.Thread(target=_watch, args=(processes, ended), daemon=True).start()
            yield join(job.device, store, 0, job.ranks)
        except RuntimeError as error:  # of a collective, say, whose other end has gone
            time.sleep(0.1)
            for rank, process in enumerate(processes, 1):
                if process.poll():
                    raise RuntimeError(f"rank {rank} {_end(process)}: {error}") from error
            raise
        finally:
            ended.set()
            for process in processes:
                process.kill()
                process.wait()
            if dist.is_initialized():
                dist.destroy_process_group()


def join(device: str, store: Path, rank: int, ranks: int) -> ProcessGroup:
    """Become one of the ranks; returns when all have."""
    os.environ.update(_LOOPBACK)
    backend = "gloo" if device == "cpu" else "nccl"
    if device != "cpu":
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend,
        init_method=f"file://{store}",
        rank=rank,
        world_size=ranks,
        timeout=PATIENCE,
    )
    group = dist.group.WORLD
    assert group is not None
    return group


def device_of(rank: int, first: str) -> str:
    """The device of a rank, where rank 0 is on ``first``: GPUs one after the other."""
    kind, _, number = first.partition(":")
    return f"{kind}:{int(number) + rank}" if number else kind


def _started(job: Job, words: dict[str, object]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "adamwprune.run.mirror"],
        stdin=subprocess.PIPE,  # which ends with this process, and the other with it
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=subprocesses.environment(LIBRARY),
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # how it ended is seen where it is to be ready
        process.stdin.write(json.dumps({"job": job.to_json(), **words}) + "\n")
        process.stdin.flush()
    return process


def _end(process: subprocess.Popen[str]) -> str:
    """How a process ended, in words."""
    code = process.wait()
    return f"was killed by {subprocesses.signal_name(-code)}" if code < 0 else f"ended with {code}"


def _watch(processes: Sequence[subprocess.Popen[str]], ended: threading.Event) -> None:
    """End this process if another rank has ended and a collective waits for it for ever."""
    while not ended.wait(1.0):
        for rank, process in enumerate(processes, 1):
            if process.poll() and not ended.wait(GRACE):
                print(f"rank {rank} {_end(process)}", file=sys.stderr, flush=True)
                os._exit(1)
