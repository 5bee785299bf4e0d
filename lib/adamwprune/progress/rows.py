"""Runs in hand as lines of a table that fits any width. Texts only: nothing here is coloured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adamwprune.base.metrics import second
from adamwprune.plan.spec import RunSpec
from adamwprune.progress.eta import Estimate
from adamwprune.progress.reading import Reading

GAP = "  "
NAME = 24  # columns are left out rather than names cut to less than this
NONE = "-"
WIDEST = 14  # of a column that is named after a metric


@dataclass(frozen=True)
class Row:
    """A run in hand and its last reading, None before the first; ``age`` in seconds."""

    spec: RunSpec
    reading: Reading | None = None
    age: float | None = None
    given: str = ""  # another name than the slug

    @property
    def name(self) -> str:
        """What a person is told of the run by."""
        return self.given or self.spec.slug


@dataclass(frozen=True)
class Counts:
    """How many runs of a matrix are where."""

    done: int = 0
    failed: int = 0
    running: int = 0
    left: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in vars(self).items())


@dataclass(frozen=True)
class Column:
    """A heading, its width, and the text of a row."""

    heading: str
    width: int
    text: Callable[[Row, Reading], str]


_SPARSITY = Column("sparsity", 8, lambda row, now: _percent(now.sparsity))
_SPEED = Column("steps/s", 7, lambda row, now: _rate(now.rate))
LEFT = Column("left", 8, lambda row, now: clock(now.left / now.rate) if now.rate else NONE)
DEVICE = Column("device", 7, lambda row, now: now.device)
AGE = Column("updated", 9, lambda row, now: f"{clock(row.age)} ago" if row.age is not None else "?")


def table(
    rows: Sequence[Row], width: int, extra: Sequence[Column] = (), lines: int | None = None
) -> list[str]:
    """A heading and a line for each row, none wider than ``width``, at most ``lines`` of them.

    ``extra`` columns are shown where there is room for them beside the names in full.
    """
    columns = _fitting(rows, width, extra)
    name = max(len("run"), min(_room(columns, width), _longest(rows)))
    shown = rows
    if lines is not None and len(rows) + 1 > lines:
        shown = rows[: max(0, lines - 2)]
    heads = (f"{column.heading:>{column.width}}" for column in columns)
    found = [GAP.join([f"{'run':{name}}", *heads])]
    found += [_line(row, name, columns) for row in shown]
    if len(shown) < len(rows):
        found.append(f"... and {len(rows) - len(shown)} more")
    return [line[:width].rstrip() for line in found[:lines]]


def _room(columns: Sequence[Column], width: int) -> int:
    """What columns leave for the names."""
    return width - sum(column.width + len(GAP) for column in columns)


def _longest(rows: Sequence[Row]) -> int:
    return max((len(row.name) for row in rows), default=0)


def _fitting(rows: Sequence[Row], width: int, extra: Sequence[Column]) -> list[Column]:
    """The columns that leave room for names."""
    columns, longest = [_course(rows), *_metrics(rows), _SPARSITY, _SPEED], _longest(rows)
    for column in extra:
        if _room([*columns, column], width) >= longest:
            columns.append(column)
    while columns and _room(columns, width) < min(NAME, longest):
        columns.pop()
    return columns


def _course(rows: Sequence[Row]) -> Column:
    """The epoch in hand; of runs whose length is in steps, the steps done."""
    known = [row.reading for row in rows if row.reading]
    headings = {"epoch" if now.epochs else "step" for now in known}
    width = max([7, *(len(_at(now)) for now in known)])
    return Column(_one(headings or {"epoch"}, "course"), width, lambda row, now: _at(now))


def _at(now: Reading) -> str:
    return f"{now.epoch or NONE}/{now.epochs}" if now.epochs else f"{now.step}/{now.steps}"


def _metrics(rows: Sequence[Row]) -> list[Column]:
    """What is trained for and, after the last epoch, what runs are judged by.

    They are named after the runs' metrics, unless these are several.
    """
    known = [row.reading.metrics for row in rows if row.reading and row.reading.metrics]
    headline = _one({own[0].label for own in known}, "result")
    trained = _one({second(own).label for own in known}, "training")
    return [
        _column("training" if trained == headline else trained, lambda now: _number(now.trained)),
        _column(headline, _headline),
    ]


def _one(labels: set[str], otherwise: str) -> str:
    return labels.pop() if len(labels) == 1 else otherwise


def _column(heading: str, text: Callable[[Reading], str]) -> Column:
    heading = heading[:WIDEST]
    return Column(heading, max(8, len(heading)), lambda row, now: text(now))


def _headline(now: Reading) -> str:
    """In the unit of the heading, which a percentage does not name."""
    if now.score is None:
        return NONE
    metric = now.metrics[0]
    return f"{metric.number(now.score)}{'%' if metric.unit == '%' else ''}"


def _line(row: Row, name: int, columns: Sequence[Column]) -> str:
    label = f"{shortened(row.name, name):{name}}"
    if row.reading is None:
        return f"{label}{GAP}starting" if columns else label
    texts = (f"{column.text(row, row.reading):>{column.width}}" for column in columns)
    return GAP.join([label, *texts])


def matrix_line(counts: Counts, elapsed: float, left: Estimate | None, width: int) -> str:
    """The whole matrix on one line; where it is too long, the ETA is what stays."""
    eta = f"ETA {quantiles(left)}" if left else "ETA not known yet"
    for parts in (
        ["matrix", str(counts), f"{clock(elapsed)} elapsed", eta],
        ["matrix", str(counts), eta],
        [str(counts), eta],
        [f"{counts.running} running, {counts.left} left", eta],
        [eta],
    ):
        line = GAP.join(parts)
        if len(line) <= width:
            break
    return line[:width]


def quantiles(estimate: Estimate) -> str:
    """``12:30 (P90 14:10)``."""
    return f"{clock(estimate.p50)} (P90 {clock(estimate.p90)})"


def clock(seconds: float) -> str:
    """``0:42``, ``12:30``, ``1:02:30``."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def shortened(slug: str, width: int) -> str:
    """A slug within ``width``: what comes after its first part goes, its end tells runs apart."""
    if len(slug) <= width:
        return slug
    if width < 5:
        return slug[: max(0, width)]
    head = min(len(slug.partition("-")[0]), (width - 2) // 3)
    return f"{slug[:head]}..{slug[len(slug) - (width - 2 - head) :]}"


def printable(text: str, encoding: str | None) -> str:
    """``text`` on one line, without control characters or what ``encoding`` cannot say."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    known = encoding or "utf-8"
    return clean.encode(known, "backslashreplace").decode(known)


def _number(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.2g}"


def _percent(fraction: float | None) -> str:
    return NONE if fraction is None else f"{100 * fraction:.1f}%"


def _rate(rate: float | None) -> str:
    if rate is None:
        return NONE
    digits = 0 if rate >= 100 else 1 if rate >= 1 else 2
    return f"{rate:.{digits}f}"
