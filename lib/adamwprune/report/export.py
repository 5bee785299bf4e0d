"""All records as one table, a row a run, for programs that read tables; see docs/records.md."""

import csv
import importlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adamwprune.base.errors import UserError
from adamwprune.base.files import refusing, write_bytes
from adamwprune.base.wording import cell, last_line
from adamwprune.records.brief import read_result
from adamwprune.records.metrics import FORMER
from adamwprune.records.published import each_published
from adamwprune.records.record import FROZEN, STALE, RunResult
from adamwprune.records.store import record_paths

RUN, PUBLISHED = "run", "published"
Row = dict[str, Any]

# There in every table, in this order; what else records hold stands at the end of its part.
COLUMNS: dict[str, tuple[str, ...]] = {
    "run": (
        *("run_id", "status", "source", "stale", "frozen"),
        *("metric", "unit", "better", "score", "measured_on", "examples"),
    ),
    "spec": (),  # whatever symbols the records have
    # What older records are judged by; that of others, in their own order, follows.
    "final": tuple(f"{part}_{m.name}" for part in ("train", "test") for m in reversed(FORMER)),
    "pruning": (
        *("method", "requested", "k", "zeros", "prunable", "parameters", "returned"),
        "mask_storage",
    ),
    "memory": (
        *("total", "weights", "gradients", "buffers", "device_peak", "device_reserved"),
        *("mask_update_transient", "mask_update_peak"),
    ),
    "seconds": ("total", "setup", "train", "evaluate"),
    "environment": (
        *("commit", "dirty", "diff", "torch", "python", "device", "device_name", "threads"),
        *("alone", "host", "os", "driver", "started", "ended", "command"),
    ),
    "code": ("digest",),
    "end": ("weights", "error"),
}
_OWN = ("run", "end")  # parts whose columns have no prefix
_LEFT_OUT = {
    *("run_id", "status", "spec", "history", "trace", "param_groups", "error", "schema"),
    *("metrics", "examples"),
}


@dataclass(frozen=True)
class Found:
    """The records that there are, and a line for each that is damaged."""

    runs: tuple[RunResult, ...]
    published: tuple[RunResult, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows by run id; ``columns`` holds every name that any row has."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def find(root: Path, published: Path) -> Found:
    """Every record below ``root``, of whatever configuration, and in ``published/*.jsonl``."""
    # What is damaged does not take the others with it.
    runs, frozen = list(map(_read, record_paths(root))), list(each_published(published))
    return Found(
        tuple(each for each in runs if isinstance(each, RunResult)),
        tuple(each for each in frozen if isinstance(each, RunResult)),
        tuple(str(each) for each in (*runs, *frozen) if isinstance(each, UserError)),
    )


def _read(path: Path | UserError) -> RunResult | UserError:
    if isinstance(path, UserError):
        return path
    try:
        record = read_result(path)
    except UserError as error:
        return error
    if record.spec.run_id == path.parent.name:
        return record
    return UserError(f"{path}: is the record of another run, {record.spec.run_id}")


# -- records → table ---------------------------------------------------------


def table(runs: Iterable[RunResult], published: Iterable[RunResult]) -> Table:
    """A row a run; a published record counts where no run was done here.

    What a record lacks is None.
    """
    rows: dict[str, Row] = {}
    for source, records in ((RUN, runs), (PUBLISHED, published)):
        for record in records:
            run_id = record.spec.run_id
            if run_id not in rows or rows[run_id]["run"]["status"] != "done":
                rows[run_id] = _row(record, source)
    columns = _columns(rows.values())
    flat = (
        {name: rows[run_id][part].get(key) for name, (part, key) in columns.items()}
        for run_id in sorted(rows)
    )
    return Table(tuple(columns), tuple(flat))


def _row(record: RunResult, source: str) -> dict[str, Row]:
    """A record's plain values by part and by name in it."""
    plain = record.to_json()
    parts: dict[str, Row] = {part: {} for part in COLUMNS}
    parts["run"] = {
        "run_id": record.spec.run_id,
        "status": record.status,
        "source": source,
        "stale": STALE in record.marks,
        "frozen": FROZEN in record.marks,
        "measured_on": record.spec.held_out,
    }
    if record.status == "done":  # the headline metric, and the score in its unit
        metric = record.headline
        parts["run"] |= {name: getattr(metric, name) for name in ("unit", "better")}
        parts["run"] |= {"metric": metric.name, "score": record.score}
        parts["run"]["examples"] = record.measured_on
    parts["spec"] = dict(record.spec.values)
    for part, value in plain.items():
        if part not in _LEFT_OUT:
            known = part in COLUMNS
            parts[part if known else "end"].update(_leaves(value, "" if known else part))
    parts["code"] = {"digest": record.code.get("digest")}  # and not those of its modules
    parts["end"]["error"] = last_line(record.error) or None
    return parts


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    """The plain values in nested mappings, by their path; lists are tables of their own."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}_{name}" if path else str(name))
    elif value is not None and not isinstance(value, list):
        yield path, value


def _columns(rows: Iterable[Mapping[str, Row]]) -> dict[str, tuple[str, str]]:
    """Column → part and name in it: known ones in their order, others by name after them."""
    rows = list(rows)
    columns = {}
    for part, known in COLUMNS.items():
        others = {name for row in rows for name in row[part]} - set(known)
        for name in (*known, *sorted(others)):
            prefix = "" if part in _OWN else f"{part}_"
            unit = "_bytes" if part == "memory" else ""
            columns[f"{prefix}{name}{unit}"] = part, name
    return columns


# -- table → files -----------------------------------------------------------


def write(table: Table, stem: Path) -> list[Path]:
    """Write ``stem.csv``, and ``stem.parquet`` where pyarrow is installed; each all at once.

    Without pyarrow an older Parquet file is removed: nothing in it would say that it is not of
    these records. Raises :class:`UserError` where that cannot be written.
    """
    written = []
    for suffix, content in ((".csv", to_csv(table)), (".parquet", to_parquet(table))):
        path = stem.with_suffix(suffix)
        with refusing(f"cannot write {path}"):
            if content is None:
                path.unlink(missing_ok=True)
                continue
            write_bytes(path, content)
            written.append(path)
    return written


def to_csv(table: Table) -> bytes:
    """RFC 4180 in UTF-8, its CRLF included: with it, every line break in a value is quoted.

    A number has all its digits; None is empty. What UTF-8 cannot hold is escaped, and no text is a
    formula to a spreadsheet (:func:`~adamwprune.base.wording.cell`).
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, table.columns, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in table.rows)
    return file.getvalue().encode("utf-8", "backslashreplace")


def to_parquet(table: Table) -> bytes | None:
    """The same table with typed columns; None where pyarrow is not installed."""
    try:
        arrow, parquet = (importlib.import_module(f"pyarrow{name}") for name in ("", ".parquet"))
    except ImportError:
        return None
    columns = {name: _uniform([row[name] for row in table.rows]) for name in table.columns}
    file = io.BytesIO()
    parquet.write_table(arrow.table(columns), file)
    return file.getvalue()


def _uniform(values: Sequence[Any]) -> list[Any]:
    """Values of one type: those of several are floats if all are numbers, and else texts."""
    types = {type(value) for value in values if value is not None}
    if len(types) < 2:
        return list(values)
    target = float if types == {int, float} else str
    return [None if value is None else target(value) for value in values]
