"""CIFAR-10 (Krizhevsky, 2009): 50,000 + 10,000 colour images of 32x32 pixels in ten classes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adamwprune.base.kinds import Images
from adamwprune.datasets import _cifar
from adamwprune.datasets._images import ImageData

FORM = _cifar.Form(
    name="CIFAR10",
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test=("test_batch",),
    labels=b"labels",
    classes=10,
)


def kind(values: Mapping[str, Any]) -> Images:
    """Colour images of 32x32 pixels in ten classes."""
    return Images(channels=3, size=_cifar.SIZE, classes=FORM.classes)


def load(values: Mapping[str, Any], data_dir: Path) -> ImageData:
    """CIFAR-10 below ``data_dir/cifar-10-batches-py``.

    The digest is over the images, sorted by file name, and their labels: training images uint8
    ``[n, 32, 32, 3]``, training labels uint8, test images, test labels. So any copy of the same
    images counts, whatever files it comes in.
    """
    train, test = _cifar.parts(FORM, data_dir, _cifar.files(FORM, data_dir))
    whole = hashlib.sha256()
    for part in (train, test):
        whole.update(part.images.transpose(0, 2, 3, 1).tobytes())
        whole.update(part.labels.tobytes())
    digest = whole.hexdigest()[:16]
    return ImageData.of(train.tensors(), test.tensors(), FORM.classes, digest)
