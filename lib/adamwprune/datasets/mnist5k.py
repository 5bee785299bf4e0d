"""MNIST-5k: 5,000 real MNIST digits inside the package; provenance in ``mnist5k.LICENSE``."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adamwprune.base.kinds import Images
from adamwprune.datasets._images import ImageData

FILE = Path(__file__).with_name("mnist5k.npz")


def kind(values: Mapping[str, Any]) -> Images:
    """Grey images of 28x28 pixels in ten classes."""
    return Images(channels=1, size=28, classes=10)


def load(values: Mapping[str, Any], data_dir: Path) -> ImageData:
    """The embedded digits; ``data_dir`` is not looked at."""
    content = FILE.read_bytes()
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:

        def part(name: str) -> tuple[Tensor, Tensor]:
            images = torch.from_numpy(arrays[f"{name}_images"]).unsqueeze(1)
            return images, torch.from_numpy(arrays[f"{name}_labels"]).long()

        digest = hashlib.sha256(content).hexdigest()[:16]
        return ImageData.of(part("train"), part("test"), 10, digest)
