"""All records as one table, a row a run, for programs that read tables; see docs/records.md."""

import csv
import importlib
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import IO, Any

from adamwprune.base.errors import UserError
from adamwprune.base.files import refusing, replacing
from adamwprune.base.wording import cell, last_line
from adamwprune.records.brief import read_result
from adamwprune.records.metrics import FORMER
from adamwprune.records.record import FROZEN, STALE, RunResult
from adamwprune.records.store import record_paths
from adamwprune.report.rows import Key, Row, Rows

RUN, PUBLISHED = "run", "published"
BATCH = 1_000  # rows that are written to Parquet at a time
_ARROW = {bool: "bool_", int: "int64", float: "float64", str: "string", NoneType: "null"}

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
        *("mask_storage", "mean_density"),
    ),
    "memory": (
        *("total", "weights", "gradients", "buffers", "peak", "device_peak", "device_reserved"),
        *("mask_update_transient", "mask_update_peak"),
    ),
    "seconds": ("total", "setup", "train", "evaluate"),
    "speed": ("examples", "examples_per_second", "flops_per_second", "share_of_peak"),
    "operations": (
        *("multiply_adds", "multiply_adds_left", "training_flops", "training_flops_sparse"),
    ),
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
class Table:
    """Rows by run id; ``columns`` holds every name that any row has."""

    columns: tuple[str, ...]
    rows: Collection[Row]


def each_run(root: Path) -> Iterator[RunResult | UserError]:
    """Every record below ``root``, of whatever configuration, or what is wrong with it."""
    return map(_read, record_paths(root))


def sound(found: Iterable[RunResult | UserError], problems: list[str]) -> Iterator[RunResult]:
    """The records; what is damaged is told in ``problems`` and does not take the others with it."""
    for each in found:
        if isinstance(each, UserError):
            problems.append(str(each))
        else:
            yield each


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


def table(
    runs: Iterable[RunResult], published: Iterable[RunResult], folder: Path | None = None
) -> Table:
    """A row a run; a published record counts where no run was done here.

    What a record lacks is None. One record is held at a time; of many, the rows are in a temporary
    file in ``folder``.
    """
    rows, done = Rows(folder), set()
    for source, records in ((RUN, runs), (PUBLISHED, published)):
        for record in records:
            run_id = record.spec.run_id
            if run_id not in done:
                rows.put(run_id, _row(record, source))
            if record.status == "done":
                done.add(run_id)
    rows.columns = _columns(rows.keys)
    return Table(tuple(rows.columns), rows)


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


def _columns(keys: Iterable[Key]) -> dict[str, Key]:
    """Column → part and name in it: known ones in their order, others by name after them."""
    names: dict[str, set[str]] = {part: set() for part in COLUMNS}
    for part, name in keys:
        names[part].add(name)
    columns = {}
    for part, known in COLUMNS.items():
        for name in (*known, *sorted(names[part].difference(known))):
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
    for suffix, write_rows in ((".csv", to_csv), (".parquet", _parquet_writer())):
        path = stem.with_suffix(suffix)
        with refusing(f"cannot write {path}"):
            if write_rows is None:
                path.unlink(missing_ok=True)
                continue
            with replacing(path) as file:
                write_rows(table, file)
            written.append(path)
    return written


def to_csv(table: Table, file: IO[bytes]) -> None:
    """RFC 4180 in UTF-8, its CRLF included: with it, every line break in a value is quoted.

    A number has all its digits; None is empty. What UTF-8 cannot hold is escaped, and no text is a
    formula to a spreadsheet (:func:`~adamwprune.base.wording.cell`).
    """
    text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
    writer = csv.DictWriter(text, table.columns, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in table.rows)
    text.detach()  # which would close the file


def _parquet_writer() -> Callable[[Table, IO[bytes]], None] | None:
    """What writes the same table with typed columns; None where pyarrow is not installed."""
    try:
        arrow, parquet = (importlib.import_module(f"pyarrow{name}") for name in ("", ".parquet"))
    except ImportError:
        return None

    def to_parquet(table: Table, file: IO[bytes]) -> None:
        types = _types(table)
        fields = {name: getattr(arrow, _ARROW[kind])() for name, kind in types.items()}
        schema = arrow.schema(list(fields.items()))
        with parquet.ParquetWriter(file, schema) as writer:
            rows = iter(table.rows)
            while batch := list(islice(rows, BATCH)):
                columns = {n: _uniform([row[n] for row in batch], t) for n, t in types.items()}
                writer.write_table(arrow.table(columns, schema=schema))

    return to_parquet


def _types(table: Table) -> dict[str, type]:
    """The one type of each column: of several it is a float if all are numbers, and else a text.

    An integer of more than 64 bits counts as a text: Arrow has no type for it.
    """
    found: dict[str, set[type]] = {name: set() for name in table.columns}
    for row in table.rows:
        for name, value in row.items():
            if value is not None:
                is_large = type(value) is int and value.bit_length() > 63
                found[name].add(str if is_large else type(value))
    return {name: _common(types) for name, types in found.items()}


def _common(types: set[type]) -> type:
    if len(types) < 2:
        return next(iter(types), NoneType)
    return float if types == {int, float} else str


def _uniform(values: Iterable[Any], kind: type) -> list[Any]:
    """Values of one type."""
    return [value if value is None or type(value) is kind else kind(value) for value in values]
