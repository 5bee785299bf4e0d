"""What every command does: its exit status, its messages, what it needs installed."""

from __future__ import annotations

import codecs
import importlib.util
import io
import sys
from collections.abc import Callable

from adamwprune.base.errors import UserError

_PLAIN = "adamwprune.base.forms"  # the error handler below
_ASCII = {"─": "-", "━": "-", "–": "-", "−": "-", "→": "->", "±": "+-", "…": "...", "×": "x"}


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that a terminal's encoding does not have: ASCII, or an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_ASCII.get(each, ascii(each)[1:-1]) for each in text), error.end


codecs.register_error(_PLAIN, _plainly)


def run_command(main: Callable[[], int]) -> None:
    """Run a command's ``main`` and exit with its status.

    A :class:`UserError` is printed as it is, status 2; Ctrl-C exits 130 as a
    shell expects; a reader that went away (``make plan | head``) is no error. What the file
    system refuses (a name that is too long, no permission) is the user's to mend, too.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what its encoding cannot say is no error
            stream.reconfigure(errors=_PLAIN)
    try:
        status = main()
        sys.stdout.flush()
    except UserError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        sys.stderr.close()
        status = 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        status = 2
    sys.exit(status)


def require(*modules: str) -> None:
    """Exit with one clear message unless this interpreter has ``modules``."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        sys.exit(
            f"error: {sys.executable} has no {', '.join(missing)}. make without VENV= creates an "
            "environment that has; .venv/bin/python (or source .venv/bin/activate) uses it"
        )
