"""Work on several ranks, each a process that is forked from the test's."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes


def _in_ranks(
    rank: int, work: Callable[..., Any], ranks: int, folder: Path, *arguments: Any
) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), ranks)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=ranks, timeout=timedelta(minutes=5)
    )
    try:
        torch.save(work(ranks, rank, *arguments), folder / f"{rank}.pt")
        dist.barrier()  # one that ends while another still connects to it would fail the other
    finally:
        dist.destroy_process_group()


def in_ranks(work: Callable[..., Any], ranks: int, folder: Path, *arguments: Any) -> list[Any]:
    """What ``work`` returns on each of so many ranks, processes of their own."""
    folder.mkdir(exist_ok=True)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    start_processes(  # forked: importing torch would take most of the time
        _in_ranks, (work, ranks, folder, *arguments), nprocs=ranks, start_method="fork"
    )
    return [torch.load(folder / f"{rank}.pt") for rank in range(ranks)]
