"""What a record is worth now: whether the code that made it is the code that is here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from adamwprune.plan.spec import RunSpec
from adamwprune.records.code import Code
from adamwprune.records.content import PACKAGE
from adamwprune.records.record import FROZEN, RunResult

NAMED = 8  # changed modules that are listed by name


class Judged(Protocol):
    """What a verdict needs of a record."""

    @property
    def code(self) -> Mapping[str, Any]:
        """What code made it."""


def changes(result: Judged, code: Code) -> str:
    """Which modules differ from those that made the record; empty if it is fresh."""
    if not result.code:
        return "its record does not say what code made it"
    if result.code.get("digest") == code.digest:
        return ""
    names = [name.removeprefix(f"{PACKAGE}.") for name in code.changed_since(result.code)]
    others = f" and {len(names) - NAMED} others" if len(names) > NAMED else ""
    return f"changed since: {', '.join(names[:NAMED])}{others}"


def frozen(result: RunResult, code: Code) -> RunResult:
    """A published record, marked unless the code that is here made it."""
    return replace(result, marks=frozenset({FROZEN})) if changes(result, code) else result


def differences(one: RunSpec, other: RunSpec) -> list[str]:
    """``LR 0.001 → 0.003`` for each value in which two runs differ, by name."""
    names = sorted({*one.values, *other.values})
    absent = "(none)"
    return [
        f"{name} {one.values.get(name, absent)} → {other.values.get(name, absent)}"
        for name in names
        if one.values.get(name) != other.values.get(name)
    ]


def nearest(spec: RunSpec, others: Iterable[RunSpec]) -> RunSpec | None:
    """The one of ``others`` that differs from ``spec`` in the fewest values, but in some."""
    differing = [other for other in others if other != spec]
    return min(differing, key=lambda other: len(differences(other, spec)), default=None)
