"""MNIST (LeCun, Cortes, Burges): 60,000 + 10,000 handwritten digits of 28x28 pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adamwprune.base.kinds import Images
from adamwprune.datasets import _idx
from adamwprune.datasets._images import ImageData

SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def kind(values: Mapping[str, Any]) -> Images:
    """Grey images of 28x28 pixels in ten classes."""
    return Images(channels=1, size=28, classes=10)


def load(values: Mapping[str, Any], data_dir: Path) -> ImageData:
    """MNIST below ``data_dir/MNIST/raw``."""
    return _idx.load("MNIST", data_dir, SHA256)
