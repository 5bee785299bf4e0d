"""Data sets in the IDX format of MNIST, as torchvision lays them out on disk."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adamwprune.base.errors import UserError
from adamwprune.base.files import refusing
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
    if not _complete(folder):
        with refusing(f"cannot write to {data_dir}"), _locked(data_dir, folder):
            if not _complete(folder):  # another worker may have been faster
                _download(name, data_dir)
    whole = hashlib.sha256()
    arrays: list[Tensor] = []
    for file in FILES:
        content = _content(folder, file)
        if hashlib.sha256(content).hexdigest() != sha256[file]:
            raise UserError(
                f"{_path(folder, file)}: checksum mismatch, the file is damaged or another one; "
                f"remove it to download it again"
            )
        whole.update(content)
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


@contextlib.contextmanager
def _locked(data_dir: Path, folder: Path) -> Iterator[None]:
    """One process at a time; the lock ends with the process that holds it.

    Where that fails, the directories that were not there down to ``folder`` go again, unless
    something is in them: a ``data_dir`` may be mistyped.
    """
    lock = data_dir / ".lock"
    while True:
        made = [each for each in (folder, *folder.parents) if not each.exists()]
        data_dir.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if not (lock.exists() and os.path.samestat(os.fstat(stream.fileno()), lock.stat())):
                continue  # who held it failed, and removed it
            try:
                yield
            except BaseException:
                _remove(made, lock)
                raise
            return


def _remove(folders: list[Path], lock: Path) -> None:
    """Remove directories, innermost first, up to the first that holds more than the lock."""
    with contextlib.suppress(OSError):
        for folder in filter(Path.exists, folders):
            if list(folder.iterdir()) == [lock]:
                lock.unlink()
            folder.rmdir()


def _path(folder: Path, file: str) -> Path | None:
    return next((p for p in (folder / file, folder / f"{file}.gz") if p.is_file()), None)


def _content(folder: Path, file: str) -> bytes:
    path = _path(folder, file)
    if path is None:
        raise UserError(f"{folder / file}: missing")
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _parse(content: bytes) -> Tensor:
    """IDX: two zero bytes, type 8 (uint8), number of dimensions, sizes (big-endian), data."""
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, 4)
    data = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    return torch.from_numpy(data.reshape(shape).copy())


def _download(name: str, data_dir: Path) -> None:
    import torchvision  # takes seconds to import, and is needed for nothing else

    print(f"downloading {name} to {data_dir}", flush=True)
    try:
        getattr(torchvision.datasets, name)(str(data_dir), download=True)
    except (OSError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(": ")
        raise UserError(
            f"{name} is not in {data_dir} and cannot be downloaded ({reason}). "
            f"Set DATA_DIR (--data-dir) to a directory that holds {name}/raw/, or use "
            f"DATASET=mnist5k (--dataset mnist5k), which needs no download"
        ) from None
