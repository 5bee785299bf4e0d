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
import signal
import socket
import subprocess
import sys
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
from adamwprune.pruning import ContractViolation
from adamwprune.records.code import LIBRARY

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

PATIENCE = timedelta(minutes=30)  # for one collective; a rank may evaluate or save meanwhile
GRACE = 5.0  # seconds that rank 0 has to notice by itself that another one has ended
# All ranks are on this machine; without these a library may look for it by its name.
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
READY = "ready"
# That stop a run are rank 0's affair, which needs the others to get to a checkpoint.
STOPS = (signal.SIGINT, signal.SIGTERM)


class RankEnded(RuntimeError):
    """Another rank has ended, and the training with it; ``killed``: by a signal from outside."""

    def __init__(self, rank: int, process: subprocess.Popen[str], when: str = "") -> None:
        self.killed = process.wait() == -signal.SIGKILL
        super().__init__(f"rank {rank} {_end(process)}{when}")


@contextlib.contextmanager
def others(job: Job, threads: int, checkpoint: Path | None) -> Iterator[ProcessGroup | None]:
    """The other ranks of ``job`` while it trains, which load ``checkpoint`` if there is one; the
    group of all. None where the run has one rank.

    Raises :class:`RankEnded` if one of them cannot start, or ends before the training has.
    """
    if job.ranks == 1:
        yield None
        return
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    words = {"port": port, "checkpoint": str(checkpoint or ""), "threads": threads}
    processes = [_started(job, {**words, "rank": rank}) for rank in range(1, job.ranks)]
    ended = threading.Event()
    try:
        for rank, process in enumerate(processes, 1):
            assert process.stdout is not None
            if process.stdout.readline().strip() != READY:
                raise RankEnded(rank, process, " before it had begun")
        threading.Thread(target=_watch, args=(processes, ended), daemon=True).start()
        yield join(job.device, 0, job.ranks, port, listener)
    except (RankEnded, ContractViolation):  # of these the others say the same
        raise
    except RuntimeError as error:  # of a collective, say, whose other end has gone
        time.sleep(0.1)
        for rank, process in enumerate(processes, 1):
            if process.poll():
                raise RankEnded(rank, process) from error
        raise
    finally:
        ended.set()
        for process in processes:
            process.kill()
            process.wait()
        if dist.is_initialized():
            dist.destroy_process_group()
        listener.close()


def join(
    device: str, rank: int, ranks: int, port: int, listener: socket.socket | None = None
) -> ProcessGroup:
    """Become one of the ranks; returns when all have. They meet at ``port``, where rank 0 has its
    ``listener``: one of torch's own would listen to all networks.
    """
    os.environ.update(_LOOPBACK)
    backend = "gloo" if device == "cpu" else "nccl"
    if device != "cpu":
        torch.cuda.set_device(device)
    store = dist.TCPStore(  # type: ignore[attr-defined, unused-ignore]
        "127.0.0.1",
        port,
        ranks,
        is_master=listener is not None,
        timeout=PATIENCE,
        wait_for_workers=False,
        master_listen_fd=None if listener is None else listener.detach(),
    )
    dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=PATIENCE)
    group = dist.group.WORLD
    assert group is not None
    return group


def device_of(rank: int, first: str) -> str:
    """The device of a rank, where rank 0 is on ``first``: GPUs one after the other."""
    kind, _, number = first.partition(":")
    return f"{kind}:{int(number) + rank}" if number else kind


def _started(job: Job, words: dict[str, object]) -> subprocess.Popen[str]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # which the other inherits
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "adamwprune.run.mirror"],
            stdin=subprocess.PIPE,  # which ends with this process, and the other with it
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=subprocesses.environment(LIBRARY),
            start_new_session=True,  # beyond the reach of a terminal
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
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
