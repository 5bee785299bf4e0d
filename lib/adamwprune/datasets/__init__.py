"""Datasets, each one tensor: decoded once, verified, moved to the device as a whole.

A member's module has ``load(data_dir: Path) -> Dataset``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from adamwprune.base import registry
from adamwprune.base.errors import UserError

registry.extend(__name__, __path__)

SPLIT_SEED = 0x5EED  # of the validation split: the same for every run


@dataclass(frozen=True)
class Dataset:
    """Images and labels of a classification task, and the digest of the files they came from.

    Images are uint8 of shape ``[n, channels, height, width]``, labels int64 of shape ``[n]``.
    ``mean`` and ``std`` are the training images' pixel mean and population deviation on the scale
    0..1; they normalise training and test images alike.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    digest: str
    mean: float
    std: float

    @classmethod
    def of(
        cls, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: int, digest: str
    ) -> Dataset:
        """A data set from ``(images, labels)`` pairs; measures the training set's mean and std."""
        # Moments over the 256 grey levels: exact, and no float copy of all pixels.
        counts = torch.bincount(train[0].flatten(), minlength=256).double()
        levels = torch.arange(256, dtype=torch.float64) / 255
        share = counts / counts.sum()
        mean = (share * levels).sum()
        std = (share * (levels - mean) ** 2).sum().sqrt()
        return cls(*train, *test, classes, digest, float(mean), float(std))

    def validating(self, examples: int) -> Dataset:
        """Trained on without ``examples`` of the training set, which stand in for the test set.

        Which ones does not depend on a run's seed. Pixels are normalised by what is left.
        """
        order = torch.randperm(
            len(self.train_labels), generator=torch.Generator().manual_seed(SPLIT_SEED)
        )
        kept, held_out = order[examples:].sort().values, order[:examples].sort().values
        return Dataset.of(
            (self.train_images[kept], self.train_labels[kept]),
            (self.train_images[held_out], self.train_labels[held_out]),
            self.classes,
            self.digest,
        )

    def padded(self, size: int) -> Dataset:
        """Images centred in a field of ``size`` x ``size`` background (0) pixels."""
        return replace(
            self,
            train_images=_centred(self.train_images, size),
            test_images=_centred(self.test_images, size),
        )

    def to(self, device: torch.device) -> Dataset:
        """All tensors on ``device``."""
        return replace(
            self,
            train_images=self.train_images.to(device),
            train_labels=self.train_labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
        )

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images as float32 with the training set's mean 0 and deviation 1."""
        return images.float().mul_(1 / (255 * self.std)).sub_(self.mean / self.std)


def load(name: str, data_dir: Path, digest: str) -> Dataset:
    """The data set ``name``; :class:`UserError` if its files do not have the declared digest."""
    dataset = cast(Dataset, registry.member(__name__, name).load(data_dir))
    if dataset.digest != digest:
        raise UserError(
            f"dataset {name}: its files have the digest {dataset.digest}, declared is {digest}"
        )
    return dataset


def _centred(images: Tensor, size: int) -> Tensor:
    height, width = images.shape[-2:]
    top, left = (size - height) // 2, (size - width) // 2
    field = images.new_zeros(*images.shape[:-2], size, size)
    field[..., top : top + height, left : left + width] = images
    return field
