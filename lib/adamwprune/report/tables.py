"""Results and memory as tables: one list of rows, shown as text, Markdown or CSV."""

import csv
import io
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from adamwprune.base.errors import UserError
from adamwprune.base.metrics import Metric
from adamwprune.base.wording import cell
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult
from adamwprune.report import columns, origins, owned_bytes
from adamwprune.report.columns import Column
from adamwprune.report.groups import (
    Group,
    Statistic,
    axis_name,
    noise_note,
    percent,
    score_digits,
    settings,
)
from adamwprune.report.origins import Origins
from adamwprune.report.statistics import Estimate, Interval
from adamwprune.report.sweeps import Sweep, sweeps

FORMATS = ("text", "markdown", "csv")
PLAIN_WIDTH = 100  # columns, where the output is no terminal
_IF_CONSTANT = ("target", "method", "status", "optimizer")  # go only where they say one thing
_DISPENSABLE = ("status", "target", "zeros/prunable", "s/run", "method", "optimizer")
LEADING = "*"  # after the score of the best and of those tied with it


@dataclass(frozen=True)
class ResultRow:
    """One optimizer, method and target sparsity over its seeds."""

    setting: str  # title of its table
    optimizer: str
    method: str
    target_sparsity: float  # a fraction
    axes: Mapping[str, str]  # option in which the rows of its table differ besides -> its value
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

    setting: str  # title of its table
    optimizer: str
    method: str
    axes: Mapping[str, str]  # as a result's; none where the axes cost nothing
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
        _result_row(sweep, group, group.spec.run_id in leading)
        for sweep in sweeps(settings(expected, records))
        for group in sweep.groups
    ]


def _result_row(sweep: Sweep, group: Group, leading: bool) -> ResultRow:
    first = group.done[0] if group.done else None
    return ResultRow(
        setting=sweep.title,
        optimizer=group.optimizer,
        method=group.method,
        target_sparsity=group.sparsity,
        axes=sweep.texts(group),
        n=group.n,
        expected=len(group.specs),
        status=group.status,
        metric=sweep.headline,
        digits=score_digits(sweep.groups),
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
    """A row for every optimizer and method; one a sparsity where sparsities cost differently, and
    one a value of an axis where these do.
    """
    found = sweeps(settings(expected, records))
    return [row for sweep in found for row in _memory_of(sweep)]


def _memory_of(sweep: Sweep) -> Iterator[MemoryRow]:
    methods: dict[tuple[str, str], list[Group]] = {}
    for group in sweep.groups:
        methods.setdefault((group.optimizer, group.method), []).append(group)
    apart = not all(map(_cost_the_same, methods.values()))
    cells: dict[tuple[str, ...], list[Group]] = {}
    for group in sweep.groups:
        place = sweep.texts(group).values() if apart else ()
        cells.setdefault((group.optimizer, group.method, *place), []).append(group)
    for groups in cells.values():
        axes = sweep.texts(groups[0]) if apart else {}
        yield from (replace(row, axes=axes) for row in _memory_of_cell(sweep, groups))


def _cost_the_same(groups: Sequence[Group]) -> bool:
    """Whether there are completed runs, and all have the same bytes; seeds change none."""
    costs = [owned_bytes.owners(group.done[0].memory) for group in groups if group.done]
    return bool(costs) and all(cost == costs[0] for cost in costs)


def _memory_of_cell(sweep: Sweep, groups: Sequence[Group]) -> Iterator[MemoryRow]:
    """Rows of one optimizer and method: one, or one a sparsity."""
    done, is_one = [group for group in groups if group.done], _cost_the_same(groups)
    for group in done[:1] if is_one else done or groups[:1]:
        several = tuple(run for each in done for run in each.done) if is_one else group.done
        memory = group.done[0].memory if group.done else None
        base = _dense_total(sweep, group)
        target = "" if is_one or not done else f" {percent(group.sparsity)}"
        yield MemoryRow(
            setting=sweep.title,
            optimizer=group.optimizer,
            method=group.method + target,
            axes={},
            status="done" if memory else group.status,
            owners=owned_bytes.owners(memory) if memory else {},
            pruner=owned_bytes.pruner_bytes(memory) if memory else None,
            total=memory["total"] if memory else None,
            above_dense=memory["total"] - base if memory and base is not None else None,
            runs=several or group.failed,
        )


def _dense_total(sweep: Sweep, group: Group) -> int | None:
    """Bytes of the same optimizer's dense runs in the setting that a pruned group is in."""
    if group.is_dense:
        return None
    setting = next(each for each in sweep.settings if group in each.groups)
    done = [dense for dense in setting.dense(group.optimizer) if dense.done]
    return int(done[0].done[0].memory["total"]) if done else None


# -- columns -----------------------------------------------------------------


def _result_columns(rows: Sequence[ResultRow], narrow: bool) -> Iterator[Column]:
    """Where there are intervals, a narrow table has no room for what the zeros say as well."""
    interval = any(row.interval for row in rows)
    metric = rows[0].metric  # of all: a table is of one setting
    if any(row.target_sparsity for row in rows):
        yield Column("target", _target)
    yield from _axis_columns(rows)
    yield Column(
        "n", lambda row: str(row.n) if row.n == row.expected else f"{row.n} of {row.expected}"
    )
    score = partial(_score, any(row.leading for row in rows))
    yield Column(metric.heading if metric else "result", score)
    if interval:
        yield Column("95% of mean", interval_text)
    yield Column("zeros/prunable", lambda row: f"{row.zeros:,}/{row.prunable:,}" if row.n else "")
    if not (interval and narrow):
        share = "{:.2%}".format
        yield Column(
            "sparsity", lambda row: share(row.zeros / row.prunable) if row.prunable else ""
        )
    yield Column("s/run", lambda row: f"{row.seconds:.1f}" if row.n else "")


def _axis_columns(rows: Sequence[ResultRow] | Sequence[MemoryRow]) -> Iterator[Column]:
    """A column for each option in which the rows differ besides method and target."""
    for axis in dict.fromkeys(name for row in rows for name in row.axes):
        yield Column(axis_name(axis), partial(_along, axis))


def _along(axis: str, row: Row) -> str:
    return row.axes.get(axis, "")


def _target(row: ResultRow) -> str:
    return percent(row.target_sparsity) if row.target_sparsity else ""


def _score(marked: bool, row: ResultRow) -> str:
    """``marked``: whether rows of the table have a mark, so that others keep its place free."""
    text = row.score.text(row.digits) if row.score else f"({row.status})"
    return f"{text} {LEADING if row.leading else ' '}" if marked else text


def interval_text(row: ResultRow) -> str:
    """``98.59–98.83``; empty without an interval."""
    return "–".join(f"{end:.{row.digits}f}" for end in row.interval) if row.interval else ""


def _memory_columns(rows: Sequence[MemoryRow], unit: int) -> Iterator[Column]:
    """Sizes in KiB have a decimal."""

    def size(number: int | None, sign: str = "") -> str:
        return "" if number is None else f"{number / unit:{sign},.{0 if unit == 1 else 1}f}"

    def owned(name: str, row: MemoryRow) -> str:
        return size(row.owners.get(name))

    yield from _axis_columns(rows)
    apart = (*owned_bytes.PRUNER, owned_bytes.OTHER)  # from the states, which stand before them
    names = dict.fromkeys(name for row in rows for name in row.owners if name not in apart)
    for owner in (*names, owned_bytes.OTHER):
        yield Column(owner, partial(owned, owner))
    yield Column("pruner", lambda row: size(row.pruner))
    yield Column("total", lambda row: size(row.total) or f"({row.status})")
    yield Column("above dense", lambda row: size(row.above_dense, "+"))


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
    show = _text if format == "text" else _markdown
    return "\n".join(show(title, own) for title, own in _by_setting(rows).items())


def _by_setting(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each table."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.setting, []).append(row)
    return found


def _columns(rows: Sequence[Row], unit: int, *, narrow: bool = False) -> list[Column]:
    """``unit``: bytes of one of a size. ``narrow``: without room for every column."""
    found = _origins(rows)
    memory = [row for row in rows if isinstance(row, MemoryRow)]
    results = [row for row in rows if isinstance(row, ResultRow)]
    marks_apart = not memory or (bool(found.marks) and not narrow)
    name = found.signed if marks_apart else found.label
    shown = [
        Column("optimizer", lambda row: row.optimizer, False),
        Column("method", lambda row: name(row.method, row.runs), False),
        *(_memory_columns(memory, unit) if memory else _result_columns(results, narrow)),
    ]
    return [*shown, Column("status", _status, False)] if marks_apart else shown


def _fitting(shown: list[Column], rows: Sequence[Row], width: int) -> list[Column]:
    """Without what least is lost with, as far as the rest fits: what is the same in every row and
    what follows from other columns.
    """

    def needed(columns: Sequence[Column]) -> int:
        cells = ([column.heading, *map(column.show, rows)] for column in columns)
        return sum(max(map(len, own)) for own in cells) + len(columns) - 1

    for heading in _DISPENSABLE:
        if needed(shown) <= width:
            break
        shown = [
            column
            for column in shown
            if column.heading != heading
            or (heading in _IF_CONSTANT and len({column.show(row) for row in rows}) > 1)
        ]
    return shown


def _said_once(whole: Sequence[Column], shown: Sequence[Column], row: Row) -> list[str]:
    """What columns that are left out say of every row, for the title: ``target 90%``."""
    headings = {column.heading for column in shown}
    told = {column.heading: column.show(row) for column in whole if column.heading not in headings}
    words = [told.get("optimizer", ""), told.get("method", "")]
    words += [f"target {told['target']}"] if told.get("target") else []
    words += [told["status"]] if told.get("status", "done") != "done" else []
    return [word for word in words if word]


def _status(row: Row) -> str:
    return origins.status(row.status, row.runs)


def _origins(rows: Iterable[Row]) -> Origins:
    """Of one table: what is most common there is what its other rows are told from."""
    return Origins.of(run for row in rows for run in row.runs)


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
            f"{LEADING} the best mean, and those behind it down to the first that is shown to be "
            "worse: among the optimizers without pruning, and among the pruning methods of an "
            "optimizer at one target."
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
    memory = isinstance(rows[0], MemoryRow)
    shown = _columns(rows, 1024, narrow=True)
    if not memory:
        whole, shown = shown, _fitting(shown, rows, terminal_width())
        title = ", ".join([title, *_said_once(whole, shown, rows[0])])
    if memory:
        shown = [replace(column, heading=_broken(column.heading)) for column in shown]
    console = columns.console(terminal_width(), colours=sys.stdout.isatty())
    console.print(f"{title}, sizes in KiB (1,024 bytes)" if memory else title, style="bold")
    console.print(columns.aligned(shown, rows, _colour))
    for line in captions(rows):
        console.print(line, markup=False)
    return columns.printed(console)


def terminal_width() -> int:
    """Of the terminal, or of texts that are written elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PLAIN_WIDTH


def _colour(row: Row) -> str:
    status = _status(row)
    return "" if status == "done" else "red" if "failed" in status else "yellow"


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
    shown = _columns(rows, 1)
    unit = ", sizes in bytes" if isinstance(rows[0], MemoryRow) else ""
    lines = [f"**{title}{unit}**", "", *columns.piped(shown, rows), "", *captions(rows)]
    return "\n".join(lines) + "\n"


def _csv(rows: Sequence[Row]) -> str:
    """Plain numbers: no separators, no units; empty where there is no number."""
    found = {title: _origins(own) for title, own in _by_setting(rows).items()}
    plain = [_plain(row, found[row.setting]) for row in rows]
    file = io.StringIO()
    names = dict.fromkeys(name for row in plain for name in row)
    writer = csv.DictWriter(file, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in plain)
    return file.getvalue()


def _plain(row: Row, table: Origins) -> dict[str, object]:
    origin = _plain_origins(table, row)
    if isinstance(row, ResultRow):
        return {**_plain_result(row), **origin}
    owners = {f"{name}_bytes": size for name, size in row.owners.items()}
    return {
        **{name: getattr(row, name) for name in ("setting", "optimizer", "method", "status")},
        **{name.lower(): text for name, text in row.axes.items()},
        **{f"{name}_bytes": getattr(row, name) for name in ("total", "pruner", "above_dense")},
        **origin,
        **owners,
    }


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


def _plain_result(row: ResultRow) -> dict[str, object]:
    """The columns of a value begin with its metric's name: ``accuracy_percent``."""
    cell = ("setting", "optimizer", "method", "target_sparsity", "n", "expected", "status")
    axes = {name.lower(): text for name, text in row.axes.items()}
    metric, (low, high) = row.metric, row.interval or (None, None)
    value: dict[str, object] = {}
    if metric:
        unit = "_percent" if metric.unit == "%" else ""
        value[metric.name + unit] = row.score and row.score.mean
        value[f"{metric.name}_deviation"] = row.score and row.score.deviation
        value |= {f"{metric.name}_low": low, f"{metric.name}_high": high}
    return {
        **{name: getattr(row, name) for name in cell},
        **axes,
        "metric": metric and metric.name,
        "unit": metric and metric.unit,
        "better": metric and metric.better,
        **value,
        "leading": row.leading,
        "zeros": row.zeros,
        "prunable": row.prunable,
        "seconds_per_run": row.seconds,
        "examples": row.examples,
    }
