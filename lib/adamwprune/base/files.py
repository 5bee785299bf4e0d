"""Files are written as a whole or not at all, and the file system's errors are messages."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import re
import stat
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
    the process is killed, the next durable write of this file, or :func:`remove_leftovers`, removes
    what is. In a directory that is :func:`fenced` the temporary file is behind the fence.
    """
    work = _fences.get(path.parent)
    temporary = (work or path.parent) / f".{path.name}.{os.getpid()}.tmp"
    if folder and work is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    if durable and work is None:
        remove_leftovers(path.parent, path.name)
    try:
        with _new(temporary) as stream:
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _new(path: Path) -> BinaryIO:
    """A new file, in place of one that is there; a link of this name is not followed."""
    try:
        return path.open("xb")
    except FileExistsError:
        path.unlink(missing_ok=True)
        return path.open("xb")


_fences: dict[Path, Path] = {}


@contextlib.contextmanager
def fenced(folder: Path, work: Path) -> Iterator[None]:
    """Meanwhile this process replaces or removes a file of ``folder`` only by a rename out of, or
    into, the directory ``work`` on the same file system.

    Whoever removes ``work`` has this process, suspended wherever it may be, change no such file any
    more: its rename fails with ``FileNotFoundError``.
    """
    _fences[folder] = work
    try:
        yield
    finally:
        del _fences[folder]


def unlink(path: Path) -> None:
    """Remove a file or a link, if it is there."""
    work = _fences.get(path.parent)
    if work is None:
        path.unlink(missing_ok=True)
        return
    with contextlib.suppress(FileNotFoundError):
        path.replace(work / f"{path.name}.removed")


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove what writes that were killed left in a directory, all of them or those of one file.

    To be called by a process that writes nothing there now. A temporary file is left alone while
    there is another process of the number in its name.
    """
    pattern = f".{glob.escape(name)}.*.tmp" if name else ".*.tmp"
    for path in folder.glob(pattern):
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
    """An ``opener`` of :func:`open` that refuses a link, also a hard one, and what is no file.

    What is written through a link that a stranger planted would change a file elsewhere. A pipe or
    a device would wait, or give data, for ever. Nothing is truncated before that is known.
    """
    safely = (flags & ~os.O_TRUNC) | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, safely, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a pipe that nobody reads
            raise _refused(path, _NO_FILE) from None
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _refused(path, _NO_FILE)
        if flags & (os.O_WRONLY | os.O_RDWR) and found.st_nlink > 1:
            raise _refused(path, "has another name too (a hard link): it is not written to")
        if flags & os.O_TRUNC:
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


_NO_FILE = "is no regular file"


def _refused(path: str, why: str) -> OSError:
    return OSError(errno.EINVAL, why, path)


def open_own(path: Path, mode: str) -> TextIO:
    """Open a text file of ours; ``OSError`` where a link has its name (:func:`no_link`)."""
    return cast(TextIO, open(path, mode, encoding="utf-8", opener=no_link))


def read_own(path: Path) -> bytes:
    """The bytes of a file of ours; ``OSError`` as :func:`no_link` raises it."""
    with open(path, "rb", opener=no_link) as stream:
        return stream.read()


def is_there(path: Path) -> bool:
    """Whether there is something of this name; ``OSError`` where that cannot be seen.

    ``Path.exists`` takes a directory that cannot be read for one without the file.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def expanded(text: str) -> Path:
    """The path that a user means: ``~`` and ``~name`` are home directories.

    Raises :class:`UserError` where nobody has that name.
    """
    found = os.path.expanduser(text)  # noqa: PTH111  which raises another error
    if found.startswith("~"):
        raise UserError(f"{text}: {Path(found).parts[0]} has no home directory here")
    return Path(found)


def user_cache() -> Path:
    """The directory for what can be computed again, the same for all working directories."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "adamwprune"


_LFS = b"version https://git-lfs.github.com/spec/"


def obstacle(content: bytes) -> str:
    """Why a file with this content cannot be what it should be; empty where nothing is known.

    A clone without git-lfs holds pointers in place of files, and an editor may save UTF-16.
    """
    if content.startswith(_LFS):
        return "is a Git LFS pointer, not the file itself; git lfs pull fetches it"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "is UTF-16, as its byte-order mark says; save it as UTF-8"
    return ""


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
        return f"is a link to {path.readlink()}: nothing is opened through a link here"
    return error.strerror or str(error)
