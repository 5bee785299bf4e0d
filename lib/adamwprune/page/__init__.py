"""``report.html``: the tables' verdicts and rows, curves and comparisons in one file.

``data`` turns records into plain values, with the statistics of the tables; ``page`` puts them,
the assets beside it and the charting library of ``vendor`` into one document.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from adamwprune.base.files import refusing, write_text
from adamwprune.page import data, html
from adamwprune.page.data import Uncounted
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult
from adamwprune.report.present import Request

FILE = "report.html"


def write(
    folder: Path,
    expected: Sequence[RunSpec],
    records: Sequence[RunResult],
    uncounted: Mapping[str, Uncounted] | None = None,
    request: Request | None = None,
    samples: Mapping[str, str] | None = None,
) -> Path:
    """Write ``report.html`` into ``folder``, all at once; its path.

    ``records`` count in every number; of ``uncounted``, by run id, is only told what they are.
    ``samples``: texts that their networks wrote, by run id.
    The same of all of these gives the same bytes, and then the file there stays as it is. Raises
    :class:`~adamwprune.base.errors.UserError` where it cannot be written, or without Bokeh.
    """
    path = folder / FILE
    plain = data.of(expected, records, uncounted or {}, request or Request(), samples or {})
    digest = html.digest(plain)
    if not html.is_there(path, digest):
        look = data.look(expected)
        content = html.render(plain, look, digest)
        with refusing(f"cannot write {path}"):
            write_text(path, content)
    return path
