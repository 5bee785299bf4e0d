"""Data sets that torchvision downloads where they are absent: one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from adamwprune.base.errors import UserError
from adamwprune.base.files import refusing


def ensure(
    name: str, data_dir: Path, folder: Path, files: Callable[[], bool], download: Callable[[], None]
) -> None:
    """Have the ``files`` of the data set ``name`` in ``folder``, below ``data_dir``.

    ``files`` says whether they are there. Raises :class:`UserError` where they are not and cannot
    be downloaded.
    """
    if files():
        return
    with refusing(f"cannot write to {data_dir}"), _locked(data_dir, folder):
        if not files():  # another worker may have been faster
            print(f"downloading {name} to {data_dir}", flush=True)
            with _explained(name, data_dir, folder):
                download()


@contextlib.contextmanager
def _explained(name: str, data_dir: Path, folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(": ")
        raise UserError(
            f"{name} is not in {data_dir} and cannot be downloaded ({reason}). "
            f"Set DATA_DIR (--data-dir) to a directory that holds "
            f"{folder.relative_to(data_dir)}/, or use "
            f"DATASET=mnist5k (--dataset mnist5k), which needs no download"
        ) from None


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
