"""The operations of a file system that several hosts share, as far as leases rest on them.

On NFS only what changes the file system is sure to meet it as it is now: a rename, a new directory,
a removal. What is looked up may be as old as the client's cache (60 s by default), except where the
client itself has changed the directory since. A file that is opened has the content of its last
close. There is no lock, and clocks differ.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from pathlib import Path

from adamwprune.base.files import read_own

MOST_REMOVALS = 100
_GONE = (errno.ESTALE,)  # a directory that another host has removed
_IN_USE = (errno.ENOTEMPTY, errno.EEXIST)


class SharedFiles:
    """A file system as one process sees it. Tests put another one in its place."""

    def names(self, folder: Path) -> list[str]:
        """The names in a directory; none where there is no directory."""
        try:
            return os.listdir(folder)  # noqa: PTH208  half the time
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, path: Path) -> bytes | None:
        """A file's content; None where there is no file."""
        try:
            return read_own(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise

    def write(self, path: Path, content: bytes) -> None:
        """Replace a file as a whole."""
        temporary = path.with_name(f".{path.name}.{unique()}")
        temporary.write_bytes(content)
        temporary.replace(path)

    def make(self, folder: Path) -> None:
        """Make a directory and those around it."""
        folder.mkdir(parents=True, exist_ok=True)

    def rename(self, old: Path, new: Path) -> bool:
        """Rename at once; False where ``old`` is not there, or ``new`` is a directory in use."""
        try:
            old.rename(new)
        except (FileNotFoundError, FileExistsError):
            return False
        except OSError as error:
            if error.errno in (*_GONE, *_IN_USE):
                return False
            raise
        return True

    def remove(self, folder: Path) -> None:
        """Remove a directory, also while another process makes files in it."""
        for _ in range(MOST_REMOVALS):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                return
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(folder))

    def refresh(self, folder: Path) -> None:
        """Change a directory, so that what is looked up there next is what is there now."""
        probe = folder / f".probe-{unique()}"
        with contextlib.suppress(FileNotFoundError):
            probe.mkdir()
            probe.rmdir()


def unique() -> str:
    """A name that no other process, on whatever host, makes too."""
    return uuid.uuid4().hex[:16]
