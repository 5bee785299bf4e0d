"""Disk is truth: a run is a directory named by its identity, done when ``result.json`` is there.

A record is written to a temporary file and renamed, so that it is there as a whole or not at all.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import itertools
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

import yaml

from adamwprune.base.errors import UserError
from adamwprune.base.files import refusing, remove_leftovers, write_text
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult

RESULT = "result.json"
PROGRESS = "progress.json"
METRICS = "metrics.jsonl"
SPEC = "spec.yaml"
WEIGHTS = "weights.pt"
CHECKPOINTS = ("checkpoint.pt", "checkpoint-previous.pt")  # newest first
LOG = "log.txt"
LOG_TAIL = 30  # lines of a failed run's log that its record keeps
LOCK = ".lock"
REMEDY = "remove it to train the run again"

Named = TypeVar("Named")
Waiting = Callable[[str], None]  # told the process id of whoever is waited for
POLL = 0.1  # seconds between looks at a lock that another process holds
BRIEFLY = 5  # looks before it is told: who only asks for a lock holds it for a moment
TICK = 3 * 10**9  # ns; file systems tell times apart by 2 s at the worst

Stamp = tuple[int, ...]


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

    def files(self, spec: RunSpec) -> frozenset[str]:
        """The names of a run's files; none where it has no directory."""
        return names_in(self.folder(spec))

    def sound_results(self) -> Iterator[RunResult]:
        """All records, of whatever configuration, but those that are damaged."""
        for path in self._paths():
            with contextlib.suppress(UserError):
                yield read_result(path)

    def _paths(self) -> list[Path]:
        return sorted(self.root.glob(f"*/{RESULT}"))

    def find(self, prefix: str, others: Mapping[str, RunResult] | None = None) -> RunResult:
        """The one record whose identity starts with ``prefix``: here, or else among ``others``.

        Raises :class:`UserError` where there is none or are several.
        """
        known: dict[str, RunResult | Path] = dict(others or {})
        known.update({path.parent.name: path for path in self._paths()})
        found = only(prefix, known)
        if found is None:
            raise UserError(f"{self.root}: no run starts with {prefix!r}")
        return found if isinstance(found, RunResult) else read_result(found)

    def prepare(self, spec: RunSpec, minimal: str, full: str) -> Path:
        """The run's directory, with the files that say what it is.

        A stale record that is there stays until the next one replaces it: the code may be changed
        back. One of a failure goes: the run is tried again.
        """
        folder = self.folder(spec)
        with refusing(f"cannot write to {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            found = self.result(spec)
            if found is not None and found.status == "failed":
                (folder / RESULT).unlink()
            write_text(folder / "defconfig", minimal)
            write_text(folder / "config", full)
            write_text(folder / SPEC, yaml.safe_dump(dict(spec.values), sort_keys=True))
        return folder

    def progress(self, spec: RunSpec) -> dict[str, Any] | None:
        """How far a run had come when it last said so, if it can go on from there: it has a
        checkpoint. None otherwise; what is damaged counts as never said.
        """
        if not has_checkpoint(self.folder(spec)):
            return None
        try:
            found = json.loads((self.folder(spec) / PROGRESS).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def is_running(self, spec: RunSpec) -> bool:
        """Whether a process is training this run."""
        return is_locked(self.folder(spec) / LOCK)

    @contextlib.contextmanager
    def locked(self, wait: Waiting) -> Iterator[None]:
        """Hold the directory for one scheduler; one that finds it held waits, and says so."""
        with refusing(f"cannot write to {self.root}"):
            self.root.mkdir(parents=True, exist_ok=True)
        with lock(self.root / LOCK, wait):
            with refusing(f"cannot write to {self.root}"):
                remove_leftovers(self.root)
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


def stamp(path: str) -> Stamp | None:
    """What tells a file from another of its name: when it was written and when changed, in ns, its
    size and its inode. None where there is none.
    """
    try:
        found = os.stat(path)  # noqa: PTH116  half the time
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def names_in(folder: Path) -> frozenset[str]:
    """The names of what is in a directory; none where it is not there or cannot be read."""
    with contextlib.suppress(OSError):
        return frozenset(os.listdir(folder))  # noqa: PTH208  a path each would take half the time
    return frozenset()


def has_checkpoint(folder: Path) -> bool:
    """Whether a run left a checkpoint to go on from, sound or not."""
    return any((folder / name).is_file() for name in CHECKPOINTS)


def goes_on(folder: Path) -> bool:
    """Whether a run that nobody trains goes on from its checkpoint: that counts before a record.

    Not where the record is the newer one: then the run had ended, and was killed before it removed
    its checkpoint and its last ``progress.json``.
    """
    if not has_checkpoint(folder):
        return False
    try:
        told = (folder / PROGRESS).stat().st_mtime_ns
        return (folder / RESULT).stat().st_mtime_ns < told
    except FileNotFoundError:
        return True


def only(prefix: str, named: Mapping[str, Named]) -> Named | None:
    """The one whose name is ``prefix`` or starts with it; :class:`UserError` for several."""
    names = [prefix] if prefix in named else [name for name in named if name.startswith(prefix)]
    if len(names) > 1:
        more = ", ..." if len(names) > 5 else ""
        raise UserError(
            f"{prefix!r} is the start of {len(names)} runs: {', '.join(names[:5])}{more}"
        )
    return named[names[0]] if names else None


@contextlib.contextmanager
def lock(
    path: Path, wait: Waiting, patience: Callable[[], None] = lambda: None
) -> Iterator[Callable[[], bool]]:
    """Hold a file of this name; where another process does, call ``wait`` with its id and wait.

    ``patience`` is called meanwhile and may raise. The lock is the operating system's: it ends with
    the process that holds it, however that ends. Yields a function that says whether the file that
    is held is still the one of this name: a directory may be moved, and another take its place.
    """
    with refusing(f"cannot write to {path.parent}"):
        stream = path.open("a+", encoding="utf-8")
    with stream:
        _acquire(stream, wait, patience)
        with refusing(f"cannot write to {path.parent}"):
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
        held = os.fstat(stream.fileno())
        yield lambda: path.exists() and os.path.samestat(held, path.stat())


def _acquire(stream: TextIO, wait: Waiting, patience: Callable[[], None]) -> None:
    for look in itertools.count():
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if look == BRIEFLY:
            stream.seek(0)
            wait(stream.read(20).strip() or "unknown")
        patience()
        time.sleep(POLL)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of this name."""
    try:
        stream = path.open("rb")
    except OSError:
        return False
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def read_result(path: Path) -> RunResult:
    """The record in ``path``; :class:`UserError` if it is not one."""
    try:
        return RunResult.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: {error}; {REMEDY}") from None


def publish(folder: Path, result: RunResult) -> None:
    """Write ``result.json``, all at once: the sign that the run has ended."""
    write_text(folder / RESULT, json.dumps(result.to_json(), indent=1) + "\n", folder=False)


def publish_failure(
    folder: Path,
    spec: RunSpec,
    error: str,
    environment: Mapping[str, Any],
    code: Mapping[str, Any],
) -> RunResult:
    """Record that a run failed: ``error``, and the end of its log."""
    tail = _tail(folder / LOG)
    text = f"end of {LOG}:\n{tail}\n\n{error.rstrip()}" if tail else error.rstrip()
    ended = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    place = {**environment, "host": socket.gethostname(), "ended": ended}
    result = RunResult(spec.run_id, "failed", spec, environment=place, code=dict(code), error=text)
    with refusing(f"cannot write to {folder}"):
        publish(folder, result)
        (folder / PROGRESS).unlink(missing_ok=True)  # it is no longer on its way
    return result


def _tail(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-LOG_TAIL:])


def read_published(folder: Path, own: str = "") -> list[RunResult]:
    """The frozen records in ``folder/*.jsonl``, one a run; :class:`UserError` names a line that is
    none.

    A run may have been published by several names, from different machines. Of these records the
    one under the name ``own`` counts, so that a table is a function of its own file, and otherwise
    the first by name.
    """
    results: dict[RunSpec, RunResult] = {}
    for found in each_published(folder, own):
        if isinstance(found, UserError):
            raise found
        results.setdefault(found.spec, found)
    return list(results.values())


def each_published(folder: Path, own: str = "") -> Iterator[RunResult | UserError]:
    """Line by line the record, or what is wrong with it, those under the name ``own`` first;
    :class:`UserError` is raised for a file that cannot be read.
    """
    for path in sorted(folder.glob("*.jsonl"), key=lambda path: (path.stem != own, path)):
        with refusing(f"cannot read {path}"):
            lines = path.read_bytes().splitlines()
        for number, line in enumerate(lines, 1):
            try:
                yield RunResult.from_json(json.loads(line))
            except (ValueError, RecursionError) as error:
                yield UserError(f"{path}:{number}: {error}")


def write_published(path: Path, results: list[RunResult]) -> None:
    """Records verbatim, one JSON line each, ordered by identity."""
    lines = [json.dumps(r.to_json()) for r in sorted(results, key=lambda r: r.run_id)]
    with refusing(f"cannot write {path}"):
        write_text(path, "".join(f"{line}\n" for line in lines))
