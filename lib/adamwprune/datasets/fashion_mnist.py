"""Fashion-MNIST (Xiao, Rasul, Vollgraf, arXiv 1708.07747): pictures of clothing, as MNIST."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adamwprune.base.kinds import Images
from adamwprune.datasets import _idx
from adamwprune.datasets._images import ImageData

SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def kind(values: Mapping[str, Any]) -> Images:
    """Grey images of 28x28 pixels in ten classes."""
    return Images(channels=1, size=28, classes=10)


def load(values: Mapping[str, Any], data_dir: Path) -> ImageData:
    """Fashion-MNIST below ``data_dir/FashionMNIST/raw``."""
    return _idx.load("FashionMNIST", data_dir, SHA256)
