"""Results and memory as tables: one list of rows, shown as text, Markdown or CSV."""

from __future__ import annotations

import csv
import io
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from rich import box
from rich.table import Table

from adamwprune.base import terminal
from adamwprune.base.errors import UserError
from adamwprune.base.metrics import Metric
from adamwprune.base.wording import cell
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult
from adamwprune.report import origins, owned_bytes
from adamwprune.report.groups import (
    Group,
    Setting,
    Statistic,
    noise_note,
    percent,
    score_digits,
    settings,
)
from adamwprune.report.origins import Origins
from adamwprune.report.statistics import Estimate, Interval

FORMATS = ("text", "markdown", "csv")
PLAIN_WIDTH = 100  # columns, where the output is no terminal
LEADING = "*"  # after the score of the best and of those tied with it


@dataclass(frozen=True)
class ResultRow:
    """One optimizer, method and target sparsity over its seeds."""

    setting: str
    optimizer: str
    method: str
    target_sparsity: float  # a fraction
    n: int  # completed runs
    expected: int  # runs the matrix asks for
    status: str  # done, missing, failed, or what is wrong with some seeds
    metric: Metric | None  # what the runs of its setting are judged by; None if none is done
    digits: int  # decimals of the scores in its table
    score: Statistic | None  # the metric's value after the last epoch, in its unit
    interval: Interval | None  # of its mean, 95%; None for one run
    leading: bool  # the best of those it is compared with, or tied with that one
    zeros: int | None  # counted among the prunable weights
    prunable: int | None
    seconds: float | None  # a run, mean
    measured_on: str  # the test set or the validation set
    examples: int | None  # that it was measured on; None where that is not known
    runs: tuple[RunResult, ...]  # completed ones; failed ones where none is


@dataclass(frozen=True)
class MemoryRow:
    """The persistent bytes of one optimizer and method at the end of training."""

    setting: str
    optimizer: str
    method: str
    status: str
    owners: dict[str, int]  # bytes by owner; empty where no run is done
    pruner: int | None  # bytes that pruning keeps: scores, kept weights and masks
    total: int | None  # bytes, as recorded
    above_dense: int | None  # bytes more than the same optimizer without pruning
    runs: tuple[RunResult, ...]  # completed ones that the row stands for; or failed ones


Row = ResultRow | MemoryRow


def result_rows(
    expected: Iterable[RunSpec],
    records: Iterable[RunResult],
    leading: Collection[str] = (),
) -> list[ResultRow]:
    """A row for every expected cell, also for those without a completed run.

    ``leading``: run ids of the first seed of those to be marked, as
    :class:`~adamwprune.report.statistics.Verdicts` has them.
    """
    return [
        _result_row(setting, group, group.spec.run_id in leading)
        for setting in settings(expected, records)
        for group in setting.groups
    ]


def _result_row(setting: Setting, group: Group, leading: bool) -> ResultRow:
    first = group.done[0] if group.done else None
    return ResultRow(
        setting=setting.title,
        optimizer=group.optimizer,
        method=group.method,
        target_sparsity=group.sparsity,
        n=group.n,
        expected=len(group.specs),
        status=group.status,
        metric=setting.headline,
        digits=score_digits(setting.groups),
        score=group.score if first else None,
        interval=Estimate.of([run.score for run in group.done]).interval if first else None,
        leading=leading,
        zeros=first.pruning["k"] if first else None,  # exactly k, whatever the seed
        prunable=first.pruning["prunable"] if first else None,
        seconds=group.statistic(lambda run: run.seconds["total"]).mean if first else None,
        measured_on=group.spec.held_out,
        examples=first.measured_on if first else None,
        runs=group.done or group.failed,
    )


def memory_rows(expected: Iterable[RunSpec], records: Iterable[RunResult]) -> list[MemoryRow]:
    """A row for every optimizer and method; one a sparsity where sparsities cost differently."""
    return [row for setting in settings(expected, records) for row in _memory_of(setting)]


def _memory_of(setting: Setting) -> Iterator[MemoryRow]:
    dense = {g.optimizer: g.done[0].memory["total"] for g in setting.dense() if g.done}
    cells: dict[tuple[str, str], list[Group]] = {}
    for group in setting.groups:
        cells.setdefault((group.optimizer, group.method), []).append(group)
    for groups in cells.values():
        done = [group for group in groups if group.done]
        costs = {_cost(group) for group in done}
        if len(costs) == 1:
            runs = tuple(run for group in done for run in group.done)
            yield _memory_row(setting, done[0], done[0].method, runs, dense)
            continue
        for group in done or groups[:1]:
            method = f"{group.method} {percent(group.sparsity)}" if done else group.method
            yield _memory_row(setting, group, method, group.done or group.failed, dense)


def _cost(group: Group) -> tuple[tuple[str, int], ...]:
    """A group's bytes by owner; the first seed's stand for all."""
    return tuple(owned_bytes.owners(group.done[0].memory).items())


def _memory_row(
    setting: Setting,
    group: Group,
    method: str,
    runs: tuple[RunResult, ...],
    dense: Mapping[str, int],
) -> MemoryRow:
    """``dense``: bytes of each optimizer without pruning."""
    optimizer = group.optimizer
    if not group.done:
        return MemoryRow(setting.title, optimizer, method, group.status, {}, None, None, None, runs)
    memory = group.done[0].memory
    compared = not group.is_dense and optimizer in dense
    return MemoryRow(
        setting=setting.title,
        optimizer=optimizer,
        method=method,
        status="done",
        owners=owned_bytes.owners(memory),
        pruner=owned_bytes.pruner_bytes(memory),
        total=memory["total"],
        above_dense=memory["total"] - dense[optimizer] if compared else None,
        runs=runs,
    )


# -- columns -----------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A column for people: heading, what a row shows there, and whether it is a number."""

    heading: str
    show: Callable[[Any], str]  # of the one kind of row that the table has
    number: bool = True


_STATUS = Column("status", lambda row: origins.status(row.status, row.runs), False)
_CELL = (
    Column("target", lambda row: percent(row.target_sparsity) if row.target_sparsity else ""),
    Column("n", lambda row: str(row.n) if row.n == row.expected else f"{row.n} of {row.expected}"),
)
_ZEROS = Column("zeros/prunable", lambda row: f"{row.zeros:,}/{row.prunable:,}" if row.n else "")
_SPARSITY = Column(
    "sparsity", lambda row: f"{100 * row.zeros / row.prunable:.2f}%" if row.prunable else ""
)
_SECONDS = Column("s/run", lambda row: f"{row.seconds:.1f}" if row.n else "")


def _result_columns(rows: Sequence[ResultRow], narrow: bool) -> Iterator[Column]:
    """Where there are intervals, a narrow table has no room for what the zeros say as well."""
    interval = any(row.interval for row in rows)
    metric = rows[0].metric  # of all: a table is of one setting
    heading = metric.heading if metric else "result"
    yield from _CELL
    yield Column(heading, partial(_score, any(row.leading for row in rows)))
    if interval:
        yield Column("95% of mean", interval_text)
    yield _ZEROS
    if not (interval and narrow):
        yield _SPARSITY
    yield _SECONDS


def _score(marked: bool, row: ResultRow) -> str:
    """``marked``: whether rows of the table have a mark, so that others keep its place free."""
    text = row.score.text(row.digits) if row.score else f"({row.status})"
    return f"{text} {LEADING if row.leading else ' '}" if marked else text


def interval_text(row: ResultRow) -> str:
    """``98.59–98.83``; empty without an interval."""
    return "–".join(f"{end:.{row.digits}f}" for end in row.interval) if row.interval else ""


def _memory_columns(rows: Sequence[MemoryRow], size: Callable[[float], str]) -> Iterator[Column]:
    for name in _owner_names(rows):
        if name not in owned_bytes.PRUNER:
            yield Column(name, partial(_owned, name, size))
    yield Column("pruner", lambda row: "" if row.pruner is None else size(row.pruner))
    yield Column("total", lambda row: f"({row.status})" if row.total is None else size(row.total))
    yield Column("above dense", partial(_above, size))


def _owned(name: str, size: Callable[[float], str], row: MemoryRow) -> str:
    return size(row.owners[name]) if name in row.owners else ""


def _above(size: Callable[[float], str], row: MemoryRow) -> str:
    if row.above_dense is None:
        return ""
    return f"{'-' if row.above_dense < 0 else '+'}{size(abs(row.above_dense))}"


def _owner_names(rows: Sequence[MemoryRow]) -> list[str]:
    """All owners that any row has; states stand before ``other``."""
    names = dict.fromkeys(name for row in rows for name in row.owners if name != owned_bytes.OTHER)
    return [*names, owned_bytes.OTHER]


# -- rendering ---------------------------------------------------------------


def render(rows: Sequence[Row], format: str) -> str:
    """The rows as ``text`` (KiB), ``markdown`` (bytes) or ``csv`` (bytes, no captions).

    Text is as wide as the terminal, 100 columns where there is none. Raises
    :class:`UserError` for another format.
    """
    if format not in FORMATS:
        raise UserError(f"no table format {format!r}; there are {', '.join(FORMATS)}")
    if not rows:
        return "" if format == "csv" else "No runs are expected.\n"
    if format == "csv":
        return _csv(rows)
    titles = _titles(rows)
    show = _text if format == "text" else _markdown
    return "\n".join(show(title, [r for r in rows if r.setting == title]) for title in titles)


def _titles(rows: Sequence[Row]) -> list[str]:
    """Of the tables that the rows make."""
    return list(dict.fromkeys(row.setting for row in rows))


def _columns(
    rows: Sequence[Row], size: Callable[[float], str], *, narrow: bool = False
) -> list[Column]:
    """``size``: how to write a number of bytes. ``narrow``: without room for every column."""
    found = _origins(rows)
    memory = [row for row in rows if isinstance(row, MemoryRow)]
    results = [row for row in rows if isinstance(row, ResultRow)]
    marks_apart = not memory or (bool(found.marks) and not narrow)
    show = partial(_signed if marks_apart else _labelled, found)
    columns = [
        Column("optimizer", lambda row: row.optimizer, False),
        Column("method", show, False),
        *(_memory_columns(memory, size) if memory else _result_columns(results, narrow)),
    ]
    return [*columns, _STATUS] if marks_apart else columns


def _origins(rows: Iterable[Row]) -> Origins:
    """Of one table: what is most common there is what its other rows are told from."""
    return Origins.of(run for row in rows for run in row.runs)


def _signed(found: Origins, row: Row) -> str:
    return found.signed(row.method, row.runs)


def _labelled(found: Origins, row: Row) -> str:
    return found.label(row.method, row.runs)


def captions(rows: Sequence[Row]) -> list[str]:
    """What must be known to read one table: units, noise, what is compared with what, origins."""
    results = [row for row in rows if isinstance(row, ResultRow)]
    memory = [row for row in rows if isinstance(row, MemoryRow)]
    own = _result_captions(results) if results else _memory_captions(memory)
    return [*own, *_origins(rows).captions(seconds=bool(results))]


def _result_captions(rows: Sequence[ResultRow]) -> list[str]:
    metric, kind = rows[0].metric, rows[0].measured_on
    name = metric.label.capitalize() if metric else "Result"
    direction = f", {metric.direction}" if metric and metric.direction else ""
    lines = [
        f"{name}: {kind} set, after the last epoch, mean ± standard deviation "
        f"over n seeds{direction}. s/run: "
        "wall clock, not a timing: other runs and other work may have shared the machine."
    ]
    single = [row for row in rows if row.n == 1]
    if single:
        scores = [row.score.mean for row in single if row.score]
        note = noise_note(scores, metric, single[0].examples, kind) if metric else ""
        lines.append(f"n = 1: no spread{'; ' + note if note else ''}.")
    if any(row.interval for row in rows):
        lines.append("95% of mean: Student's t, over seeds.")
    if any(row.leading for row in rows):
        lines.append(
            f"{LEADING} the best mean, or tied with it: among the optimizers without pruning, and "
            "among the pruning methods of an optimizer at one target."
        )
    return lines


def _memory_captions(rows: Sequence[MemoryRow]) -> list[str]:
    lines = [
        "Bytes of the tensors that are there after the last step; pruned weights are stored as "
        f"zeros and save none. Pruner: scores, kept weights and masks. Other: "
        f"{owned_bytes.OTHER_MEANS}. Above dense: against the same optimizer without pruning."
    ]
    if any(row.method.startswith("state") for row in rows):
        lines.append(owned_bytes.STATE_CAVEAT)
    return lines


def _text(title: str, rows: Sequence[Row]) -> str:
    width = terminal_width()
    memory = isinstance(rows[0], MemoryRow)
    columns = _columns(rows, owned_bytes.kib, narrow=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.number else "left"
        heading = _broken(column.heading) if memory else column.heading
        table.add_column(heading, justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(column.show(row) for column in columns), style=_colour(row))
    file = io.StringIO()
    console = terminal.console(
        file=file, width=width, force_terminal=sys.stdout.isatty(), highlight=False
    )
    console.print(f"{title}, sizes in KiB (1,024 bytes)" if memory else title, style="bold")
    console.print(table)
    for line in captions(rows):
        console.print(line)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def terminal_width() -> int:
    """Of the terminal, or of texts that are written elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PLAIN_WIDTH


def _colour(row: Row) -> str:
    status = origins.status(row.status, row.runs)
    if status == "done":
        return ""
    return "red" if "failed" in status else "yellow"


def _broken(heading: str) -> str:
    """A state's name over several short lines: ``max_exp_avg_sq`` → max_ / exp_ / avg_sq."""
    lines = [""]
    for word in heading.replace("gradients", "grads").replace("_", "_ ").split():
        joined = lines[-1] + word
        if lines[-1] and len(joined) > 6:
            lines.append(word)
        else:
            lines[-1] = joined
    return "\n".join(lines)


def _markdown(title: str, rows: Sequence[Row]) -> str:
    columns = _columns(rows, lambda size: f"{size:,.0f}")
    unit = ", sizes in bytes" if isinstance(rows[0], MemoryRow) else ""
    lines = [
        f"**{title}{unit}**",
        "",
        _piped([column.heading for column in columns]),
        _piped(["---:" if column.number else "---" for column in columns]),
        *(_piped([column.show(row) for column in columns]) for row in rows),
        "",
        *captions(rows),
    ]
    return "\n".join(lines) + "\n"


def _piped(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _csv(rows: Sequence[Row]) -> str:
    """Plain numbers: no separators, no units; empty where there is no number."""
    tables = {title: _origins(r for r in rows if r.setting == title) for title in _titles(rows)}
    plain = [
        {**_plain(row), **_plain_origins(tables[row.setting], row), **_plain_owners(row)}
        for row in rows
    ]
    names = dict.fromkeys(name for row in plain for name in row)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in plain)
    return file.getvalue()


def _plain(row: Row) -> dict[str, object]:
    return _plain_memory(row) if isinstance(row, MemoryRow) else _plain_result(row)


def _plain_origins(table: Origins, row: Row) -> dict[str, object]:
    """Runs with each mark, each place once, and runs at another place than most of the table."""
    marks = origins.count_marks(row.runs)
    places = [origins.Place.of(run) for run in row.runs if run.status == "done"]
    return {
        **{name: marks.get(name, 0) for name in origins.MEANS},
        **{
            name: "; ".join(dict.fromkeys(getattr(place, name) for place in places))
            for name in ("device", "device_name", "threads", "torch")
        },
        "elsewhere": table.elsewhere(row.runs),
    }


def _plain_owners(row: Row) -> dict[str, int]:
    owners = row.owners if isinstance(row, MemoryRow) else {}
    return {f"{name}_bytes": size for name, size in owners.items()}


def _plain_result(row: ResultRow) -> dict[str, object]:
    """The columns of a value begin with its metric's name: ``accuracy_percent``."""
    return {
        "setting": row.setting,
        "optimizer": row.optimizer,
        "method": row.method,
        "target_sparsity": row.target_sparsity,
        "n": row.n,
        "expected": row.expected,
        "status": row.status,
        "metric": row.metric.name if row.metric else None,
        "unit": row.metric.unit if row.metric else None,
        "better": row.metric.better if row.metric else None,
        **(_plain_score(row.metric, row) if row.metric else {}),
        "leading": row.leading,
        "zeros": row.zeros,
        "prunable": row.prunable,
        "seconds_per_run": row.seconds,
        "examples": row.examples,
    }


def _plain_score(metric: Metric, row: ResultRow) -> dict[str, object]:
    low, high = row.interval or (None, None)
    return {
        f"{metric.name}_percent" if metric.unit == "%" else metric.name: (
            row.score.mean if row.score else None
        ),
        f"{metric.name}_deviation": row.score.deviation if row.score else None,
        f"{metric.name}_low": low,
        f"{metric.name}_high": high,
    }


def _plain_memory(row: MemoryRow) -> dict[str, object]:
    return {
        "setting": row.setting,
        "optimizer": row.optimizer,
        "method": row.method,
        "status": row.status,
        "total_bytes": row.total,
        "pruner_bytes": row.pruner,
        "above_dense_bytes": row.above_dense,
    }
