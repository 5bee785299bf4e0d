"""Codes that were shown to give the same bits: ``results/certified.jsonl``.

A line holds the records of one run, made by an older code and by a newer one on the same machine.
Nothing is asserted beside them: which codes are equal, for which runs and on which kind of device
is read off the two records, and a line whose records differ in any bit says nothing. ``make
certify`` writes it, ``make certify CHECK=N`` trains N of its lines again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from adamwprune.base.errors import UserError
from adamwprune.base.files import refusing, write_text
from adamwprune.plan.spec import RunSpec
from adamwprune.records.comparison import IDENTICAL, compare
from adamwprune.records.record import RunResult

_VALUES = ("SEED", "DATASET_DIGEST", "MODEL_WIDTH")  # of them no path through the code depends
_BULK = ("trace", "param_groups", "memory", "seconds")  # of a record: not needed here
_PLACE = ("device", "device_name", "threads", "torch", "cpu", "determinism")  # must be one


def path_of(spec: RunSpec) -> str:
    """What chooses a run's way through the code: members and choices, and which numbers are 0."""
    chosen = {
        name: value if isinstance(value, (str, bool)) else value != 0
        for name, value in spec.identity.items()
        if name not in _VALUES
    }
    return json.dumps(chosen, sort_keys=True)


def device_kind(record: RunResult) -> str:
    """``cpu`` or ``cuda``."""
    return str(record.environment.get("device", "cpu")).partition(":")[0]


@dataclass(frozen=True)
class Proof:
    """One run by two codes."""

    before: RunResult
    after: RunResult

    @classmethod
    def of(cls, before: RunResult, after: RunResult) -> Proof:
        """Without the parts of the records that are not compared."""
        empty: dict[str, Any] = {name: type(getattr(before, name))() for name in _BULK}
        return cls(replace(before, **empty), replace(after, **empty))

    @classmethod
    def read(cls, line: str | bytes) -> Proof:
        """The inverse of :meth:`line`; ``ValueError`` says what is wrong with a line."""
        plain = json.loads(line)
        if not isinstance(plain, dict) or {*plain} != {"before", "after", "seal"}:
            raise ValueError("is no pair of records")
        if plain.pop("seal") != _seal(plain):
            raise ValueError("was changed after it was written")
        both = (RunResult.from_json(plain[name], whole=False) for name in ("before", "after"))
        return cls(*both)

    def line(self) -> str:
        """Its JSON, sealed with the SHA-256 of its content."""
        plain = {"before": self.before.to_json(), "after": self.after.to_json()}
        return json.dumps({**plain, "seal": _seal(plain)})

    @property
    def codes(self) -> tuple[str, str]:
        """The digests of the older and of the newer code."""
        return str(self.before.code["digest"]), str(self.after.code["digest"])

    @property
    def kind(self) -> str:
        """The kind of device on which it was shown."""
        return device_kind(self.before)

    @cached_property
    def path(self) -> str:
        """See :func:`path_of`."""
        return path_of(self.before.spec)

    @property
    def commits(self) -> tuple[str, str]:
        """The commits of the two codes."""
        return str(self.before.environment["commit"]), str(self.after.environment["commit"])

    def problem(self) -> str:
        """Why it shows nothing; empty if it does."""
        if self.before.spec != self.after.spec:
            return "its records are of two runs"
        found = compare(self.before, self.after)
        if found.verdict != IDENTICAL or "weights" not in found.compared:
            return f"its records differ: {found.text()}"
        for record in (self.before, self.after):
            place, modules = record.environment, record.code.get("modules", {})
            if not place.get("commit") or place.get("dirty") or "members" in place:
                return "its code is no commit's"
            if record.code["digest"] not in _digests(modules):
                return "the digest of its code is not that of the modules"
        first, second = (record.environment for record in (self.before, self.after))
        other = [name for name in _PLACE if first.get(name) != second.get(name)]
        return f"its two runs differ in {', '.join(other)}" if other else ""


def _seal(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _digests(modules: Mapping[str, str]) -> tuple[str, str]:
    """The digest of a code by today's rule, and by that of former times, when names counted."""
    today = "\n".join(sorted(modules.values()))
    former = "".join(f"{name} {digest}\n" for name, digest in sorted(modules.items()))
    one, other = (hashlib.sha256(text.encode()).hexdigest()[:16] for text in (today, former))
    return one, other


class Certificates:
    """The proofs of a file that hold; a file that is not there has none."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def lines(self) -> Iterator[Proof | UserError]:
        """Line by line the proof, or why it shows nothing."""
        if self.path is None or not self.path.is_file():
            return
        with refusing(f"cannot read {self.path}"):
            lines = self.path.read_bytes().splitlines()
        for number, line in enumerate(lines, 1):
            try:
                proof = Proof.read(line)
                problem = proof.problem()
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                problem = str(error)
            yield UserError(f"{self.path}:{number}: {problem}") if problem else proof

    @cached_property
    def proofs(self) -> list[Proof]:
        """Those that hold."""
        return [found for found in self.lines() if isinstance(found, Proof)]

    @cached_property
    def _steps(self) -> dict[str, list[Proof]]:
        """The proofs of each path through the code."""
        found: dict[str, list[Proof]] = {}
        for proof in self.proofs:
            found.setdefault(proof.path, []).append(proof)
        return found

    def kinds(self, one: str, other: str, spec: RunSpec) -> frozenset[str]:
        """The kinds of device on which two codes were shown to give runs such as ``spec`` the
        same bits, maybe by way of codes between them.
        """
        proofs = self._steps.get(path_of(spec), []) if self.proofs else []
        by_kind = {kind: [p.codes for p in proofs if p.kind == kind] for kind in _kinds(proofs)}
        return frozenset(kind for kind, pairs in by_kind.items() if other in _reach(one, pairs))

    def newest(self, digest: str, spec: RunSpec, kind: str) -> Proof | None:
        """The proof at the end of the chain that begins with the code ``digest``, if there is one:
        its newer code gives runs such as ``spec`` the same bits, and less is left to be shown.
        """
        proofs = {p.codes[0]: p for p in self._steps.get(path_of(spec), []) if p.kind == kind}
        found, seen = None, {digest}
        while (proof := proofs.get(digest)) is not None and proof.codes[1] not in seen:
            found, digest = proof, proof.codes[1]
            seen.add(digest)
        return found

    def write(self, proofs: Iterable[Proof]) -> None:
        """Replace the file's lines, ordered by run and code."""
        assert self.path is not None
        ordered = sorted(proofs, key=lambda proof: (proof.before.run_id, proof.codes, proof.kind))
        with refusing(f"cannot write {self.path}"):
            write_text(self.path, "".join(f"{proof.line()}\n" for proof in ordered))


def _kinds(proofs: Iterable[Proof]) -> set[str]:
    return {proof.kind for proof in proofs}


def _reach(start: str, pairs: list[tuple[str, str]]) -> set[str]:
    """Everything that a chain of equal codes leads to."""
    found, waiting = {start}, [start]
    while waiting:
        here = waiting.pop()
        for pair in pairs:
            if here in pair:
                waiting += [each for each in pair if each not in found]
                found.update(pair)
    return found
