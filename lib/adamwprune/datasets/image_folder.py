"""Images of a user's own, in a folder for each class below ``train/`` and ``test/``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adamwprune.base.files import expanded
from adamwprune.base.kinds import Images
from adamwprune.datasets import Measured
from adamwprune.datasets._decoded import Decoded, decoded
from adamwprune.datasets._images import ImageData
from adamwprune.datasets._listing import Listing, Split, listed


def kind(values: Mapping[str, Any]) -> Images:
    """Colour images of the run's size, in as many classes as there are folders."""
    return Images(3, values["IMAGE_SIZE"], values["IMAGE_FOLDER_CLASSES"])


def measure(values: Mapping[str, Any], data_dir: Path) -> Measured:
    """Number, classes and digest of the images, which are decoded for it if they were not yet."""
    listing, found = _found(values, data_dir)
    told: dict[str, int | str] = {
        "TRAIN_EXAMPLES": len(listing.train.files),
        "DATASET_DIGEST": found.digest,
        "IMAGE_FOLDER_CLASSES": len(listing.classes),
    }
    return Measured(told, [*listing.paths(), found.about])


def load(values: Mapping[str, Any], data_dir: Path) -> ImageData:
    """The images below ``data_dir/IMAGE_FOLDER``, on a CPU mapped from the cache into memory."""
    listing, found = _found(values, data_dir)
    train = _tensors(found.train, listing.train)
    test = _tensors(found.test, listing.test)
    return ImageData.of(train, test, len(listing.classes), found.digest)


def _found(values: Mapping[str, Any], data_dir: Path) -> tuple[Listing, Decoded]:
    listing = listed(data_dir / expanded(values["IMAGE_FOLDER"]))
    return listing, decoded(listing, values["IMAGE_SIZE"])


def _tensors(images: np.ndarray[Any, Any], split: Split) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(images), torch.tensor(split.labels)
