"""Datasets: decoded once, verified, moved to the device as a whole.

A member's module has ``kind(values) -> Kind``, which reads no file, and
``load(values, data_dir) -> Data``; the ``values`` are a run's by symbol name. Where Kconfig cannot
know what the files hold (``DATASET_MEASURED``) it has ``measure(values, data_dir) -> Measured``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from adamwprune.base import registry
from adamwprune.base.errors import UserError
from adamwprune.base.kinds import Images, Kind

registry.extend(__name__, __path__)


@dataclass(frozen=True)
class Batch:
    """Examples on their device, as a network takes them, and what is to be learnt of them."""

    inputs: Tensor  # [n, ...]
    targets: Tensor  # [n, ...]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Measured:
    """What the files of a dataset of the user's own say, read when a matrix is planned.

    ``values``: what they decide, by the names of CELL_ symbols without that prefix: TRAIN_EXAMPLES,
    DATASET_DIGEST and the member's own. ``paths``: every file and directory that was read.
    ``unused``: options of the member that mean nothing for these files, and count as their
    defaults.
    """

    values: Mapping[str, int | str]
    paths: Sequence[Path]
    unused: Sequence[str] = ()


class Data(Protocol):
    """A dataset on its device: examples to train on, and others to be judged by."""

    @property
    def kind(self) -> Kind:
        """What the examples are."""

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 over the files it came from."""

    @property
    def device(self) -> torch.device:
        """Where its batches are."""

    @property
    def examples(self) -> int:
        """How many there are to train on."""

    @property
    def measured_on(self) -> int:
        """How many :meth:`evaluation` has, as its metrics count them."""

    def batch(self, picks: Tensor) -> Batch:
        """Training examples, gathered and normalised on the device.

        ``picks``: int64 ``[n, 2]``, the number of each example, and beside it a random number
        below 2**31, the same on every device, by which the data may vary the example (crop and
        flip, where a block of text begins). It runs within a CUDA graph: nothing may be read back.
        """

    def evaluation(self) -> Iterator[Batch]:
        """All examples of the test (or validation) set, in batches of the data's own size."""

    def validating(self, examples: int) -> Data:
        """Without ``examples`` of the training set, which stand in for the test set."""

    def augmented(self, augmentation: str) -> Data:
        """With training examples varied in this way (``crop-flip``); for images only."""

    def fitted(self, takes: Kind) -> Data:
        """In the form that a model takes; :class:`UserError` where that cannot be."""

    def to(self, device: torch.device) -> Data:
        """All of it on ``device``."""


def kind(values: Mapping[str, Any]) -> Kind:
    """What the data of a run are, known without their files."""
    return cast(Kind, registry.member(__name__, values["DATASET"]).kind(values))


def measure(values: Mapping[str, Any], data_dir: Path) -> Measured:
    """What the data of a run are by their files; :class:`UserError` where these are unfit."""
    return cast(Measured, registry.member(__name__, values["DATASET"]).measure(values, data_dir))


def load(values: Mapping[str, Any], data_dir: Path) -> Data:
    """The data of a run, with its validation split; :class:`UserError` where they are not what
    Kconfig and the member's ``kind`` declare.
    """
    name = values["DATASET"]
    data = cast(Data, registry.member(__name__, name).load(values, data_dir))
    _check(name, "has {} training examples", data.examples, values["TRAIN_EXAMPLES"])
    _check(name, "its files have the digest {}", data.digest, values["DATASET_DIGEST"])
    _check(name, "gives {}", data.kind, kind(values))
    held_out = values["VALIDATION_EXAMPLES"]
    data = data.validating(held_out) if held_out else data
    if isinstance(data.kind, Images) and values["AUGMENT"] != "none":
        data = data.augmented(values["AUGMENT"])
    return data


def _check(name: str, text: str, found: object, declared: object) -> None:
    if found != declared:
        raise UserError(f"dataset {name}: {text.format(found)}, declared is {declared}")
