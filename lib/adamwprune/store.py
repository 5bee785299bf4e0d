"""Disk is truth: a run is a directory named by its identity, done when ``result.json`` is there.

A record is written to a temporary file and renamed, so that it is there as a whole or not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from adamwprune.errors import UserError
from adamwprune.files import refusing, write_text
from adamwprune.record import RunResult
from adamwprune.spec import RunSpec

RESULT = "result.json"
REMEDY = "remove it to train the run again"


@dataclass(frozen=True)
class Store:
    """The directory of all runs."""

    root: Path

    def folder(self, spec: RunSpec) -> Path:
        """The directory of one run; only that run writes there."""
        return self.root / spec.run_id

    def result(self, spec: RunSpec) -> RunResult | None:
        """The record of a run, done or failed, or None where there is none."""
        path = self.folder(spec) / RESULT
        if not path.is_file():
            return None
        result = read_result(path)
        if result.spec != spec:
            raise UserError(f"{path}: is the record of another run, {result.run_id}; {REMEDY}")
        return result

    def status(self, spec: RunSpec) -> str:
        """``done``, ``failed`` or ``missing``."""
        result = self.result(spec)
        return result.status if result else "missing"

    def find(self, prefix: str) -> RunResult:
        """The one record whose identity starts with ``prefix``."""
        found = [
            path
            for path in sorted(self.root.glob(f"*/{RESULT}"))
            if path.parent.name.startswith(prefix)
        ]
        exact = [path for path in found if path.parent.name == prefix]
        if len(exact or found) == 1:
            return read_result((exact or found)[0])
        if not found:
            raise UserError(f"{self.root}: no run starts with {prefix!r}")
        names = ", ".join(path.parent.name for path in found[:5])
        raise UserError(f"{prefix!r} is the start of {len(found)} runs: {names} ...")

    def prepare(self, spec: RunSpec, minimal: str, full: str) -> Path:
        """The run's directory, with the files that say what it is; an old failure is removed."""
        folder = self.folder(spec)
        with refusing(f"cannot write to {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / RESULT).unlink(missing_ok=True)
            write_text(folder / "defconfig", minimal)
            write_text(folder / "config", full)
            write_text(folder / "spec.yaml", yaml.safe_dump(dict(spec.values), sort_keys=True))
        return folder

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory against a second scheduler; :class:`UserError` if there is one.

        The lock is the operating system's: it ends with the process that holds it.
        """
        with refusing(f"cannot write to {self.root}"):
            stream = (self.root / ".lock").open("w")
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another make is training into {self.root}; wait for it, then try again"
                ) from None
            yield

    def check_writable(self) -> None:
        """Raise :class:`UserError` unless runs can be written."""
        with refusing(f"cannot write to {self.root}"):
            if self.root.exists() and not self.root.is_dir():
                raise NotADirectoryError(20, "is not a directory")
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe.{os.getpid()}"
            probe.write_bytes(b"\0" * 4096)
            probe.unlink()


def read_result(path: Path) -> RunResult:
    """The record in ``path``; :class:`UserError` if it is not one."""
    try:
        return RunResult.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}; {REMEDY}") from None


def publish(folder: Path, result: RunResult) -> None:
    """Write ``result.json``, all at once: the sign that the run has ended."""
    write_text(folder / RESULT, json.dumps(result.to_json(), indent=1) + "\n")


def read_published(folder: Path) -> list[RunResult]:
    """The frozen records in ``folder/*.jsonl``; :class:`UserError` names a line that is none."""
    results = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                results.append(RunResult.from_json(json.loads(line)))
            except ValueError as error:
                raise UserError(f"{path}:{number}: {error}") from None
    return results


def write_published(path: Path, results: list[RunResult]) -> None:
    """Records verbatim, one JSON line each, ordered by identity."""
    lines = [json.dumps(r.to_json()) for r in sorted(results, key=lambda r: r.run_id)]
    with refusing(f"cannot write {path}"):
        write_text(path, "".join(f"{line}\n" for line in lines))
