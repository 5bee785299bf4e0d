"""Where a run took place: code, versions, machine."""

from __future__ import annotations

import functools
import platform
import socket
import subprocess
from pathlib import Path
from typing import Any

import torch

from adamwprune.config.tree import SOURCE_TREE


def describe(device: torch.device, threads: int) -> dict[str, Any]:
    """What a record holds of the environment."""
    return {
        **commit(SOURCE_TREE),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "os": platform.platform(),
        "host": socket.gethostname(),
        "device": str(device),
        "device_name": device_name(device),
        "threads": threads,
    }


@functools.cache
def commit(tree: Path) -> dict[str, Any]:
    """The commit of the source tree and whether its code differs from it; None outside git.

    A file that git does not know counts as a difference: a new optimizer is one.
    """
    try:
        head = _git(tree, "rev-parse", "HEAD")
        changes = _git(tree, "status", "--porcelain", "--", "Kconfig", "lib", "train.py", "scripts")
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": head, "dirty": bool(changes)}


def _git(tree: Path, *arguments: str) -> str:
    command = ["git", "-C", str(tree), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def device_name(device: torch.device) -> str:
    """The model of the GPU or the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.is_file() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
