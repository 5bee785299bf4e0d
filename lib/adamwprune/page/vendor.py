"""The charting library that the report carries with it: found, and never imported."""

import importlib.util
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from adamwprune.base.errors import UserError

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


def version() -> str:
    """Of the installed one; :class:`UserError` where there is none."""
    if not is_installed():
        raise UserError(f"report.html needs {PACKAGE}, which is not installed: pip install bokeh")
    return metadata.version(PACKAGE)


def library() -> Library:
    """The installed one; :class:`UserError` where there is none."""
    found = version()
    scripts = Path(str(metadata.distribution(PACKAGE).locate_file(PACKAGE)), "server/static/js")
    return Library(
        found,
        metadata.metadata(PACKAGE)["License-Expression"],
        (scripts.parents[2] / "LICENSE.txt").read_text(encoding="utf-8"),
        tuple((scripts / name).read_text(encoding="utf-8") for name in _SCRIPTS),
    )
