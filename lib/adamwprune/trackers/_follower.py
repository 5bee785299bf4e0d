"""Runs' files → a tracker: what is new of a run, whenever somebody says that there is something."""

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from adamwprune.base.errors import UserError
from adamwprune.config.options import Value
from adamwprune.plan.spec import RunSpec
from adamwprune.records.brief import read_result
from adamwprune.records.locks import is_locked
from adamwprune.records.record import RunResult
from adamwprune.records.store import LOCK, METRICS, PROGRESS, RESULT, SPEC, goes_on
from adamwprune.report import export
from adamwprune.trackers import UNFINISHED, Log, Run, Tracker

Entry = dict[str, Any]
_SUMMARY = ("final_", "pruning_", "memory_", "seconds_")  # columns of the export


@dataclass(frozen=True)
class _State:
    """What a run's files say."""

    run: Run
    entries: list[Entry]
    status: str = ""  # of its record; empty while it trains
    summary: dict[str, Value] = field(default_factory=dict)


class Follower:
    """Keeps a tracker up with the runs below ``root``."""

    def __init__(self, tracker: Tracker, root: Path, group: str) -> None:
        self.tracker, self.root, self.group = tracker, root, group
        self._open: dict[str, tuple[Log, _State]] = {}  # and what is in it
        self._ended: dict[str, _State] = {}  # what is in the logs that are complete

    def look(self, run_id: str) -> None:
        """Write what is new of a run.

        Where the files contradict what was written (the run was resumed, or trained again) its log
        is begun anew: no point is ever there twice. What is complete is written once, however often
        it is looked at. :class:`UserError` for files that are damaged; what the tracker raises is
        no such error.
        """
        state = _state(self.root / run_id, self.group)
        if self._ended.get(run_id) == state:
            return
        log, written = self._open.get(run_id, (None, state))
        if log is not None and not _continues(written, state):
            self._end(run_id, UNFINISHED, {})
            log = None
        if log is None:
            self._ended.pop(run_id, None)
            log, written = self.tracker.begin(state.run), _State(state.run, [])
            self._open[run_id] = log, written
        for entry in state.entries[len(written.entries) :]:
            log.epoch(entry)
            written.entries.append(entry)
        if state.status:
            self._end(run_id, state.status, state.summary)
            self._ended[run_id] = state

    def close(self) -> None:
        """Complete the logs of runs that have not ended."""
        for run_id in list(self._open):
            self._end(run_id, UNFINISHED, {})

    def _end(self, run_id: str, status: str, values: Mapping[str, Value]) -> None:
        self._open.pop(run_id)[0].end(status, values)


def _continues(written: _State, state: _State) -> bool:
    """Whether what the files say agrees with what was written.

    A run that was killed goes on from its checkpoint: it trains an epoch again that was
    written already, in another time. A file that is a shorter one only has not caught up yet.
    """
    both = zip(written.entries, state.entries, strict=False)
    return written.run.code == state.run.code and all(old == new for old, new in both)


def summary(record: RunResult) -> dict[str, Value]:
    """What a record says of the whole run, by the columns of ``make export``."""
    (row,) = export.table([record], []).rows
    wanted = {name: value for name, value in row.items() if name.startswith(_SUMMARY)}
    known = {name: value for name, value in wanted.items() if value is not None}
    return {"status": record.status, **known, **({"error": row["error"]} if row["error"] else {})}


def _state(folder: Path, group: str) -> _State:
    """What a run's directory says: of a training that is under way or goes on, or of its record."""
    try:
        trains = is_locked(folder / LOCK) or goes_on(folder)
        for read in (_live, _recorded) if trains else (_recorded, _live):
            with contextlib.suppress(FileNotFoundError):
                return read(folder, group)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  whatever is in its files, other runs' are sound
        raise UserError(f"{folder}: cannot be read: {type(error).__name__}: {error}") from None
    raise UserError(f"{folder}: there is neither a record nor a run under way")


def _live(folder: Path, group: str) -> _State:
    """By its ``progress.json``, its configuration and the epochs that it has finished."""
    progress = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    spec = _own(folder, RunSpec(yaml.safe_load((folder / SPEC).read_text(encoding="utf-8"))))
    begun = progress["updated"] - progress["seconds"]
    lines = (folder / METRICS).read_text(encoding="utf-8").splitlines(keepends=True)
    entries = [json.loads(line) for line in lines if line.endswith("\n")]  # the last is half there
    return _State(Run(spec, str(progress["code"]), begun, group), _checked(entries))


def _recorded(folder: Path, group: str) -> _State:
    if not (folder / RESULT).is_file():
        raise FileNotFoundError
    record = read_result(folder / RESULT)
    spec, code = _own(folder, record.spec), str(record.code.get("digest", ""))
    started = record.environment.get("started") or record.environment.get("ended")
    begun = datetime.fromisoformat(started).timestamp() if started else 0.0
    run = Run(spec, code, begun, group)
    return _State(run, _checked(record.history), record.status, summary(record))


def _own(folder: Path, spec: RunSpec) -> RunSpec:
    if spec.run_id != folder.name:
        raise ValueError(f"its files are those of another run, {spec.run_id}")
    return spec


def _checked(entries: list[Entry]) -> list[Entry]:
    """Those entries, where each has what every tracker counts on."""
    for entry in entries:
        if not all(math.isfinite(entry[name]) for name in ("step", "seconds")):
            raise ValueError(f"an epoch ends at step {entry['step']}, {entry['seconds']} s")
    return entries
