"""MNIST-5k: 5,000 real MNIST digits inside the package; provenance in ``mnist5k.LICENSE``."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adamwprune.datasets import Dataset

FILE = Path(__file__).with_name("mnist5k.npz")


def load(data_dir: Path) -> Dataset:
    """The embedded digits; ``data_dir`` is not looked at."""
    content = FILE.read_bytes()
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:

        def part(name: str) -> tuple[Tensor, Tensor]:
            images = torch.from_numpy(arrays[f"{name}_images"]).unsqueeze(1)
            return images, torch.from_numpy(arrays[f"{name}_labels"]).long()

        return Dataset.of(part("train"), part("test"), 10, hashlib.sha256(content).hexdigest()[:16])
