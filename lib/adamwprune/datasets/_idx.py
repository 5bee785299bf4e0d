"""Data sets in the IDX format of MNIST, as torchvision lays them out on disk."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adamwprune.base.errors import UserError
from adamwprune.datasets import _download
from adamwprune.datasets._images import ImageData

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def load(name: str, data_dir: Path, sha256: Mapping[str, str]) -> ImageData:
    """The four files of ``name/raw`` below ``data_dir``, plain or gzipped, downloaded if absent.

    ``sha256`` maps a file's name to the digest of its decompressed content. Raises
    :class:`UserError` for a file that is missing and cannot be downloaded, truncated or altered.
    """
    folder = data_dir / name / "raw"
    _download.ensure(
        name, data_dir, folder, lambda: _complete(folder), lambda: _fetch(name, data_dir)
    )
    whole = hashlib.sha256()
    arrays: list[Tensor] = []
    for file in FILES:
        content = _content(folder, file)
        if hashlib.sha256(content.data).hexdigest() != sha256[file]:
            raise UserError(
                f"{_path(folder, file)}: checksum mismatch, the file is damaged or another one; "
                f"remove it to download it again"
            )
        whole.update(content.data)
        arrays.append(_parse(content))
    train_images, train_labels, test_images, test_labels = arrays
    return ImageData.of(
        (train_images.unsqueeze(1), train_labels.long()),
        (test_images.unsqueeze(1), test_labels.long()),
        classes=10,
        digest=whole.hexdigest()[:16],
    )


def _complete(folder: Path) -> bool:
    return all(_path(folder, file) for file in FILES)


def _path(folder: Path, file: str) -> Path | None:
    return next((p for p in (folder / file, folder / f"{file}.gz") if p.is_file()), None)


def _content(folder: Path, file: str) -> NDArray[np.uint8]:
    path = _path(folder, file)
    if path is None:
        raise UserError(f"{folder / file}: missing")
    try:
        if path.suffix == ".gz":
            return np.frombuffer(bytearray(gzip.decompress(path.read_bytes())), np.uint8)
        return np.fromfile(path, np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _parse(content: NDArray[np.uint8]) -> Tensor:
    """IDX: two zero bytes, type 8 (uint8), number of dimensions, sizes (big-endian), data."""
    header = 4 + 4 * int(content[3])
    return torch.from_numpy(content[header:].reshape(content[4:header].view(">i4")))


def _fetch(name: str, data_dir: Path) -> None:
    import torchvision  # takes seconds to import, and is needed for nothing else

    getattr(torchvision.datasets, name)(str(data_dir), download=True)
