"""Tables: every expected cell is a row, and the numbers are the records'."""

import csv
import io

import pytest

from adamwprune.base.errors import UserError
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import FROZEN, STALE, RunResult
from adamwprune.report.tables import PLAIN_WIDTH, memory_rows, render, result_rows
from tests.support.records import Make, elsewhere, expand, marked

H100 = {"device": "cuda:1", "device_name": "NVIDIA H100", "threads": 8}


@pytest.fixture(scope="module")
def records(published: list[RunSpec], make: Make) -> list[RunResult]:
    return [make(spec) for spec in published]


def test_every_cell_is_a_row_with_its_records_numbers(published, records):
    rows = result_rows(published, records)
    assert len(rows) == 42
    for row, record in zip(rows, records, strict=True):
        assert row.score.mean == pytest.approx(100 * record.final["test_accuracy"])
        assert (row.zeros, row.prunable) == (record.pruning["zeros"], 61_470)
        assert (row.n, row.status, row.seconds) == (1, "done", 14.2)


def test_missing_and_failed_cells_have_no_numbers(published, make):
    rows = result_rows(published[:3], [make(published[0]), make(published[1], status="failed")])
    assert [row.status for row in rows] == ["done", "failed", "missing"]
    assert [(row.score, row.zeros, row.seconds) for row in rows[1:]] == [(None, None, None)] * 2
    text = render(rows, "text")
    assert "(failed)" in text
    assert "(missing)" in text
    assert "0 of 1" in text
    assert "(failed)" in render(rows, "markdown")
    plain = list(csv.DictReader(io.StringIO(render(rows, "csv"))))
    assert [row["accuracy_percent"] for row in plain[1:]] == ["", ""]


def test_seeds_give_mean_and_deviation(make):
    specs = expand("adamw-magnitude-90", SEED="0 1 2")
    (row,) = result_rows(specs, [make(spec) for spec in specs])
    assert row.n == row.expected == 3
    text = render([row], "text")
    assert f"{row.score.mean:.2f} ± {row.score.deviation:.2f}" in text
    assert "n = 1" not in text


def test_single_runs_carry_the_noise_of_their_test_set(published, records, quick, make):
    assert "differences under 0.3 points on 10,000 test examples are noise" in render(
        result_rows(published, records), "text"
    )
    rows = result_rows(quick, [make(spec) for spec in quick])
    assert "on 1,000 test examples are noise" in render(rows, "markdown")


def test_no_table_names_a_winner(published, records):
    for rows in (result_rows(published, records), memory_rows(published, records)):
        text = render(rows, "text").lower()
        assert not any(word in text for word in ("best", "win", "better", "superior"))


def test_memory_adds_up_to_the_records_total(published, records):
    rows = memory_rows(published, records)
    assert len(rows) == 18  # six optimizers: dense, magnitude, movement or state
    for row in rows:
        assert sum(row.owners.values()) == row.total
    totals = {record.memory["total"] for record in records}
    assert {row.total for row in rows} == totals


def test_memory_shows_the_third_state_of_amsgrad(published, records):
    rows = {(row.optimizer, row.method): row for row in memory_rows(published, records)}
    state = rows["adamwprune", "state (precond)"]
    assert state.owners["max_exp_avg_sq"] == 247_000
    assert state.pruner == state.above_dense == 0
    assert "max_exp_avg_sq" not in rows["adamw", "dense"].owners
    assert state.total - rows["adamw", "dense"].total == 247_000
    assert rows["adamw", "magnitude"].above_dense == 61_470
    assert rows["adamw", "movement"].above_dense == 2 * 245_880 + 61_470
    assert rows["adamw", "dense"].above_dense is None


def test_memory_of_runs_that_are_not_there(published, make):
    dense, pruned = published[0], published[1]
    (row,) = memory_rows([pruned], [])
    assert (row.status, row.total, row.pruner, row.owners) == ("missing", None, None, {})
    rows = memory_rows([dense, pruned], [make(dense, status="failed"), make(pruned)])
    assert (rows[0].status, rows[1].status) == ("failed", "done")
    assert rows[1].above_dense is None
    assert "(failed)" in render(rows, "text")


def test_sparsities_that_cost_differently_are_rows_of_their_own(published, make):
    specs = [spec for spec in published if spec.slug.startswith("lenet5-mnist-sgd-magnitude")]
    records = [make(spec) for spec in specs]
    assert [row.method for row in memory_rows(specs, records)] == ["magnitude"]
    records[0].memory["pruner"]["masks"] += 8
    records[0].memory["total"] += 8
    rows = memory_rows(specs, records)
    assert [row.method for row in rows] == ["magnitude 50%", "magnitude 70%", "magnitude 90%"]


def test_the_caveat_of_state_pruning_is_said(published, records):
    assert "the scores and the kept weights of movement pruning" in render(
        memory_rows(published, records), "markdown"
    )


@pytest.mark.parametrize("which", [result_rows, memory_rows])
def test_text_fits_a_plain_terminal_and_loses_nothing(which, published, records):
    text = render(which(published, records), "text")
    table = [line for line in text.splitlines() if "test images" not in line]
    assert max(len(line) for line in table) <= PLAIN_WIDTH
    assert "…" not in text
    assert "state (precond)" in text
    assert "\x1b" not in text


def test_markdown_is_a_table_in_bytes(published, records):
    lines = render(memory_rows(published, records), "markdown").splitlines()
    cells = [line for line in lines if line.startswith("|")]
    assert len(cells) == 2 + 18
    assert len({line.count("|") for line in cells}) == 1
    assert "247,000" in cells[2]


def test_csv_holds_plain_numbers(published, records):
    rows = list(csv.DictReader(io.StringIO(render(memory_rows(published, records), "csv"))))
    assert rows[0]["weights_bytes"] == "247000"
    assert len(rows) == 18


# -- origins -----------------------------------------------------------------


def cells(markdown: str) -> list[list[str]]:
    """The rows of a Markdown table."""
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def plain(rows) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render(rows, "csv"))))


def test_nothing_is_said_of_records_that_are_alike(published, records):
    for which in (result_rows, memory_rows):
        for format in ("text", "markdown"):
            text = render(which(published, records), format)
            assert not any(word in text.lower() for word in ("stale", "frozen", "†", "all other"))
    assert "status" not in render(memory_rows(published, records), "markdown")


def test_a_stale_record_says_so_in_its_status(make):
    specs = expand("adamw-magnitude-90", SEED="0 1 2", TARGET_SPARSITY="0.5 0.7 0.9")
    found = [make(spec) for spec in specs]
    for record in (0, 1, 2, 3):  # all of the first cell's seeds, one of the second's
        found[record] = marked(found[record], STALE)
    rows = result_rows(specs, found)
    for format in ("text", "markdown"):
        text = render(rows, format)
        assert text.count("done, stale") == 1
        assert text.count("done, 1 of 3 stale") == 1
        assert "Stale (4 of 9 runs): other code produced the run than is here now" in " ".join(
            text.split()
        )
        assert "Frozen" not in text
    assert [cell[-1] for cell in cells(render(rows, "markdown"))] == [
        "done, stale",
        "done, 1 of 3 stale",
        "done",
    ]
    assert [(r["status"], r["stale"], r["frozen"]) for r in plain(rows)] == [
        ("done", "3", "0"),
        ("done", "1", "0"),
        ("done", "0", "0"),
    ]


def test_failed_and_missing_seeds_stand_before_marks(make):
    specs = expand("adamw-magnitude-90", SEED="0 1 2")
    records = [marked(make(specs[0]), FROZEN), make(specs[1], status="failed")]
    (row,) = cells(render(result_rows(specs, records), "markdown"))
    assert row[-1] == "1 failed, 1 missing, 1 of 1 frozen"
    (row,) = cells(render(result_rows(specs[1:2], [marked(records[1], STALE)]), "markdown"))
    assert (row[4], row[-1]) == ("(failed)", "failed, stale")


def test_marks_in_the_memory_table(published, records):
    specs = [s for s in published if s["OPTIMIZER"] == "adamw"]
    found = [make_stale(r) for r in records if r.spec in specs]
    rows = memory_rows(specs, found)
    assert [cell[-1] for cell in cells(render(rows, "markdown"))] == [
        "done",
        "done, 1 of 3 stale",
        "done, stale",
    ]
    assert [row["stale"] for row in plain(rows)] == ["0", "1", "3"]
    text = render(rows, "text")
    assert "magnitude, 1 of 3 stale" in text
    assert "movement, stale" in text
    assert "Stale (4 of 7 runs)" in text


def make_stale(record: RunResult) -> RunResult:
    """Stale if it is movement, or magnitude at 90%."""
    spec = record.spec
    stale = spec["PRUNING_METHOD"] == "movement" or "magnitude-90" in spec.slug
    return marked(record, STALE) if stale else record


def test_rows_from_elsewhere_carry_a_sign_that_is_explained(published, make):
    specs = [s for s in published if s["OPTIMIZER"] == "adamw"]
    records = [make(spec) for spec in specs]
    records[1] = elsewhere(records[1], **H100)
    records[2] = elsewhere(records[2], torch="2.9.0")
    records[3] = elsewhere(records[3], **{**H100, "device": "cuda:0"})
    rows = result_rows(specs, records)
    table = render(rows, "markdown")
    assert [cell[1] for cell in cells(table)][:5] == [
        "dense",
        "magnitude †",
        "magnitude ‡",
        "magnitude †",
        "movement",
    ]
    here = "cpu (Imaginary CPU @ 2.60GHz), 2 threads, torch"
    caption = (
        f"† cuda (NVIDIA H100), 8 threads, torch 2.14.1; ‡ {here} 2.9.0; "
        f"all other runs: {here} 2.14.1."
    )
    assert table.splitlines()[-1] == f"{caption} Times are comparable only where these agree."
    assert render(memory_rows(specs, records), "markdown").splitlines()[-1] == caption
    assert caption in " ".join(render(rows, "text").split())
    found = plain(rows)
    assert [row["elsewhere"] for row in found] == ["0", "1", "1", "1", "0", "0", "0"]
    told = [found[1][name] for name in ("device", "device_name", "threads", "torch")]
    assert told == ["cuda", "NVIDIA H100", "8", "2.14.1"]


def test_a_row_with_seeds_from_two_places_names_both(make):
    specs = expand("adamw-magnitude-90", SEED="0 1 2")
    records = [make(spec) for spec in specs]
    records[2] = elsewhere(records[2], **H100)
    (row,) = plain(result_rows(specs, records))
    assert (row["device"], row["threads"], row["elsewhere"]) == ("cpu; cuda", "2; 8", "1")
    assert "magnitude †" in render(result_rows(specs, records), "text")


def test_each_table_has_a_common_place_of_its_own(make):
    specs = expand("adamw", DATASET_MNIST="y", DATASET_MNIST5K="y")
    records = [
        elsewhere(make(spec), **(H100 if spec["DATASET"] == "mnist" else {})) for spec in specs
    ]
    rows = result_rows(specs, records)
    assert "†" not in render(rows, "text")
    assert {row["elsewhere"] for row in plain(rows)} == {"0"}


@pytest.mark.parametrize("which", [result_rows, memory_rows])
def test_marked_text_fits_a_plain_terminal_and_loses_nothing(which, published, records):
    found = [
        elsewhere(marked(record, STALE), **H100) if record.spec.sparsity == 0.9 else record
        for record in records
    ]
    text = render(which(published, found), "text")
    assert max(len(line) for line in text.splitlines()) <= PLAIN_WIDTH
    assert "…" not in text
    rows = [line for line in text.splitlines() if line.startswith("adamwprune ")]
    assert len(rows) == len(which(published, found)) // 6  # no name is broken
    assert "†" in text


def test_an_unknown_format_is_refused(published):
    with pytest.raises(UserError, match="no table format 'html'; there are text, markdown, csv"):
        render(result_rows(published, []), "html")


def test_no_rows():
    assert render([], "text") == "No runs are expected.\n"
    assert render([], "csv") == ""
