"""Words for people: plurals, and the known name that a mistyped one resembles."""

from __future__ import annotations

import difflib
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

# What git says of a tree that another user owns, and what a user does about it.
DUBIOUS = (
    "git refuses {tree}, which another user owns (dubious ownership); "
    "git config --global --add safe.directory '{tree}' lets it"
)


def counted(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``, ``1,180 steps``; of a noun whose plural ends in s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def at_place(device: str, threads: int, ranks: int) -> str:
    """Where a run trains: ``cpu, 2 threads``; ``cuda:0, 2 ranks of 1 thread``."""
    return f"{device}, {of_ranks(counted(threads, 'thread'), ranks)}"


def of_ranks(threads: str, ranks: int) -> str:
    """``1 thread``; ``2 ranks of 1 thread``."""
    return threads if ranks == 1 else f"{ranks} ranks of {threads}"


def plain(value: object) -> str:
    """A value for people: ``100`` for 100.0, ``0.001``, ``adamw``."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def rounded(number: float) -> str:
    """Three digits, and all of a large number: ``0.0123``, ``1.1``, ``12,346``."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def nearest(word: str, known: Iterable[str]) -> str:
    """For a message about an unknown word: the nearest known one, and the way to the rest."""
    names = list(known)
    few = f" (there are: {', '.join(names)})" if len(names) <= 12 else ""
    return did_you_mean(word, names) or few


# What others call some names.
_ALSO = {"gpu": "cuda", "nvidia": "cuda", "fp32": "float32", "bf16": "bfloat16"}


def did_you_mean(word: str, names: Sequence[str]) -> str:
    """For a message about an unknown word: the nearest name; nothing where none is near."""
    meant = {_plain(word), _ALSO.get(_plain(word))}
    close = [name for name in names if _plain(name) in meant]
    close = close or [name for name in names if _plain(word) in _plain(name).split("-")]
    close = close or difflib.get_close_matches(word, names, 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _plain(word: str) -> str:
    """A word without what is easily mistaken: capitals, ``_`` for ``-``."""
    return word.lower().replace("_", "-")


_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # some take wide ones too


def cell(value: object) -> object:
    """A value for a CSV file: a text that a spreadsheet would execute gets an apostrophe in front.

    A spreadsheet takes a text that begins with ``=``, ``+``, ``-`` or ``@`` for a formula.
    """
    if not isinstance(value, str):
        return value
    begins_blank = value[:1] in ("\t", "\r", "\n")
    return f"'{value}" if begins_blank or value.lstrip().startswith(_FORMULA) else value


def wrapped(text: str, first: str, later: str) -> list[str]:
    """``text`` behind ``first``; on a terminal in lines that fit, the others behind ``later``.

    Lines break at blanks only: a name that is to be copied stays whole.
    """
    if not sys.stdout.isatty():
        return [first + text]
    width = max(shutil.get_terminal_size().columns, len(first) + 20)
    wrapper = textwrap.TextWrapper(
        width,
        initial_indent=first,
        subsequent_indent=later,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return wrapper.wrap(text) or [first]


_OWN_ERROR = re.compile(r"^adamwprune(\.\w+)+: ")


def last_line(text: str) -> str:
    """The last line of a text that is not blank: what a traceback is about. Of an error of this
    package it is what it says: where its class lives tells a user nothing.
    """
    return _OWN_ERROR.sub("", next(reversed(text.strip().splitlines()), ""))
