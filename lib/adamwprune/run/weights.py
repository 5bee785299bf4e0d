"""A run's final weights: their file, and the digest by which its record knows them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from adamwprune.base.files import write_bytes
from adamwprune.records.store import WEIGHTS


def write(folder: Path, weights: Mapping[str, Tensor]) -> str:
    """Write a plain ``state_dict`` into the run's directory; its digest."""
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    write_bytes(folder / WEIGHTS, buffer.getvalue(), folder=False)
    return digest(weights)


def digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names and bytes of all tensors, in their order."""
    found = hashlib.sha256()
    for name, tensor in weights.items():
        found.update(name.encode())
        plain = tensor.detach().cpu().contiguous()
        found.update(plain.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()
