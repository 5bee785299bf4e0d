"""Files are written as a whole or not at all, and the file system's errors are messages."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from adamwprune.base.errors import UserError


def write_text(path: Path, text: str, *, durable: bool = True, folder: bool = True) -> None:
    """:func:`write_bytes` of ``text`` in UTF-8."""
    write_bytes(path, text.encode(), durable=durable, folder=folder)


def write_bytes(path: Path, data: bytes, *, durable: bool = True, folder: bool = True) -> None:
    """:func:`replacing` of a file by ``data``."""
    with replacing(path, durable=durable, folder=folder) as stream:
        stream.write(data)


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True, folder: bool = True) -> Iterator[BinaryIO]:
    """Write a file so that a reader finds the old content or the new one.

    The content is on disk before it has its name, unless it need not be ``durable``. Its ``folder``
    is made where there is none, if that is wanted. Nothing is left behind where it fails; where
    the process is killed, :func:`remove_leftovers` removes what is.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    if folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as stream:  # which does not follow a link of this name
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what writes that were killed left in a directory; to be called by who writes nothing.

    A temporary file is left alone while there is another process of the number in its name.
    """
    for path in folder.glob(".*.tmp"):
        named = _TEMPORARY.fullmatch(path.name)
        if named and not _is_another(int(named[1])):
            path.unlink(missing_ok=True)


_TEMPORARY = re.compile(r"\..+\.(\d{1,9})\.tmp")


def _is_another(process: int) -> bool:
    """Whether there is a process of this number that is not this one."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def no_link(path: str, flags: int) -> int:
    """An ``opener`` of :func:`open` that refuses a link.

    What is written through one that a stranger planted would change a file elsewhere.
    """
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def open_own(path: Path, mode: str) -> TextIO:
    """Open a text file of ours; ``OSError`` where a link has its name (:func:`no_link`)."""
    return cast(TextIO, open(path, mode, encoding="utf-8", opener=no_link))


def append_line(path: Path, plain: dict[str, Any]) -> None:
    """Append one JSON line."""
    with open_own(path, "a") as stream:
        stream.write(json.dumps(plain) + "\n")


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn an error of the file system into one clear message that starts with ``what``."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{what}: {reason(error)}") from None


def reason(error: OSError) -> str:
    """What an error of the file system means, in words."""
    path = Path(os.fsdecode(error.filename)) if error.filename is not None else None
    if isinstance(error, FileExistsError) and path and path.is_symlink():
        return f"{path} is a link to {path.readlink()}, which is not there"
    if error.errno == errno.ELOOP and path and path.is_symlink():
        return f"{path} is a link to {path.readlink()}: nothing is opened through a link here"
    return error.strerror or str(error)
