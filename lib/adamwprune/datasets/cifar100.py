"""CIFAR-100 (Krizhevsky, 2009): 50,000 + 10,000 colour images of 32x32 pixels in 100 classes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adamwprune.base.errors import UserError
from adamwprune.base.kinds import Images
from adamwprune.datasets import _cifar
from adamwprune.datasets._images import ImageData

FORM = _cifar.Form(
    name="CIFAR100",
    folder="cifar-100-python",
    train=("train",),
    test=("test",),
    labels=b"fine_labels",
    classes=100,
)
MD5 = {  # as published, and as torchvision has them
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
}


def kind(values: Mapping[str, Any]) -> Images:
    """Colour images of 32x32 pixels in 100 classes."""
    return Images(channels=3, size=_cifar.SIZE, classes=FORM.classes)


def load(values: Mapping[str, Any], data_dir: Path) -> ImageData:
    """CIFAR-100 below ``data_dir/cifar-100-python``: the files as published, and no others.

    The digest is over the files' published MD5 sums, as text, that of the training set first.
    """
    contents = _cifar.files(FORM, data_dir)
    for name, declared in MD5.items():
        if hashlib.md5(contents[name], usedforsecurity=False).hexdigest() != declared:
            raise UserError(
                f"{data_dir / FORM.folder / name}: checksum mismatch, the file is damaged or "
                f"another one; remove it to download it again"
            )
    train, test = _cifar.parts(FORM, data_dir, contents)
    digest = hashlib.sha256("".join(MD5.values()).encode()).hexdigest()[:16]
    return ImageData.of(train.tensors(), test.tensors(), FORM.classes, digest)
