"""Ranges in lists: their values, literally, and what is no range."""

import pytest

from adamwprune.base.errors import ConfigError
from adamwprune.config import options
from adamwprune.config.ranges import words
from tests.support.records import expand


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0..4", "0 1 2 3 4"),
        ("7 0..2 9", "7 0 1 2 9"),
        ("0.5..0.9:lin5", "0.5 0.6 0.7 0.8 0.9"),
        ("0..1:lin4", "0 0.333333 0.666667 1"),
        ("1e-4..1e-2:log5", "1e-4 0.000316 0.001 0.00316 1e-2"),
        ("1..1000:log4", "1 10 100 1000"),
        ("0.1..0.2:lin2", "0.1 0.2"),
        ("-1..1", "-1 0 1"),
    ],
)
def test_a_range_has_both_ends_and_rounded_values(text, values):
    assert words(text, whole=False) == values.split()


def test_of_whole_numbers_each_is_there_once():
    assert words("32..512:log5", whole=True) == ["32", "64", "128", "256", "512"]
    assert words("1..3:log8", whole=True) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0..", "is no range"),
        ("0...4", "needs a number of values"),
        ("a..b", "is no range"),
        ("0..4:5", "is no range"),
        ("4..0", "begins with the smaller"),
        ("3..3", "begins with the smaller"),
        ("0.1..0.9", "needs a number of values"),
        ("0..1:log5", "above 0"),
        ("0..4294967295", "2 to 1000 values"),
        ("0..1:lin1", "2 to 1000 values"),
        ("0,1,2", "separate the values by blanks: '0 1 2'"),
        ("0;1;2", "separate the values by blanks: '0 1 2'"),
        ("0-4", "'0-4' is no range: write 0..4"),
        ("0:4", "'0:4' is no range: write 0..4"),
    ],
)
def test_what_is_no_range_says_why(text, reason):
    with pytest.raises(ValueError, match=reason):
        words(text, whole=False)


def test_values_of_a_range_are_held_to_the_option():
    declared = options.type_from_help("Rates.\n@list float (0, 1] | preset")
    assert declared.parse("preset 0.1..0.3:lin3") == ("preset", 0.1, 0.2, 0.3)
    with pytest.raises(ValueError, match=r"1\.5 is outside"):
        declared.parse("0.5..2.5:lin3")


def test_a_range_is_an_axis_of_the_same_runs():
    listed = expand("sgd", SEED="0 1 2", LR="0.001 0.01")
    assert expand("sgd", SEED="0..2", LR="1e-3..1e-2:log2") == listed


@pytest.mark.parametrize(
    ("name", "text", "meant"),
    [
        ("OPTIMIZER", "sgd,adam", "separate the members by blanks: 'sgd adam'"),
        ("STATE_CRITERION", "precond,taylor", "separate the words by blanks: 'precond taylor'"),
        ("SEED", "0,1", "separate the values by blanks: '0 1'"),
        ("OPTIMIZER", "AdamW", "did you mean adamw"),
        ("DATASET", "fashion_mnist", "did you mean fashion-mnist"),
    ],
)
def test_what_was_meant_is_said(name, text, meant):
    with pytest.raises(ConfigError, match=meant):
        expand("adamwprune-50", **{name: text})
