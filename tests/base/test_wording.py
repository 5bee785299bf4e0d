"""Words that depend on a number."""

from __future__ import annotations

import pytest

from adamwprune.base.wording import at_place, counted, did_you_mean, last_line, plain, rounded


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (1_180, "1,180 runs")]
)
def test_one_has_no_plural(number: int, text: str) -> None:
    assert counted(number, "run") == text


def test_where_a_run_trains() -> None:
    assert at_place("cpu", 1, 1) == "cpu, 1 thread"
    assert at_place("cuda:0", 2, 4) == "cuda:0, 4 ranks of 2 threads"


def test_a_value_for_people() -> None:
    assert [plain(value) for value in (100.0, 1e-5, 0.008, 3, "adamw")] == [
        *("100", "1e-05", "0.008", "3", "adamw")
    ]


def test_a_part_of_a_name_is_nearer_than_one_of_like_letters() -> None:
    targets = ["export", "html-report", "graph-check", "all"]
    assert did_you_mean("report", targets) == "; did you mean html-report?"
    assert did_you_mean("exprot", targets) == "; did you mean export?"
    assert did_you_mean("gpu", ["auto", "cpu", "cuda"]) == "; did you mean cuda?"
    assert did_you_mean("bf16", ["float32", "tf32", "bfloat16"]) == "; did you mean bfloat16?"


def test_of_an_error_of_this_package_only_what_it_says_is_told() -> None:
    assert last_line("Traceback\nadamwprune.tasks.Diverged: the loss is nan\n") == "the loss is nan"
    assert last_line("ValueError: x") == "ValueError: x"


def test_a_large_number_has_no_exponent() -> None:
    numbers = (0.01234, 1.1, 52.34, 999.6, 1000, 12345.6)
    assert [rounded(each) for each in numbers] == [
        "0.0123",
        "1.1",
        "52.3",
        "1,000",
        "1,000",
        "12,346",
    ]
