"""Ranges in lists of numbers: ``0..4``, ``0.5..0.9:lin5``, ``1e-4..1e-2:log5``."""

import re
from collections.abc import Iterator
from decimal import Decimal

MOST = 1_000  # values of one range: more is a slip of the hand
_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_RANGE = re.compile(
    rf"(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})(?::(?P<kind>lin|log)(?P<count>\d+))?"
)
_SEPARATORS = re.compile("[,;]")
_DASHED = re.compile(r"([0-9.]+)[-:]([0-9.]+)")  # how others write a range
_LOG_DIGITS, _LIN_DIGITS = 3, 6  # significant digits of what lies between the ends


def words(text: str, *, whole: bool) -> list[str]:
    """The words of a list of numbers, each range replaced by its values.

    Both ends belong to a range. ``A..B`` is every whole number between them, ``:linN`` are N values
    at equal distances and ``:logN`` at equal ratios. ``whole``: values are rounded to whole
    numbers, each once. Raises ``ValueError`` with what is wrong.
    """
    return [value for word in text.split() for value in _values(word, whole)]


def _values(word: str, whole: bool) -> list[str]:
    if ".." not in word:
        if _SEPARATORS.search(word):
            apart = _SEPARATORS.sub(" ", word)
            raise ValueError(f"{word!r}: separate the values by blanks: {apart!r}")
        if dashed := _DASHED.fullmatch(word):
            raise ValueError(f"{word!r} is no range: write {dashed[1]}..{dashed[2]}")
        return [word]
    match = _RANGE.fullmatch(word)
    if match is None:
        raise ValueError(f"{word!r} is no range: write 0..4, 0.5..0.9:lin5 or 1e-4..1e-2:log5")
    low, high = Decimal(match["low"]), Decimal(match["high"])
    if low >= high:
        raise ValueError(f"{word!r}: a range begins with the smaller number")
    if match["kind"] is None:
        return list(_every(word, low, high))
    count = int(match["count"])
    if not 2 <= count <= MOST:
        raise ValueError(f"{word!r}: a range has 2 to {MOST} values")
    between = _ratios if match["kind"] == "log" else _distances
    inner = between(word, low, high, count)
    if whole:
        return list(dict.fromkeys(str(round(each)) for each in (low, *inner, high)))
    return [match["low"], *(f"{float(each):.{_LIN_DIGITS}g}" for each in inner), match["high"]]


def _every(word: str, low: Decimal, high: Decimal) -> Iterator[str]:
    if low % 1 or high % 1:
        raise ValueError(f"{word!r}: between fractions it needs a number of values, as in :lin5")
    if high - low >= MOST:
        raise ValueError(f"{word!r}: a range has 2 to {MOST} values")
    return map(str, range(int(low), int(high) + 1))


def _distances(word: str, low: Decimal, high: Decimal, count: int) -> list[Decimal]:
    step = (high - low) / (count - 1)
    return [_rounded(low + step * place, _LIN_DIGITS) for place in range(1, count - 1)]


def _ratios(word: str, low: Decimal, high: Decimal, count: int) -> list[Decimal]:
    if low <= 0:
        raise ValueError(f"{word!r}: equal ratios need numbers above 0")
    ratio = (high / low).ln() / (count - 1)
    return [_rounded(low * (ratio * place).exp(), _LOG_DIGITS) for place in range(1, count - 1)]


def _rounded(number: Decimal, digits: int) -> Decimal:
    return Decimal(f"{number:.{digits}g}")
