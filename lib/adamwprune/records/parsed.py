"""Contents of modules that were parsed before, in the user's cache.

Parsing all modules of a run takes longer than whatever else a command does of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adamwprune.base.files import read_own, user_cache, write_text
from adamwprune.base.forms import ANY, Form, misfit
from adamwprune.records.content import Content

KEPT = 500  # modules; a run has about 70, and each that is edited comes again
FILE = "contents.json"
# A syntax tree is that of this Python, and its content follows by these two modules.
_BY = [Path(__file__).with_name(name).read_bytes() for name in ("code.py", "content.py")]
_RULES = f"{sys.version_info[:2]} {hashlib.sha256(b''.join(_BY)).hexdigest()}"
_FORM: dict[str, Form] = {
    "digest": str, "imports": [str], "used": [str], "bound": {ANY: str},
}  # fmt: skip


def key(text: bytes, package: str, files: str) -> str:
    """What the content of a module in ``package`` follows from: its text, and which ``files`` there
    are, by which a qualified name is split into module and name.
    """
    words = f"{_RULES}\0{package}\0{files}\0".encode()
    return hashlib.sha256(words + text).hexdigest()


class Parsed:
    """Contents by :func:`key`."""

    def __init__(self) -> None:
        self._known: dict[str, Content] = {}  # the newest last
        self._new: dict[str, Content] = {}

    def of(self, key: str, read: Callable[[], Content]) -> Content:
        """The content of a module, ``read`` if it is not known."""
        if key not in self._known:
            self._known = {**_load(), **self._known}
        if key not in self._known:
            self._known[key] = self._new[key] = read()
        return self._known[key]

    def save(self) -> None:
        """Keep what was read since."""
        if not self._new:
            return
        kept = list({**_load(), **self._new}.items())[-KEPT:]
        self._new = {}
        with contextlib.suppress(OSError):  # a cache saves time, and no more
            text = json.dumps({name: each.__dict__ for name, each in kept})
            write_text(user_cache() / FILE, text, durable=False)


def _load() -> dict[str, Content]:
    """What is cached; nothing of a file that is not there or is damaged."""
    try:
        plain = json.loads(read_own(user_cache() / FILE))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(plain, dict) or misfit(plain, {ANY: _FORM}) is not None:
        return {}
    return {name: _content(each) for name, each in plain.items() if each.keys() == _FORM.keys()}


def _content(plain: dict[str, Any]) -> Content:
    lists = {name: tuple(plain[name]) for name in ("imports", "used")}
    return Content(plain["digest"], **lists, bound=plain["bound"])
