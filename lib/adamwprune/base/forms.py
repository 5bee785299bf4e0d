"""Plain values out of JSON that others may have written: which of them make sense."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain
from typing import Any, TypeAlias, Union

ANY = "*"  # in a form: every name that it does not have

# What a value has to be. ``float`` is any number, and ``int`` no bool; ``None`` is null. A
# dictionary has forms by name, for what is there of them; a list has the form of each element;
# and a tuple several forms, of which a value needs one.
Form: TypeAlias = Union[type, dict[str, "Form"], list["Form"], tuple["Form", ...], None]  # noqa: UP007


def number(value: object) -> float | None:
    """A finite number as it is; None for all else, and for an integer that no float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def misfit(value: object, form: Form) -> str | None:
    """The path of the first part that is not of its form, ``.memory.device``; None without one."""
    if form is None:
        return None if value is None else ""
    if isinstance(form, type):
        return None if _is_a(form, value) else ""
    if isinstance(form, tuple):
        return None if any(misfit(value, each) is None for each in form) else ""
    if isinstance(form, dict) and isinstance(value, dict):
        rest = form.get(ANY, object)
        return _first((name, each, form.get(name, rest)) for name, each in value.items())
    if isinstance(form, list) and isinstance(value, list):
        if _are_numbers(value, form[0]):
            return None
        return _first((str(at), each, form[0]) for at, each in enumerate(value))
    return ""


def _first(parts: Iterable[tuple[str, object, Form]]) -> str | None:
    for name, value, form in parts:
        found = misfit(value, form)
        if found is not None:
            return f".{name}{found}"
    return None


def _is_a(kind: type, value: object) -> bool:
    if kind is int or (kind is float and isinstance(value, int)):
        return isinstance(value, int) and number(value) is not None
    return isinstance(value, kind)


def _are_numbers(values: list[Any], form: Form) -> bool:
    """Whether they are what ``form`` says, as far as that is seen at once: a record has thousands.

    Also numbers in lists, of which a list has the form.
    """
    if isinstance(form, list) and all(isinstance(each, list) for each in values):
        return _are_numbers(list(chain.from_iterable(values)), form[0])
    kinds = {int} if form is int else {int, float} if form is float else set()
    if not values or not kinds.issuperset(map(type, values)):
        return False
    return number(min(values)) is not None and number(max(values)) is not None
