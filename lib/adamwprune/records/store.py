"""Disk is truth: a run is a directory named by its identity, done when ``result.json`` is there.

A record is written to a temporary file and renamed, so that it is there as a whole or not at all.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from adamwprune.base.errors import UserError
from adamwprune.base.files import (
    is_there,
    read_own,
    reason,
    refusing,
    remove_leftovers,
    unlink,
    write_bytes,
    write_text,
)
from adamwprune.plan.spec import RunSpec
from adamwprune.records import lease
from adamwprune.records.brief import REMEDY, Brief, checked, encode, read_brief, read_result
from adamwprune.records.locks import Waiting, is_locked, lock
from adamwprune.records.record import RunResult

RESULT = "result.json"
PROGRESS = "progress.json"
METRICS = "metrics.jsonl"
SPEC = "spec.yaml"
WEIGHTS = "weights.pt"
SAMPLE = "sample.txt"  # what a language model writes
LONGEST_SAMPLE = 10_000  # bytes that are read of it
CHECKPOINTS = ("checkpoint.pt", "checkpoint-previous.pt")  # newest first
TROUBLE = "checkpoint-trouble.json"  # what went wrong with the checkpoints so far
# In a run's directory only until the run has ended.
UNTIL_THEN = {PROGRESS, TROUBLE, *CHECKPOINTS, *(f"{name}.unusable" for name in CHECKPOINTS)}
LOG = "log.txt"
LOG_TAIL = 30  # lines of a failed run's log that its record keeps
LOCK = ".lock"
PROBE = ".probe"  # written and removed, to see whether that can be done

Named = TypeVar("Named")
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
        with refusing(str(path)):
            there = is_there(path)
        return checked(path, read_result(path), spec) if there else None

    def brief(self, spec: RunSpec) -> Brief | None:
        """What the record of a run says beside its numbers, or None where there is none."""
        return read_brief(f"{self.root}/{spec.run_id}/{RESULT}", spec)

    def files(self, spec: RunSpec) -> frozenset[str]:
        """The names of a run's files; none where it has no directory.

        Raises ``OSError`` where that cannot be read, which does not mean that the run is missing.
        """
        try:
            return frozenset(os.listdir(f"{self.root}/{spec.run_id}"))  # noqa: PTH208  half the time
        except FileNotFoundError:
            return frozenset()

    def spec(self, run_id: str) -> RunSpec | None:
        """The spec of a run that was begun, as its directory tells; None where it tells none, or
        that of another run.
        """
        spec = _spec_in(self.root / run_id)
        with contextlib.suppress(KeyError):  # it lacks what a run's id is made of
            return spec if spec and spec.run_id == run_id else None
        return None

    def sound_results(self) -> Iterator[RunResult]:
        """All records, of whatever configuration, but those that are damaged."""
        for path in record_paths(self.root):
            with contextlib.suppress(UserError):
                if isinstance(path, Path):
                    yield read_result(path)

    def begun_names(self) -> set[str]:
        """The names of all runs that were begun, also of those that cannot be read."""
        return {name for name in run_names(self.root) if _is_run(self.root / name)}

    def sample(self, spec: RunSpec) -> str:
        """The text that a run's network wrote; empty where there is none.

        Whatever is neither printed nor the end of a line is a question mark in a box.
        """
        try:
            found = read_own(self.folder(spec) / SAMPLE)[:LONGEST_SAMPLE]
        except OSError:
            return ""
        text = found.decode(errors="replace")
        return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)

    def samples(self, specs: Iterable[RunSpec]) -> dict[str, str]:
        """:meth:`sample` of the runs that have one, by run id."""
        found = {spec.run_id: self.sample(spec) for spec in specs}
        return {name: text for name, text in found.items() if text}

    def progress(self, spec: RunSpec) -> dict[str, Any] | None:
        """What a run last said of how far it is; None where it said nothing or that is damaged."""
        try:
            found = json.loads(read_own(self.folder(spec) / PROGRESS))
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def begun(self, spec: RunSpec) -> dict[str, Any] | None:
        """:meth:`progress` of a run that can go on from there: it has a checkpoint."""
        return self.progress(spec) if has_checkpoint(self.folder(spec)) else None

    def is_before_progress(self, spec: RunSpec) -> bool:
        """Whether a run's record is older than what the run last said, or is not there."""
        return _is_older(self.folder(spec) / RESULT, self.folder(spec) / PROGRESS)

    def is_running(self, spec: RunSpec) -> bool:
        """Whether a process is training this run, here or on another host."""
        folder = self.folder(spec)
        return is_locked(folder / LOCK) or lease.live_holder(folder) is not None

    @contextlib.contextmanager
    def locked(self, wait: Waiting) -> Iterator[None]:
        """Hold the directory for one scheduler; one that finds it held waits, and says so."""
        with refusing(f"cannot write to {self.root}"):
            self.root.mkdir(parents=True, exist_ok=True)
        with lock(self.root / LOCK, wait):
            with refusing(f"cannot write to {self.root}"):
                self._sweep()
            yield

    def _sweep(self) -> None:
        """Remove what killed commands left; to be called with the directory held."""
        remove_leftovers(self.root)
        for probe in self.root.glob(f"{PROBE}*"):
            discard(probe)

    def sweep(self, done: Iterable[RunSpec]) -> None:
        """Remove what kills left beside the runs and in those that are done.

        Not where another process is at work, and nothing where nothing can be removed.
        """
        littered = any(self.root.glob(".*.tmp")) or any(self.root.glob(f"{PROBE}*"))
        if littered:  # or the directory is not touched
            with contextlib.suppress(OSError, UserError), lock(self.root / LOCK, _leave, _leave):
                self._sweep()
        for folder in map(self.folder, done):
            with contextlib.suppress(OSError, UserError), lock(folder / LOCK, _leave, _leave):
                remove_leftovers(folder)
                if not goes_on(folder):  # make measure was stopped
                    has_ended(folder)

    def check_writable(self) -> None:
        """Raise :class:`UserError` unless runs can be written."""
        with refusing(f"cannot write to {self.root}"):
            if self.root.exists() and not self.root.is_dir():
                raise NotADirectoryError(20, "is not a directory")
            write_bytes(self.root / PROBE, b"\0" * 4096)
            (self.root / PROBE).unlink(missing_ok=True)


def stamp(path: str) -> Stamp | None:
    """What tells a file from another of its name: when it was written and when changed, in ns, its
    size and its inode. None where there is none.
    """
    try:
        found = os.stat(path)  # noqa: PTH116  half the time
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def record_paths(root: Path) -> Iterator[Path | UserError]:
    """The records below ``root`` by name, and an error for each directory that cannot be read."""
    try:
        names = run_names(root)
    except OSError as error:
        yield UserError(f"{root}: {reason(error)}")
        return
    for path in (root / name / RESULT for name in names):
        try:
            if is_there(path):
                yield path
        except OSError as error:
            yield UserError(f"{path}: {reason(error)}")


def run_names(root: Path) -> list[str]:
    """What may be the name of a run's directory; ``OSError`` where ``root`` cannot be read."""
    try:
        names = os.listdir(root)  # noqa: PTH208  a path each would take half the time
    except FileNotFoundError:
        return []
    return sorted(name for name in names if not name.startswith("."))


def _is_run(folder: Path) -> bool:
    """Whether a run was begun here; so it is taken to be where that cannot be seen."""
    try:
        return any(is_there(folder / name) for name in (SPEC, RESULT))
    except OSError:
        return True


def has_checkpoint(folder: Path) -> bool:
    """Whether a run left a checkpoint to go on from, sound or not."""
    return any((folder / name).is_file() for name in CHECKPOINTS)


def aside(path: Path) -> Path:
    """Where a checkpoint that cannot be used is kept for a look, until its run ends."""
    return path.with_name(f"{path.name}.unusable")


def discard(path: Path) -> None:
    """Remove a file, a link or a directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        unlink(path)


def remove_checkpoints(folder: Path) -> None:
    """Remove all that a run needs to go on, and what it could not use of that."""
    for path in (folder / name for name in CHECKPOINTS):
        discard(path)
        discard(aside(path))
    discard(folder / TROUBLE)


def has_ended(folder: Path) -> None:
    """Remove what is only there until a run has ended; its record is there."""
    remove_checkpoints(folder)
    discard(folder / PROGRESS)


def goes_on(folder: Path) -> bool:
    """Whether a run that nobody trains has something newer to go on from than its record.

    Where the record is the newer one, the run had ended, and was killed before it removed its
    checkpoint and its last ``progress.json``.
    """
    return has_checkpoint(folder) and _is_older(folder / RESULT, folder / PROGRESS)


def _is_older(one: Path, other: Path) -> bool:
    """Whether ``one`` was written before ``other``; so it is where either is not there."""
    try:
        return one.stat().st_mtime_ns < other.stat().st_mtime_ns
    except FileNotFoundError:
        return True


def is_littered(names: frozenset[str]) -> bool:
    """Whether some of a directory's files are there only until its run has ended."""
    return not names.isdisjoint(UNTIL_THEN) or any(name.endswith(".tmp") for name in names)


def _leave(_holder: str = "") -> None:
    """Do not wait for a lock."""
    raise BlockingIOError


def only(prefix: str, named: Mapping[str, Named]) -> Named | None:
    """The one whose name is ``prefix`` or starts with it; :class:`UserError` for several."""
    names = [prefix] if prefix in named else [name for name in named if name.startswith(prefix)]
    if len(names) > 1:
        more = ", ..." if len(names) > 5 else ""
        raise UserError(
            f"{prefix!r} is the start of {len(names)} runs: {', '.join(names[:5])}{more}"
        )
    return named[names[0]] if names else None


def prepare(folder: Path, spec: RunSpec, defconfig: str = "", config: str = "") -> Path:
    """Make a run's directory, and write the files that say what the run is.

    The record of a failure goes: the run is tried again. A stale one stays until the next one
    replaces it: the code may be changed back.
    """
    with refusing(f"cannot write to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        check_identity(folder, spec)
        result = folder / RESULT
        if is_there(result) and checked(result, read_result(result), spec).status == "failed":
            unlink(result)
        for name, text in (("defconfig", defconfig), ("config", config)):
            if text:
                write_text(folder / name, text)
        write_text(folder / SPEC, yaml.safe_dump(dict(spec.values), sort_keys=True))
    return folder


def check_identity(folder: Path, spec: RunSpec) -> None:
    """Raise :class:`UserError` where a directory says that it is another run's, or is a link."""
    if folder.is_symlink():
        raise UserError(f"{folder}: is a link; a run is trained in a directory of its own")
    named = _spec_in(folder)  # a damaged one is written anew
    if named is not None and named != spec:
        raise UserError(
            f"{folder}: is the directory of {named.run_id}, not of {spec.run_id}; {REMEDY}"
        )


def _spec_in(folder: Path) -> RunSpec | None:
    try:
        values = yaml.safe_load(read_own(folder / SPEC).decode())
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return RunSpec(values) if isinstance(values, dict) else None


def publish(folder: Path, result: RunResult) -> None:
    """Write ``result.json``, all at once: the sign that the run has ended."""
    write_text(folder / RESULT, encode(result), folder=False)


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
    check_identity(folder, spec)
    with refusing(f"cannot write to {folder}"):
        publish(folder, result)
        unlink(folder / PROGRESS)  # it is no longer on its way
    return result


def _tail(path: Path) -> str:
    try:
        lines = read_own(path).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-LOG_TAIL:])
