"""What a record is worth now: whether the code that made it is the code that is here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from adamwprune.plan.spec import RunSpec
from adamwprune.records.certified import device_kind
from adamwprune.records.code import Code
from adamwprune.records.content import PACKAGE
from adamwprune.records.record import FROZEN, RunResult

NAMED = 8  # changed modules that are listed by name


class Judged(Protocol):
    """What a verdict needs of a record."""

    @property
    def spec(self) -> RunSpec:
        """Its run."""

    @property
    def code(self) -> Mapping[str, Any]:
        """What code made it."""


def changes(result: Judged, code: Code) -> str:
    """Which modules differ from those that made the record; empty if it is fresh."""
    if not result.code:
        return "its record does not say what code made it"
    if result.code.get("digest") == code.digest or proved_on(result, code):
        return ""
    names = [name.removeprefix(f"{PACKAGE}.") for name in code.changed_since(result.code)]
    others = f" and {len(names) - NAMED} others" if len(names) > NAMED else ""
    return f"changed since: {', '.join(names[:NAMED])}{others}"


def proved_on(result: Judged, code: Code) -> frozenset[str]:
    """The kinds of device on which ``code`` was shown to give the bits of the code that made the
    record (:mod:`adamwprune.records.certified`)."""
    digest = str(result.code.get("digest"))
    return code.certificates.kinds(digest, code.digest, result.spec)


def proof(result: RunResult, code: Code) -> str:
    """How a record of another code is known to be fresh; empty where that is not so."""
    if not result.code or result.code.get("digest") == code.digest:
        return ""
    kinds, made_on = proved_on(result, code), device_kind(result)
    if not kinds:
        return ""
    told = "other code made it, which gives the same bits: make certify proved it"
    if made_on in kinds:
        return told
    return f"{told} on another kind of device ({', '.join(sorted(kinds))}, the record: {made_on})"


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
