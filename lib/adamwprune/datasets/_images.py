"""Datasets of labelled images, each one tensor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from adamwprune.base.errors import UserError
from adamwprune.base.kinds import Images, Kind
from adamwprune.datasets import Batch
from adamwprune.datasets._augment import crop_flip

SPLIT_SEED = 0x5EED  # of the validation split: the same for every run
COUNTED = 1000  # images at a time, whose pixels are counted
EVALUATION_BATCH = {"cpu": 1000, "cuda": 2000}  # examples: in the caches, and few launches
EVALUATION_VALUES = {"cpu": 2**22, "cuda": 2**25}  # of a batch of larger images


@dataclass(frozen=True)
class ImageData:
    """Images and labels, and the digest of the files they came from (:class:`Data`).

    Images are uint8 of shape ``[n, channels, size, size]``, labels int64 of shape ``[n]``.
    ``mean`` and ``std`` are the training images' pixel mean and population deviation by channel, on
    the scale 0..1; they normalise training and test images alike. ``augmentation`` is how training
    images are varied: ``none`` or ``crop-flip`` (:mod:`adamwprune.datasets._augment`).
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    digest: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: str = "none"
    _scale: Tensor = field(init=False, repr=False, compare=False)  # float32 [channels, 1, 1]
    _shift: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # On the device from the start: within a CUDA graph they could not be brought there.
        scale = [1 / (255 * std) for std in self.std]
        shift = [mean / std for mean, std in zip(self.mean, self.std, strict=True)]
        for name, values in (("_scale", scale), ("_shift", shift)):
            object.__setattr__(self, name, torch.tensor(values, device=self.device)[:, None, None])

    @classmethod
    def of(
        cls, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: int, digest: str
    ) -> ImageData:
        """A dataset from ``(images, labels)`` pairs; measures the training set's mean and std."""
        return cls(*train, *test, classes, digest, *_moments(train[0]))

    @property
    def kind(self) -> Images:
        """The images as they are in the tensors."""
        return Images(self.train_images.shape[1], self.train_images.shape[-1], self.classes)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.train_labels.device

    @property
    def examples(self) -> int:
        """Images to train on."""
        return len(self.train_labels)

    @property
    def measured_on(self) -> int:
        """Images of the test set."""
        return len(self.test_labels)

    def batch(self, picks: Tensor) -> Batch:
        """Training images of these numbers, varied by the numbers beside them, as normalised
        float32; and their labels.
        """
        indices, draws = picks.unbind(1)
        images = self.train_images[indices]
        if self.augmentation == "crop-flip":
            images = crop_flip(images, draws)
        return Batch(self.normalise(images), self.train_labels[indices])

    def evaluation(self) -> Iterator[Batch]:
        """The test set in its order."""
        device, values = self.device.type, self.test_images[0].numel()
        size = max(1, min(EVALUATION_BATCH[device], EVALUATION_VALUES[device] // values))
        parts = zip(self.test_images.split(size), self.test_labels.split(size), strict=True)
        return (Batch(self.normalise(images), labels) for images, labels in parts)

    def validating(self, examples: int) -> ImageData:
        """Trained on without ``examples`` of the training set, which stand in for the test set.

        Which ones does not depend on a run's seed. Pixels are normalised by what is left.
        """
        order = torch.randperm(self.examples, generator=torch.Generator().manual_seed(SPLIT_SEED))
        kept, held_out = order[examples:].sort().values, order[:examples].sort().values
        split = ImageData.of(
            (self.train_images[kept], self.train_labels[kept]),
            (self.train_images[held_out], self.train_labels[held_out]),
            self.classes,
            self.digest,
        )
        return replace(split, augmentation=self.augmentation)

    def augmented(self, augmentation: str) -> ImageData:
        """With training images varied in this way."""
        return replace(self, augmentation=augmentation)

    def fitted(self, takes: Kind) -> ImageData:
        """Images centred in a larger field of background (0) pixels, where the model takes one."""
        own = self.kind
        if (
            not isinstance(takes, Images)
            or replace(takes, size=own.size) != own
            or takes.size < own.size
        ):
            raise UserError(f"the model takes {takes}, the data are {own}")
        if takes == own:
            return self
        train, test = (
            _centred(self.train_images, takes.size),
            _centred(self.test_images, takes.size),
        )
        return replace(self, train_images=train, test_images=test)

    def to(self, device: torch.device) -> ImageData:
        """All tensors on ``device``."""
        return replace(
            self,
            train_images=self.train_images.to(device),
            train_labels=self.train_labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
        )

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images as float32 with the training set's mean 0 and deviation 1 by channel."""
        return images.float().mul_(self._scale).sub_(self._shift)


def _moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population deviation by channel, on the scale 0..1."""
    # Over the 256 levels of a channel: exact, and no float copy of all pixels.
    counts = torch.zeros(images.shape[1], 256, dtype=torch.long)
    for part in images.split(COUNTED):
        for channel, pixels in enumerate(part.unbind(1)):
            counts[channel] += torch.bincount(pixels.flatten(), minlength=256)
    levels = torch.arange(256, dtype=torch.float64) / 255
    share = counts.double() / counts.sum(1, keepdim=True)
    means = [(each * levels).sum() for each in share]
    deviations = [
        (each * (levels - mean) ** 2).sum().sqrt() for each, mean in zip(share, means, strict=True)
    ]
    if not all(deviations):
        raise UserError("the pixels of all training images are equal in one of the channels")
    return tuple(map(float, means)), tuple(map(float, deviations))


def _centred(images: Tensor, size: int) -> Tensor:
    height, width = images.shape[-2:]
    top, left = (size - height) // 2, (size - width) // 2
    field = images.new_zeros(*images.shape[:-2], size, size)
    field[..., top : top + height, left : left + width] = images
    return field
