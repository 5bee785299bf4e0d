"""What every command does: its exit status, its messages, what it needs installed."""

from __future__ import annotations

import codecs
import contextlib
import importlib.util
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from adamwprune.base.errors import UserError
from adamwprune.base.subprocesses import WAITING
from adamwprune.base.terminal import Clean

_PLAIN = "adamwprune.base.forms"  # the error handler below
_ASCII = {"─": "-", "━": "-", "–": "-", "−": "-", "→": "->", "±": "+-", "…": "...", "×": "x"}
_STREAMS = ("stdin", "stdout", "stderr")  # by their number


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that a terminal's encoding does not have: ASCII, or an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_ASCII.get(each, ascii(each)[1:-1]) for each in text), error.end


codecs.register_error(_PLAIN, _plainly)


class Terminated(BaseException):
    """SIGTERM: what is open is closed, and child processes end with this one."""


def run_command(main: Callable[[], int]) -> None:
    """Run a command's ``main`` and exit with its status.

    A :class:`UserError` is printed as it is, status 2; Ctrl-C exits 130 and SIGTERM 143 as a
    shell expects; a reader that went away (``make plan | head``) is no error. What the file
    system refuses (a name that is too long, no permission) is the user's to mend, too.
    """
    os.environ.update(WAITING)  # before anything imports torch
    _open_streams()
    with _terminable():
        sys.exit(_status(main))


def _status(main: Callable[[], int]) -> int:
    try:
        status = main()
        sys.stdout.flush()
    except UserError as error:
        _complain(*(f"error: {line}" for line in str(error).splitlines()))
        status = 2
    except KeyboardInterrupt:
        _complain("interrupted")
        status = 130
    except Terminated:
        _complain("terminated")
        status = 143
    except BrokenPipeError:
        status = 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        _complain(f"error: {where}{error.strerror or error}")
        status = 2
    _drop_what_cannot_be_written()
    return status


def _complain(*lines: str) -> None:
    """Say it on standard error, if anybody reads that."""
    with contextlib.suppress(OSError):
        for line in lines:
            print(line, file=sys.stderr)


def _drop_what_cannot_be_written() -> None:
    """Python flushes both streams once more when it ends, and would complain of a closed pipe."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_streams() -> None:
    """Have standard input, output and error, and nothing on their way that a terminal executes.

    One that is closed (``>&-``, a daemon) becomes the null device. Otherwise the next file that is
    opened would take its number, and whatever a library prints would be written into that file.
    """
    for number, name in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            _open_null(number)
            stream = open(number, "r" if number == 0 else "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    for name in _STREAMS[1:]:
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):  # what its encoding cannot say is no error
            stream.reconfigure(errors=_PLAIN)
        if not isinstance(stream, Clean):
            setattr(sys, name, Clean(stream))


def _open_null(number: int) -> None:
    """Have the null device under this number, also in processes that are started."""
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    os.set_inheritable(number, True)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Inside, SIGTERM ends what is going on as Ctrl-C does, unless a command handles it itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def require(*modules: str) -> None:
    """Exit with one clear message unless this interpreter has ``modules``."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        sys.exit(
            f"error: {sys.executable} has no {', '.join(missing)}. make without VENV= creates an "
            "environment that has; .venv/bin/python (or source .venv/bin/activate) uses it"
        )
