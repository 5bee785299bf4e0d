"""Tables: every expected cell is a row, and the numbers are the records'."""

from __future__ import annotations

import csv
import io

import pytest

from adamwprune.errors import UserError
from adamwprune.record import RunResult
from adamwprune.report.tables import PLAIN_WIDTH, accuracy_rows, memory_rows, render
from adamwprune.spec import RunSpec
from tests.report.conftest import Make, expand


@pytest.fixture(scope="module")
def records(published: list[RunSpec], make: Make) -> list[RunResult]:
    return [make(spec) for spec in published]


def test_every_cell_is_a_row_with_its_records_numbers(published, records):
    rows = accuracy_rows(published, records)
    assert len(rows) == 42
    for row, record in zip(rows, records, strict=True):
        assert row.accuracy.mean == pytest.approx(100 * record.final["test_accuracy"])
        assert (row.zeros, row.prunable) == (record.pruning["zeros"], 61_470)
        assert (row.n, row.status, row.seconds) == (1, "done", 14.2)


def test_missing_and_failed_cells_have_no_numbers(published, make):
    rows = accuracy_rows(published[:3], [make(published[0]), make(published[1], status="failed")])
    assert [row.status for row in rows] == ["done", "failed", "missing"]
    assert [(row.accuracy, row.zeros, row.seconds) for row in rows[1:]] == [(None, None, None)] * 2
    text = render(rows, "text")
    assert "(failed)" in text
    assert "(missing)" in text
    assert "0 of 1" in text
    assert "(failed)" in render(rows, "markdown")
    plain = list(csv.DictReader(io.StringIO(render(rows, "csv"))))
    assert [row["accuracy_percent"] for row in plain[1:]] == ["", ""]


def test_seeds_give_mean_and_deviation(make):
    specs = expand("adamw-magnitude-90", SEED="0 1 2")
    (row,) = accuracy_rows(specs, [make(spec) for spec in specs])
    assert row.n == row.expected == 3
    text = render([row], "text")
    assert f"{row.accuracy.mean:.2f} ± {row.accuracy.deviation:.2f}" in text
    assert "n = 1" not in text


def test_single_runs_carry_the_noise_of_their_test_set(published, records, quick, make):
    assert "differences under 0.2 points on 10,000 test images are noise" in render(
        accuracy_rows(published, records), "text"
    )
    rows = accuracy_rows(quick, [make(spec) for spec in quick])
    assert "on 1,000 test images are noise" in render(rows, "markdown")


def test_no_table_names_a_winner(published, records):
    for rows in (accuracy_rows(published, records), memory_rows(published, records)):
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
    assert "memory against movement, and against nothing else" in render(
        memory_rows(published, records), "markdown"
    )


@pytest.mark.parametrize("which", [accuracy_rows, memory_rows])
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


def test_an_unknown_format_is_refused(published):
    with pytest.raises(UserError, match="no table format 'html'; there are text, markdown, csv"):
        render(accuracy_rows(published, []), "html")


def test_no_rows():
    assert render([], "text") == "No runs are expected.\n"
    assert render([], "csv") == ""
