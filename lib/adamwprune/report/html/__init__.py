"""``report.html``: the tables' verdicts and rows, curves and comparisons in one file.

``data`` turns records into plain values, with the statistics of the tables; ``page`` puts them,
the assets beside it and the charting library of ``vendor`` into one document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from adamwprune.files import refusing, write_text
from adamwprune.record import RunResult
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
    The same of all of these gives the same bytes. Raises
    :class:`~adamwprune.errors.UserError` where it cannot be written, or without Bokeh.
    """
    content = page.render(data.of(expected, records, uncounted or {}, request or Request()))
    path = folder / FILE
    with refusing(f"cannot write {path}"):
        write_text(path, content)
    return path
