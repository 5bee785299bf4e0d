"""Text on its way to a terminal: nothing that a terminal would execute reaches it.

A record or a ``progress.json`` may be anybody's, and so may a file's name. Whatever a command
prints goes through :class:`Clean`, which ``run_command`` puts around both streams. Only rich's own
colours go past it, by :func:`show` and :func:`console`.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from typing import TYPE_CHECKING, Any, Optional, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_LINE_END = re.compile(r"(\r?\n)")


class Clean:
    """A text stream in which control characters, bidirectional ones too, are written as escapes."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write the text as :func:`clean` has it."""
        self.stream.write(clean(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def clean(text: str) -> str:
    """``\\x1b`` for an escape character, and so on; line ends, tabs and spaces stay."""
    if text.isprintable():
        return text
    parts = _LINE_END.split(text)
    parts[::2] = ("".join(map(_visible, part)) for part in parts[::2])
    return "".join(parts)


def _visible(character: str) -> str:
    harmless = character.isprintable() or character == "\t"
    is_space = unicodedata.category(character) == "Zs"  # which Python does not count as printable
    return character if harmless or is_space else ascii(character)[1:-1]


def raw(stream: Optional[TextIO] = None) -> TextIO:  # noqa: UP045  Python 3.8 reads this file
    """Standard output, or ``stream``, without :class:`Clean` around it."""
    found = sys.stdout if stream is None else stream
    return found.stream if isinstance(found, Clean) else found


def show(text: str) -> None:
    """Print a text that a :func:`console` has made: its control sequences are ours."""
    stream = raw()
    stream.write(f"{text}\n")


def console(**settings: Any) -> Console:
    """A rich console whose own control sequences are the only ones that it writes.

    Texts are shown as they are: no part of one is taken for markup.
    """
    from rich.console import Console

    class Own(Console):
        def render(self, *words: Any, **named: Any) -> Any:
            for segment in super().render(*words, **named):
                is_safe = segment.control or segment.text.isprintable()
                yield segment if is_safe else segment._replace(text=clean(segment.text))

    return Own(**{"file": raw(), "markup": False, "emoji": False, **settings})
