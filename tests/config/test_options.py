"""Types and ranges, and the annotations that declare them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adamwprune.config import options
from adamwprune.config.options import Interval, Type


def annotated(line: str) -> Type:
    declared = options.type_from_help(f"What it is for.\n{line}\n")
    assert declared is not None
    return declared


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("[0, 1]", [0, 0.5, 1], [-1e-9, 1.1]),
        ("(0, 1]", [1e-12, 1], [0]),
        ("[0, 1)", [0, 0.999], [1]),
        ("(0, 100)", [50], [0, 100]),
    ],
)
def test_interval_bounds(text: str, inside: list[float], outside: list[float]) -> None:
    interval = Interval.parse(text)
    assert all(number in interval for number in inside)
    assert not any(number in interval for number in outside)


@pytest.mark.parametrize("text", ["0 1", "[0 1]", "[0, 1", "{0, 1}", "[zero, 1]"])
def test_malformed_interval_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"interval|float"):
        Interval.parse(text)


@pytest.mark.parametrize(
    ("line", "text", "values"),
    [
        ("@float [0, 1]", "1e-3", (0.001,)),
        ("@float [0, 1]", ".5", (0.5,)),
        ("@float [0, 1] | preset", "preset", ("preset",)),
        ("@list float [0, 1]", " 0.5  0.9 ", (0.5, 0.9)),
        ("@list int [1, 8] | preset", "preset 4", ("preset", 4)),
        ("@list word precond fisher", "fisher precond", ("fisher", "precond")),
        ("@int [-9, 9]", "-7", (-7,)),
        ("@int [-9, 9]", "07", (7,)),
    ],
)
def test_values(line: str, text: str, values: tuple[object, ...]) -> None:
    assert annotated(line).parse(text) == values


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        ("@float [0, 1]", "x", "'x' is not a number"),
        ("@float [0, 1]", "nan", "is not a number"),
        ("@float [0, 1]", "inf", "is not a number"),
        ("@float [0, 1]", "1e999", "is not a finite number"),
        ("@float [0, 1]", "0x1", "is not a number"),
        ("@float [0, 1]", "1_0", "is not a number"),
        ("@float (0, 1]", "0", r"0 is outside \(0, 1\]"),
        ("@float (0, 1]", "1e-400", r"is outside"),
        ("@float [0, 1]", "0.1 0.2", "takes one value, not a list"),
        ("@float [0, 1]", "0.1,0.2", "takes one value, not a list"),
        ("@float [0, 1]", "0.1 x", "is not a number"),
        ("@float [0, 1]", "preset", "is not a number"),
        ("@float [0, 1]", "", "is empty"),
        ("@list float [0, 1]", " ", "is empty"),
        ("@list float [0, 1]", "0.5,0.7", "separate the values by blanks"),
        ("@list float [0, 1]", "0.5 7", "7 is outside"),
        ("@list float [0, 1]", "90", r"90 is outside \[0, 1\]; 90 percent are 0.9$"),
        ("@list float [0, 1]", "90%", "'90%': write it as a fraction, 0.9$"),
        ("@list float [0, 1]", "1.5", r"1.5 is outside \[0, 1\]$"),
        ("@list float [0, 1]", "-90", r"-90 is outside \[0, 1\]$"),
        ("@int [1, 9]", "1.0", "is not a whole number"),
        *(("@int [1, 9]", text, "begins or ends with a blank") for text in (" 7", "7 ", "7\n")),
        ("@float [0, 1]", " 0.5", "begins or ends with a blank"),
        ("@list word precond fisher", "precondition", "is none of precond, fisher"),
    ],
)
def test_refused_values(line: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        annotated(line).parse(text)


@pytest.mark.parametrize(
    "text", ["02", "+2", "-02", "00", "+0", " 2", "2 ", "2\n", "0x2", "1_0", "２", "-", "1e0", ""]
)
def test_an_int_of_kconfig_is_written_as_c_kconfig_writes_it(text: str) -> None:
    """C Kconfig would take its default for any of these, in silence."""
    with pytest.raises(ValueError, match=r"is not a whole number|is not how|blank|empty"):
        options.int_type().parse(text)
    assert [options.int_type().parse(each) for each in ("2", "0", "-2")] == [(2,), (0,), (-2,)]


@pytest.mark.parametrize("text", ["", "  ", "two\nlines", "\x0c", "a\u2028b", "caf\udce9"])
def test_strings_are_one_printable_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"empty|one line"):
        options.string_type().parse(text)


@pytest.mark.parametrize(
    "line", ["@flaot [0, 1]", "@float", "@list", "@float [0 1]", "@float [a, b]", "@Operational"]
)
def test_what_looks_like_an_annotation_must_be_one(line: str) -> None:
    with pytest.raises(ValueError, match=r"not an annotation|interval|float"):
        options.check_annotations(f"Some help.\n{line}")


def test_operational_is_an_annotation_of_its_own() -> None:
    options.check_annotations("Help.\n@operational")
    assert options.is_operational("Help.\n  @operational\n")
    assert not options.is_operational("The word @operational inside a line.")
    assert options.type_from_help("Help.\n@operational") is None


@pytest.mark.parametrize(
    ("line", "expects"),
    [
        ("@float (0, 10] | preset", "number in (0, 10] or preset"),
        ("@list int [1, 8]", "one or several: whole number in [1, 8]"),
        ("@list word precond fisher", "one or several: one of precond fisher"),
    ],
)
def test_what_is_expected_is_said(line: str, expects: str) -> None:
    assert annotated(line).expects == expects


@given(st.floats(0, 1))
def test_every_way_to_write_a_number_is_the_same_value(number: float) -> None:
    kind = annotated("@float [0, 1]")
    forms = {kind.parse(form)[0] for form in (repr(number), f"{number:.17e}", f"+{number!r}")}
    assert forms == {number}


def test_minus_zero_is_zero() -> None:
    (value,) = annotated("@float [0, 1]").parse("-0.0")
    assert math.copysign(1, float(value)) == 1


@given(st.text(max_size=12))
def test_parsing_accepts_or_raises_value_error(text: str) -> None:
    for line in ("@float [0, 1]", "@list int [0, 9] | preset", "@word a b"):
        kind = annotated(line)
        try:
            values = kind.parse(text)
        except ValueError:
            continue
        assert all(
            value == "preset" or value in ("a", "b") or 0 <= float(value) <= 9 for value in values
        )
