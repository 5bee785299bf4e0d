"""What a symbol's value may be: types and ranges, read from Kconfig and its annotations.

Kconfig knows bool, int and string. A float, a list, a word out of several and the
word ``preset`` are strings whose help text carries one annotation line::

    @float (0, 10] | preset          one number in the interval, or the word
    @list float [0, 1]               numbers and ranges (0..4) separated by blanks: an axis
    @list word precond fisher        words out of these
    @steps [0, 1000]                 a whole number of steps, or a fraction of the training below 1
    @operational                     never part of a run's identity
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from adamwprune.config import ranges

Value = bool | int | float | str

_ANNOTATION = re.compile(
    r"@(?P<list>list )?(?P<kind>float|int|word|steps) (?P<domain>.+?)(?P<preset> \| preset)?$"
)
_INTERVAL = re.compile(r"(?P<left>[\[(])(?P<low>\S+), (?P<high>\S+)(?P<right>[\])])$")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_KCONFIG_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")  # C Kconfig drops any other for its default
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Interval:
    """A range of numbers in the usual notation: ``(0, 1]`` holds 1 and not 0."""

    text: str
    low: float
    high: float
    low_open: bool
    high_open: bool

    @classmethod
    def parse(cls, text: str) -> Interval:
        match = _INTERVAL.match(text)
        if match is None:
            raise ValueError(f"not an interval: {text!r}")
        return cls(
            text,
            float(match["low"]),
            float(match["high"]),
            match["left"] == "(",
            match["right"] == ")",
        )

    def __contains__(self, number: float) -> bool:
        above = number > self.low if self.low_open else number >= self.low
        below = number < self.high if self.high_open else number <= self.high
        return above and below


_NOUNS = {
    "float": "number",
    "int": "whole number",
    "steps": "number of steps or fraction of the training",
    "word": "one of",
}


@dataclass(frozen=True)
class Type:
    """The type of a symbol's value.

    ``parse_item`` turns one word into a value and raises ``ValueError`` with a
    message that says what is expected.
    """

    kind: str  # "bool", "int", "float", "steps", "word" or "string"
    parse_item: Callable[[str], Value]
    interval: Interval | None = None  # of a number
    words: tuple[str, ...] = ()  # of kind "word"
    is_list: bool = False
    preset: bool = False  # the word "preset" is admitted

    @property
    def domain(self) -> str:
        """For people: ``[0, 1]``, ``precond fisher``."""
        return self.interval.text if self.interval else " ".join(self.words)

    @property
    def expects(self) -> str:
        """For messages and ``--help``: what may be written here."""
        noun = _NOUNS.get(self.kind, "")
        if not noun:
            return {"bool": "y or n", "string": "text"}[self.kind]
        text = f"{noun} {self.domain}".strip() if self.kind == "word" else noun
        if self.kind != "word" and self.domain:
            text += f" in {self.domain}"
        if self.is_list:
            text = f"one or several: {text}"
        return text + " or preset" if self.preset else text

    def parse(self, text: str) -> tuple[Value, ...]:
        """All values in ``text``: one, or for a list as many as there are words."""
        if self.kind == "string":
            return (self.parse_item(text),)
        if not text.strip():
            raise ValueError("is empty")
        words = self.split(text) if self.is_list else [text]
        if not self.is_list and text != text.strip():
            raise ValueError(f"{text!r} begins or ends with a blank")
        if not self.is_list and self._are_several(text.replace(",", " ").split()):
            raise ValueError("takes one value, not a list")
        return tuple(map(self._parse_word, words))

    def _parse_word(self, word: str) -> Value:
        return "preset" if self.preset and word == "preset" else self.parse_item(word)

    def _are_several(self, words: list[str]) -> bool:
        try:
            return len([self._parse_word(word) for word in words]) > 1
        except ValueError:
            return False

    def split(self, text: str) -> list[str]:
        """The words of a list, one a value: ranges of numbers are expanded."""
        if self.interval is None:
            if "," in text:
                raise ValueError(f"separate the words by blanks: {' '.join(text.split(','))!r}")
            return text.split()
        return ranges.words(text, whole=self.kind == "int")


def type_from_help(help_text: str | None) -> Type | None:
    """The type that a help text's annotation declares, or None where it declares none."""
    for line in (help_text or "").splitlines():
        match = _ANNOTATION.match(line.strip())
        if match:
            return _annotated(match)
    return None


def is_operational(help_text: str | None) -> bool:
    """Whether a help text carries the line ``@operational``."""
    return any(line.strip() == "@operational" for line in (help_text or "").splitlines())


def check_annotations(help_text: str | None) -> None:
    """Raise ``ValueError`` for a line that starts with ``@`` and is no annotation."""
    for line in (help_text or "").splitlines():
        text = line.strip()
        if not text.startswith("@") or text == "@operational":
            continue
        match = _ANNOTATION.match(text)
        if match is None:
            raise ValueError(f"not an annotation: {text!r}")
        _annotated(match)


def bool_type() -> Type:
    """``y`` or ``n``."""
    return Type("bool", _parse_bool)


def string_type() -> Type:
    """Any text on one line."""
    return Type("string", _parse_string)


def int_type(interval: Interval | None = None) -> Type:
    """A whole number, within ``interval`` if there is one."""
    return _number("int", _parse_kconfig_int, interval)


def _annotated(match: re.Match[str]) -> Type:
    domain = match["domain"]
    if match["kind"] == "word":
        words = tuple(domain.split())
        base = Type("word", _word_parser(words), words=words)
    else:
        parse = {"int": _parse_int, "steps": _parse_steps, "float": _parse_float}[match["kind"]]
        base = _number(match["kind"], parse, Interval.parse(domain))
    return replace(base, is_list=bool(match["list"]), preset=bool(match["preset"]))


def _number(kind: str, parse: Callable[[str], int | float], interval: Interval | None) -> Type:
    def parse_item(word: str) -> int | float:
        number = parse(word)
        if interval is not None and number not in interval:
            percent = interval.high == 1 and 2 <= number <= 100
            meant = f"; {number:g} percent are {number / 100:g}" if percent else ""
            raise ValueError(f"{word} is outside {interval.text}{meant}")
        return number

    return Type(kind, parse_item, interval)


def _word_parser(words: tuple[str, ...]) -> Callable[[str], str]:
    def parse_item(word: str) -> str:
        if word not in words:
            raise ValueError(f"{word!r} is none of {', '.join(words)}")
        return word

    return parse_item


def _parse_bool(word: str) -> bool:
    if word not in ("y", "n"):
        raise ValueError(f"{word!r} is neither y nor n")
    return word == "y"


def _parse_int(word: str) -> int:
    if not _INTEGER.fullmatch(word):
        raise ValueError(f"{word!r} is not a whole number")
    return int(word)


def _parse_kconfig_int(word: str) -> int:
    """A number of a symbol that is an int to Kconfig too; others are strings to it."""
    number = _parse_int(word)
    if not _KCONFIG_INTEGER.fullmatch(word):
        raise ValueError(f"{word!r} is not how Kconfig writes the number {number}")
    return number


def _parse_float(word: str) -> float:
    if word.endswith("%") and _FLOAT.fullmatch(word[:-1]):
        raise ValueError(f"{word!r}: write it as a fraction, {float(word[:-1]) / 100:g}")
    if not _FLOAT.fullmatch(word):
        raise ValueError(f"{word!r} is not a number")
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word!r} is not a finite number")
    return number + 0.0  # -0.0 and 0.0 are one value and must have one identity


def _parse_steps(word: str) -> int | float:
    """A whole number of steps, or a fraction between 0 and 1: other numbers are neither."""
    if _INTEGER.fullmatch(word):
        return int(word)
    number = _parse_float(word)
    if not 0 < number < 1:
        raise ValueError(f"{word} is neither a whole number of steps nor a fraction below 1")
    return number


def _parse_string(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    if not text.isprintable():
        # A line break would end the assignment in a .config, a stray byte of
        # a command line could not be written to one at all.
        raise ValueError("text must be one line of printable characters")
    return text
