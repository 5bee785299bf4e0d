"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their form for Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adamwprune.base.errors import UserError
from adamwprune.base.files import refusing
from adamwprune.datasets import _download, _pickles

SIZE = 32  # pixels


@dataclass(frozen=True)
class Form:
    """How one of the two is laid out."""

    name: str  # of torchvision's class
    folder: str  # below DATA_DIR
    train: Sequence[str]  # files
    test: Sequence[str]
    labels: bytes  # their key in a file
    classes: int


@dataclass(frozen=True)
class Part:
    """Images uint8 ``[n, 3, 32, 32]`` and labels uint8 ``[n]``, sorted by the images' file names.

    So they are the same whatever order a copy has them in.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def tensors(self) -> tuple[Tensor, Tensor]:
        """As :class:`~adamwprune.datasets._images.ImageData` takes them."""
        return torch.from_numpy(self.images), torch.from_numpy(self.labels).long()


def files(form: Form, data_dir: Path) -> dict[str, bytes]:
    """The content of the files by name, downloaded where one is absent."""
    folder, names = data_dir / form.folder, (*form.train, *form.test)
    _download.ensure(
        form.name,
        data_dir,
        folder,
        lambda: all((folder / name).is_file() for name in names),
        lambda: _fetch(form.name, data_dir),
    )
    with refusing(f"{folder} cannot be read"):
        return {name: (folder / name).read_bytes() for name in names}


def parts(form: Form, data_dir: Path, contents: Mapping[str, bytes]) -> tuple[Part, Part]:
    """The training and the test images out of these files."""
    folder = data_dir / form.folder
    train, test = (
        [_batch(form, folder / name, contents[name]) for name in names]
        for names in (form.train, form.test)
    )
    return _sorted(train), _sorted(test)


_Batch = tuple[NDArray[np.uint8], NDArray[np.uint8], list[bytes]]


def _batch(form: Form, path: Path, content: bytes) -> _Batch:
    """Images, labels and file names of one file."""
    found = _pickles.read(content, path)
    try:
        images = _pickles.array_of_bytes(found[b"data"])
        labels, names = _labels(found[form.labels], form.classes), found[b"filenames"]
        if not all(isinstance(name, bytes) for name in names):
            raise ValueError("file names that are no text")
        if not images.shape[:1] == labels.shape == (len(names),):
            raise ValueError("images, labels and file names of different number")
        return images.reshape(-1, 3, SIZE, SIZE), labels, names
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is not in the form of {form.name}: {error}") from None


def _labels(found: Any, classes: int) -> NDArray[np.uint8]:
    if not all(type(label) is int and 0 <= label < classes for label in found):
        raise ValueError(f"labels that are not 0 to {classes - 1}")
    return np.array(found, np.uint8)


def _sorted(batches: Sequence[_Batch]) -> Part:
    names = [name for batch in batches for name in batch[2]]
    order = sorted(range(len(names)), key=names.__getitem__)
    images, labels = (np.concatenate([batch[i] for batch in batches]) for i in (0, 1))
    return Part(images[order], labels[order])


def _fetch(name: str, data_dir: Path) -> None:
    """Download by torchvision's address and checksum; its class would execute the pickles."""
    import torchvision  # takes seconds to import, and is needed for nothing else

    known = getattr(torchvision.datasets, name)
    torchvision.datasets.utils.download_and_extract_archive(
        known.url, str(data_dir), filename=known.filename, md5=known.tgz_md5
    )
