"""``report.html``: the tables' verdicts and rows, curves and comparisons in one file.

``data`` turns records into plain values, with the statistics of the tables; ``page`` puts them,
the assets beside it and the charting library of ``vendor`` into one document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from adamwprune.files import refusing, write_text
from adamwprune.record import RunResult
from adamwprune.report.groups import group_runs
from adamwprune.report.html import data, page
from adamwprune.report.html.data import Uncounted
from adamwprune.report.present import Request
from adamwprune.spec import RunSpec

FILE = "report.html"


def write(
    folder: Path,
    expected: Sequence[RunSpec],
    records: Sequence[RunResult],
    uncounted: Mapping[str, Uncounted] | None = None,
    request: Request | None = None,
) -> Path:
    """Write ``report.html`` into ``folder``, all at once; its path.

    ``records`` count in every number; of ``uncounted``, by run id, is only told what they are.
    The same of all of these gives the same bytes, and then the file there stays as it is. Raises
    :class:`~adamwprune.errors.UserError` where it cannot be written, or without Bokeh.
    """
    path = folder / FILE
    plain = data.of(expected, records, uncounted or {}, request or Request())
    digest = page.digest(plain)
    if not page.is_there(path, digest):
        look = data.look(group_runs(expected, records))
        content = page.render(plain, look, digest)
        with refusing(f"cannot write {path}"):
            write_text(path, content)
    return path
