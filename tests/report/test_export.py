"""The export: a row a run, every value of its record verbatim, every column documented."""

import contextlib
import csv
import io
import json
import re
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adamwprune.base.errors import UserError
from adamwprune.base.wording import cell
from adamwprune.plan.spec import RunSpec
from adamwprune.records.code import Sources
from adamwprune.records.published import each_published, read_published
from adamwprune.records.record import FROZEN, STALE, RunResult
from adamwprune.report import export, rows
from adamwprune.report.export import COLUMNS, Table
from tests.support.commands import make_here
from tests.support.records import Make

TRACEBACK = "Traceback (most recent call last):\n  File …\nValueError: training diverged\n\n"


def as_file(record: RunResult, root: Path, name: str = "") -> Path:
    path = root / (name or record.run_id) / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record.to_json()), encoding="utf-8")
    return path


def read(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def in_csv(table: Table) -> bytes:
    file = io.BytesIO()
    export.to_csv(table, file)
    return file.getvalue()


def only(table: Table) -> dict[str, Any]:
    (row,) = table.rows
    return row


# -- rows --------------------------------------------------------------------


def test_a_row_holds_the_records_values(published, make):
    spec = next(s for s in published if s.slug.startswith("lenet5-mnist-adamw-movement-70"))
    record = replace(make(spec, gpu=True), code={"digest": "abcd", "modules": {"a.b": "01"}})
    row = only(export.table([record], []))
    assert (row["run_id"], row["status"], row["source"]) == (spec.run_id, "done", "run")
    for name, value in spec.values.items():
        assert row[f"spec_{name}"] == value
    assert row["final_test_accuracy"] == record.final["test_accuracy"]
    assert (row["pruning_requested"], row["pruning_k"]) == (0.7, 43_029)
    assert (row["pruning_zeros"], row["pruning_prunable"]) == (43_029, 61_470)
    assert row["memory_total_bytes"] == record.memory["total"]
    assert row["memory_optimizer_exp_avg_sq_bytes"] == 247_000
    assert row["memory_pruner_scores_bytes"] == 245_880
    assert row["memory_device_peak_bytes"] == 75_000_000 + record.memory["total"]
    assert (row["seconds_total"], row["seconds_evaluate"]) == (14.2, 1.2)
    assert (row["environment_commit"], row["environment_dirty"]) == ("0123abc", False)
    assert (row["environment_device"], row["environment_threads"]) == ("cuda:0", 2)
    assert (row["code_digest"], row["error"]) == ("abcd", None)


def test_lists_and_the_digests_of_modules_are_left_to_the_record(published, make):
    record = replace(make(published[1], gpu=True), code={"digest": "ab", "modules": {"m": "01"}})
    names = export.table([record], []).columns
    assert not [name for name in names if "modules" in name or "layers" in name or "line" in name]
    assert not [name for name in names if name.startswith(("history", "param_groups", "schema"))]


def test_nested_values_are_named_by_their_path(published, make):
    record = make(published[0])
    environment = {**record.environment, "packages": {"numpy": "2.1", "mkl": None}, "gpu": None}
    row = only(export.table([replace(record, environment=environment)], []))
    assert row["environment_packages_numpy"] == "2.1"
    assert not {"environment_packages_mkl", "environment_gpu", "environment_packages"} & set(row)


def test_a_row_says_what_its_accuracy_is_measured_on(published, make):
    held = RunSpec({**published[0].values, "VALIDATION_EXAMPLES": 5_000})
    rows = export.table([make(published[0]), make(held)], []).rows
    found = {row["run_id"]: row["measured_on"] for row in rows}
    assert found == {published[0].run_id: "test", held.run_id: "validation"}


def test_a_failed_run_has_the_last_line_of_its_error(published, make):
    failed = replace(make(published[0], status="failed"), error=TRACEBACK)
    row = only(export.table([failed], []))
    assert (row["status"], row["error"]) == ("failed", "ValueError: training diverged")
    assert row["final_test_accuracy"] is row["memory_total_bytes"] is None


def test_marks_are_columns(published, make):
    stale, frozen, plain = (
        replace(make(spec), marks=frozenset(marks))
        for spec, marks in zip(published, ({STALE}, {FROZEN}, ()), strict=False)
    )
    rows = {row["run_id"]: row for row in export.table([stale, plain], [frozen]).rows}
    told = [(rows[r.run_id]["stale"], rows[r.run_id]["frozen"]) for r in (stale, frozen, plain)]
    assert told == [(True, False), (False, True), (False, False)]


def test_a_published_record_counts_where_no_run_was_done(published, make):
    done, failed, absent = published[:3]
    runs = [make(done), make(failed, status="failed")]
    rows = {r["run_id"]: r for r in export.table(runs, map(make, (done, failed, absent))).rows}
    sources = [(rows[s.run_id]["source"], rows[s.run_id]["status"]) for s in published[:3]]
    assert sources == [("run", "done"), ("published", "done"), ("published", "done")]


def test_columns_and_rows_have_one_order(published, make):
    records = [make(spec) for spec in published]
    table = export.table(records, [])
    again = export.table(records[::-1], [])
    assert (again.columns, list(again.rows)) == (table.columns, list(table.rows))
    assert [row["run_id"] for row in table.rows] == sorted(spec.run_id for spec in published)
    assert len(table.rows) == 42
    assert table.columns[:5] == ("run_id", "status", "source", "stale", "frozen")
    specs = [name for name in table.columns if name.startswith("spec_")]
    assert specs == sorted({f"spec_{name}" for spec in published for name in spec.values})
    fixed = export.table([], []).columns
    assert [name for name in table.columns if name in fixed] == list(fixed)
    assert len(fixed) == sum(map(len, COLUMNS.values()))


# -- CSV ---------------------------------------------------------------------

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8")),
)


@given(st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=5))
def test_csv_gives_back_every_value(cells):
    names = ("plain", 'quoted ",', "broken\r\n")
    table = Table(names, tuple(dict(zip(names, row, strict=True)) for row in cells))
    found = list(csv.reader(io.StringIO(in_csv(table).decode(), newline="")))
    assert found[0] == list(names)
    for values, texts in zip(cells, found[1:], strict=True):
        assert texts == ["" if value is None else str(cell(value)) for value in values]
        for value, text in zip(values, texts, strict=True):
            if isinstance(value, float):
                assert float(text) == value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_a_records_texts_are_verbatim_but_for_an_apostrophe(
    quick: list[RunSpec], make: Make, text: str
):
    record = make(quick[0])
    odd = replace(record, environment={**record.environment, "command": text})
    (row,) = read(in_csv(export.table([odd], [])))
    assert row["environment_command"] in (text, f"'{text}")
    assert row["environment_command"].lstrip()[:1] not in ("=", "+", "-", "@")
    assert row["final_test_accuracy"] == repr(record.final["test_accuracy"])


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=cmd|' /C calc'!A1", "'=cmd|' /C calc'!A1"),
        *((f"{sign}1+1", f"'{sign}1+1") for sign in "=+-@＝"),
        ("  =1", "'  =1"),
        ("\t=1", "'\t=1"),
        ("\rx", "'\rx"),
        ("a=1", "a=1"),
        ("", ""),
        (-0.5, -0.5),
        (None, None),
    ],
)
def test_no_cell_is_a_formula_to_a_spreadsheet(value: object, written: object):
    assert cell(value) == written
    (row,) = read(in_csv(Table(("a",), ({"a": value},))))
    assert row["a"] == ("" if written is None else str(written))


def test_csv_is_rfc_4180():
    table = Table(("a", "b"), ({"a": 'say "1,2"', "b": None}, {"a": "two\nlines", "b": 0.1}))
    assert in_csv(table) == b'a,b\r\n"say ""1,2""",\r\n"two\nlines",0.1\r\n'


def test_what_utf_8_cannot_hold_is_escaped():
    assert in_csv(Table(("a",), ({"a": "\udcff"},))) == b"a\r\n\\udcff\r\n"


# -- files -------------------------------------------------------------------


@pytest.fixture
def table(quick: list[RunSpec], make: Make) -> Table:
    return export.table([make(spec) for spec in quick], [])


@pytest.fixture
def no_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not installed, whether it is or not."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)


@pytest.fixture
def pyarrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module that is called as pyarrow is and writes JSON: a line of types, and one a batch."""
    arrow, parquet = ModuleType("pyarrow"), ModuleType("pyarrow.parquet")
    for name in ("bool_", "int64", "float64", "string", "null"):
        setattr(arrow, name, lambda name=name: name)
    arrow.schema = arrow.table = lambda given, schema=None: dict(given)  # type: ignore[attr-defined]

    class Writer:
        def __init__(self, file: IO[bytes], schema: dict[str, str]) -> None:
            self.file = file
            self.write_table(schema)

        def write_table(self, plain: object) -> None:
            self.file.write(json.dumps(plain).encode() + b"\n")

    parquet.ParquetWriter = lambda *given: contextlib.nullcontext(Writer(*given))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyarrow", arrow)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", parquet)
    return


@pytest.mark.usefixtures("no_pyarrow")
def test_without_pyarrow_there_is_a_csv_and_no_older_parquet(tmp_path, table):
    (tmp_path / "export.parquet").write_text("of other records")
    assert export.write(table, tmp_path / "export") == [tmp_path / "export.csv"]
    assert [path.name for path in tmp_path.iterdir()] == ["export.csv"]
    assert len(read((tmp_path / "export.csv").read_bytes())) == 10


@pytest.mark.usefixtures("pyarrow")
def test_parquet_has_the_same_columns_each_of_one_type(tmp_path):
    mixed = Table(
        tuple("iftbnl"),
        tuple(
            dict(zip("iftbnl", row, strict=True))
            for row in ((1, 1, 1.5, True, None, 1 << 63), (None, 2.5, "word", None, None, 1))
        ),
    )
    paths = export.write(mixed, tmp_path / "export")
    assert [path.name for path in paths] == ["export.csv", "export.parquet"]
    types, columns = map(json.loads, paths[1].read_text().splitlines())
    assert types == {"i": "int64", "f": "float64", "t": "string", "b": "bool_", "n": "null",
                     "l": "string"}  # fmt: skip
    assert columns == {"i": [1, None], "f": [1.0, 2.5], "t": ["1.5", "word"], "b": [True, None],
                       "n": [None, None], "l": ["9223372036854775808", "1"]}  # fmt: skip
    assert isinstance(columns["f"][0], float)


@pytest.mark.usefixtures("pyarrow")
def test_parquet_is_written_a_batch_at_a_time(tmp_path, table, monkeypatch):
    monkeypatch.setattr(export, "BATCH", 4)
    path = export.write(table, tmp_path / "export")[1]
    _, *batches = map(json.loads, path.read_text().splitlines())
    assert [len(batch["run_id"]) for batch in batches] == [4, 4, 2]
    found = [run_id for batch in batches for run_id in batch["run_id"]]
    assert found == [row["run_id"] for row in table.rows]


def test_parquet_can_be_read_back(tmp_path, table):
    parquet = pytest.importorskip("pyarrow.parquet")
    _, path = export.write(table, tmp_path / "export")
    assert parquet.read_table(path).to_pylist() == list(table.rows)


@pytest.mark.usefixtures("no_pyarrow")
def test_a_failed_write_leaves_the_old_export(tmp_path, table, monkeypatch):
    (path,) = export.write(table, tmp_path / "export")
    before = path.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match=r"cannot write .*export\.csv: No space left on device"):
        export.write(Table(("a",), ()), tmp_path / "export")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_records_are_named_and_the_others_are_found(tmp_path, quick, make):
    good, moved, published = make(quick[0]), make(quick[1]), make(quick[2])
    as_file(good, tmp_path)
    torn = as_file(moved, tmp_path, "torn")
    torn.write_text(torn.read_text()[:100])
    elsewhere = as_file(moved, tmp_path, "elsewhere")
    folder = tmp_path / "published"
    folder.mkdir()
    lines = [b"\xff", b"[]", json.dumps(published.to_json()).encode(), b'{"schema": 99}']
    (folder / "some.jsonl").write_bytes(b"\n".join(lines))
    problems: list[str] = []
    assert list(export.sound(export.each_run(tmp_path), problems)) == [good]
    assert list(export.sound(each_published(folder), problems)) == [published]
    named = [problem.split(": ")[0] for problem in problems]
    jsonl = folder / "some.jsonl"
    assert named == [str(elsewhere), str(torn), f"{jsonl}:1", f"{jsonl}:2", f"{jsonl}:4"]
    assert f"is the record of another run, {moved.run_id}" in problems[0]
    assert "record has schema 99" in problems[4]


def test_one_record_is_held_at_a_time(tmp_path, quick, make, monkeypatch):
    """Rows beyond a few bytes are in a file here: what is held of a record is its id."""
    for spec in quick:
        as_file(make(spec), tmp_path)
    held: list[weakref.ref[RunResult]] = []
    most = 0

    def read_result(path: Path) -> RunResult:
        nonlocal most
        record = export_read(path)
        held.append(weakref.ref(record))
        most = max(most, sum(each() is not None for each in held))
        return record

    export_read = export.read_result
    expected = in_csv(export.table([make(spec) for spec in quick], []))
    monkeypatch.setattr(export, "read_result", read_result)
    monkeypatch.setattr(rows, "IN_MEMORY", 100)
    problems: list[str] = []
    found = export.sound(export.each_run(tmp_path), problems)
    table = export.table(found, [], tmp_path)
    assert len(held) == len(table.rows) == 10
    assert most <= 2, "the one that was read, and the one before"
    assert in_csv(table) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(s.run_id for s in quick)


def test_a_row_that_takes_anothers_place_leaves_no_column(quick, make):
    failed = make(quick[0], status="failed")
    odd = replace(failed, environment={**failed.environment, "odd": 1})
    assert "environment_odd" in export.table([odd], []).columns
    table = export.table([odd, make(quick[0])], [])
    assert "environment_odd" not in table.columns
    assert only(table)["status"] == "done"


@pytest.mark.slow
def test_the_command_exports_what_no_configuration_names(tmp_path, published, make):
    foreign, gone = (
        RunSpec({**published[0].values, name: value})
        for name, value in (("SEED", 77), ("OPTIMIZER", "gone"))
    )
    fresh = replace(make(foreign), code=Sources().of(foreign).to_json())
    for record in (fresh, replace(make(published[0]), run_id=gone.run_id, spec=gone)):
        as_file(record, tmp_path / "results")

    done = make_here(tmp_path, "export")
    assert (done.returncode, done.stderr) == (0, "")
    path = tmp_path / "results" / "export.csv"
    rows = {row["run_id"]: row for row in read(path.read_bytes())}
    assert f"{path}: {len(rows):,} runs, " in done.stdout
    assert (rows[foreign.run_id]["source"], rows[foreign.run_id]["spec_SEED"]) == ("run", "77")
    assert (rows[foreign.run_id]["stale"], rows[gone.run_id]["stale"]) == ("False", "True")
    assert rows[published[0].run_id]["source"] == "published"
    done = make_here(tmp_path, "export", "CONFIG=memory-comparison", "OPTIMIZER=sgd", "SEED=0 77")
    chosen = {row["run_id"] for row in read(path.read_bytes())}
    assert "14 runs; without CONFIG= and settings, all" in done.stdout
    assert foreign.run_id in chosen
    assert {rows[name]["spec_OPTIMIZER"] for name in chosen} == {"sgd"}
    assert len(chosen) == 8, "seven dense and pruned ones are published, one was done here"
    make_here(tmp_path, "export")
    damaged = tmp_path / "results" / "torn" / "result.json"
    damaged.parent.mkdir()
    damaged.write_text("{")
    done = make_here(tmp_path, "export")
    assert done.returncode == 1
    assert f"error: {damaged}: " in done.stderr
    assert {row["run_id"] for row in read(path.read_bytes())} == set(rows)


# -- documentation -----------------------------------------------------------


def documented(source_tree: Path, heading: str) -> list[str]:
    """What the first column of the section's table names."""
    text = (source_tree / "docs" / "records.md").read_text(encoding="utf-8")
    (section,) = (part for part in text.split("\n## ") if part.startswith(f"{heading}\n"))
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_every_column_is_documented(source_tree, published, make):
    names = documented(source_tree, "The export")
    assert len(names) == len(set(names))
    plain = [name for name in names if name.islower()]
    assert plain == list(export.table([], []).columns), "always there, in this order"
    for part in COLUMNS:
        own = [name for name in names if name.startswith(f"{part}_")]
        assert own == sorted(own, key=lambda name: not name.islower()), "others after these"
    patterns = [re.sub("SYMBOL|NAME", r"\\w+", name) for name in names]
    frozen = read_published(source_tree / "results" / "published")
    records = [make(spec, gpu=True) for spec in published]
    for table in (export.table(records, []), export.table([], frozen)):
        unknown = [n for n in table.columns if not any(re.fullmatch(p, n) for p in patterns)]
        assert not unknown


def test_every_field_of_a_record_is_documented(source_tree, published, make):
    assert set(make(published[0]).to_json()) <= set(documented(source_tree, "A record"))
