"""What is asked of records most often, kept in one file beside them: ``results/.index.json``.

Ten thousand records take seconds to read, and ``make status`` and ``make plan`` need three things
of each. The index is never the truth. An entry counts only while the record's file is the one that
was read, by its times of writing and of change, size and inode; a file that was changed a moment
before is not entered, for it might be changed again within the same tick of the clock. Whether a
record is stale is never kept: it is judged anew by the code that made it. An index that is missing,
damaged, or written by another version is as good as none, and costs what reading the records costs.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adamwprune.base import forms
from adamwprune.base.files import write_bytes
from adamwprune.plan import lineage, spec
from adamwprune.plan.spec import RunSpec
from adamwprune.records import record, store
from adamwprune.records.record import Brief, RunResult
from adamwprune.records.store import RESULT, TICK, Stamp, Store, stamp

FILE = ".index.json"
WORTH = 50  # the index is written anew once one of so many entries would be new


@dataclass(frozen=True)
class _Entry:
    """A record in brief, and the file it was read from."""

    stamp: Stamp
    identity: str  # of the spec that the record was found to be of
    status: str
    code: int  # place among the codes, of which there are few
    error: str


class Index:
    """A store whose records are read in brief; a file that was read before is not read again.

    Which runs have a directory is looked up once: one object serves one look at a matrix.
    """

    def __init__(self, records: Store) -> None:
        self.store = records
        self._root = str(records.root)
        self._path = records.root / FILE
        self._entries: dict[str, _Entry] = {}
        self._codes: list[dict[str, Any]] = []
        self._places: dict[str, int] = {}  # of the codes, by their digest
        self._learned = 0
        self._load()

    @property
    def root(self) -> Path:
        """The directory of all runs."""
        return self.store.root

    @functools.cached_property
    def _runs(self) -> frozenset[str]:
        return store.names_in(self.root)

    def folder(self, spec: RunSpec) -> Path:
        """The directory of one run."""
        return self.store.folder(spec)

    def files(self, spec: RunSpec) -> frozenset[str]:
        """The names of the files of one run; none where it has no directory."""
        return self.store.files(spec) if spec.run_id in self._runs else frozenset()

    def is_running(self, spec: RunSpec) -> bool:
        """Whether a process is training this run."""
        return spec.run_id in self._runs and self.store.is_running(spec)

    def result(self, spec: RunSpec) -> Brief | None:
        """What the record of a run says, or None where there is none.

        Raises :class:`~adamwprune.base.errors.UserError` for a damaged one, every time.
        """
        name = spec.run_id
        if name not in self._runs:
            return None
        now = time.time_ns()
        # Before it is read: what replaces it meanwhile has another stamp.
        found = stamp(f"{self._root}/{name}/{RESULT}")
        entry = self._entries.get(name)
        if entry is not None and (entry.stamp, entry.identity) == (found, _identity(spec)):
            return Brief(spec, entry.status, self._codes[entry.code], entry.error)
        brief = self._brief(self.store.result(spec))
        if brief is not None and found is not None and now - found[1] > TICK:
            self._learn(name, found, brief)
        return brief

    @staticmethod
    def _brief(result: RunResult | None) -> Brief | None:
        if result is None:
            return None
        return Brief(result.spec, result.status, result.code, _last_line(result.error))

    def _learn(self, name: str, found: Stamp, brief: Brief) -> None:
        digest = str(brief.code.get("digest"))
        place = self._places.get(digest)
        if place is None or self._codes[place] != brief.code:
            place = self._places[digest] = len(self._codes)
            self._codes.append(dict(brief.code))
        self._entries[name] = _Entry(found, _identity(brief.spec), brief.status, place, brief.error)
        self._learned += 1

    # -- the file ----------------------------------------------------------------

    def _load(self) -> None:
        try:
            head, body = self._path.read_bytes().split(b"\n", 1)
            if head != _head(body):
                return
            known = json.loads(body)
            entries = {name: _Entry(tuple(s), *rest) for name, (s, *rest) in known["runs"].items()}
            codes = list(known["codes"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return
        self._entries, self._codes = entries, codes
        self._places = {str(code.get("digest")): place for place, code in enumerate(codes)}

    def save(self) -> None:
        """Write what was learned, if that is worth it; a directory that refuses is left alone.

        Who writes at the same time replaces the file as a whole: what one of them learned is lost.
        """
        if not self._learned or WORTH * self._learned < len(self._entries):
            return
        entries = {name: each for name, each in self._entries.items() if name in self._runs}
        used = sorted({entry.code for entry in entries.values()})
        codes, places = [self._codes[place] for place in used], {p: n for n, p in enumerate(used)}
        rows = {
            name: [each.stamp, each.identity, each.status, places[each.code], each.error]
            for name, each in entries.items()
        }
        body = json.dumps({"codes": codes, "runs": rows}, separators=(",", ":")).encode()
        with contextlib.suppress(OSError):
            write_bytes(self._path, _head(body) + b"\n" + body, durable=False, folder=False)


@contextlib.contextmanager
def opened(records: Store) -> Iterator[Index]:
    """The store's index; what is learned meanwhile is kept."""
    index = Index(records)
    yield index
    index.save()


def _identity(spec: RunSpec) -> str:
    """All of what a run's name has ten digits of: two runs of one name are told apart."""
    return hashlib.sha256(json.dumps(spec.identity, sort_keys=True).encode()).hexdigest()[:32]


def _head(body: bytes) -> bytes:
    """The first line of an index with this content, as this version writes it."""
    return f"{_version()} {hashlib.sha256(body).hexdigest()}".encode()


@functools.cache
def _version() -> str:
    """Of all that reads a record and this index: other code may judge a record otherwise."""
    modules = (lineage, forms, record, spec, store)
    paths = [Path(__file__), *(Path(str(module.__file__)) for module in modules)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _last_line(error: str) -> str:
    """The end of a traceback, or nothing."""
    lines = error.strip().splitlines()
    return lines[-1] if lines else ""
