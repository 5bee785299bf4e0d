"""matplotlib as it comes, whatever its user has set: import this before anything of it.

A figure is a function of its records. ``MPLBACKEND`` (a notebook sets it), a ``matplotlibrc`` here
or at home, and style files change none; a broken one of them stops no command.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def _without_settings() -> Iterator[None]:
    """An environment in which matplotlib finds no settings of a user's.

    Its cache of fonts, which takes a second to make, stays where it is.
    """
    with tempfile.TemporaryDirectory() as empty, contextlib.ExitStack() as stack:
        theirs = os.environ.get("MPLCONFIGDIR")  # both for settings and for the cache
        settings = {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull, "XDG_CONFIG_HOME": empty}
        settings |= {"XDG_CACHE_HOME": theirs} if theirs else {}
        before = {name: os.environ.get(name) for name in (*settings, "MPLCONFIGDIR")}
        stack.callback(_restore, before)
        os.environ.update(settings)
        os.environ.pop("MPLCONFIGDIR", None)
        if Path("matplotlibrc").exists():  # it is read before all others
            stack.enter_context(contextlib.chdir(empty))
        yield


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


with _without_settings():
    for _name in ("matplotlib.style", "matplotlib.font_manager"):
        importlib.import_module(_name)
