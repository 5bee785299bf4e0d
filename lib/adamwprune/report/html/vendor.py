"""The charting library that the report carries with it: found, and never imported."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from adamwprune.errors import UserError

PACKAGE = "bokeh"
_SCRIPTS = ("bokeh.min.js", "bokeh-api.min.js")


@dataclass(frozen=True)
class Library:
    """BokehJS as its Python package holds it."""

    version: str
    licence: str  # its SPDX identifier
    terms: str  # the text of the licence
    scripts: tuple[str, ...]  # in the order in which they are run


def is_installed() -> bool:
    """Whether a report can be written."""
    return importlib.util.find_spec(PACKAGE) is not None


def library() -> Library:
    """The installed one; :class:`UserError` where there is none."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise UserError(f"report.html needs {PACKAGE}, which is not installed: pip install bokeh")
    folder = Path(found.origin).parent
    texts = (folder / "server" / "static" / "js" / name for name in _SCRIPTS)
    about = metadata.metadata(PACKAGE)
    return Library(
        metadata.version(PACKAGE),
        about["License-Expression"],
        (folder / "LICENSE.txt").read_text(encoding="utf-8"),
        tuple(path.read_text(encoding="utf-8") for path in texts),
    )
