"""Runs' files → a tracker: what is new of a run, whenever somebody says that there is something."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from adamwprune.config.options import Value
from adamwprune.errors import UserError
from adamwprune.record import RunResult
from adamwprune.report import export
from adamwprune.spec import RunSpec
from adamwprune.store import METRICS, PROGRESS, RESULT, SPEC, read_result
from adamwprune.trackers import UNFINISHED, Log, Run, Tracker

Entry = dict[str, Any]
_SUMMARY = ("final_", "pruning_", "memory_", "seconds_")  # columns of the export


@dataclass(frozen=True)
class _State:
    """What a run's files say."""

    run: Run
    entries: list[Entry]
    record: RunResult | None = None  # None while it trains


@dataclass
class _Open:
    """A log that is being written, and what is in it."""

    log: Log
    run: Run
    entries: list[Entry] = field(default_factory=list)

    def continues(self, state: _State) -> bool:
        """Whether what the files say agrees with what was written.

        A run that was killed goes on from its checkpoint: it trains an epoch again that was
        written already, in another time. A file that is a shorter one only has not caught up yet.
        """
        both = zip(self.entries, state.entries, strict=False)
        return self.run.code == state.run.code and all(old == new for old, new in both)


class Follower:
    """Keeps a tracker up with the runs below ``root``."""

    def __init__(self, tracker: Tracker, root: Path, group: str) -> None:
        self.tracker, self.root, self.group = tracker, root, group
        self._open: dict[str, _Open] = {}

    def look(self, run_id: str) -> None:
        """Write what is new of a run.

        Where the files contradict what was written (the run was resumed, or trained again) its log
        is begun anew: no point is ever there twice. :class:`UserError` for files that are damaged.
        """
        state = _state(self.root / run_id, self.group)
        opened = self._open.get(run_id)
        if opened is not None and not opened.continues(state):
            self._end(run_id, UNFINISHED, {})
            opened = None
        if opened is None:
            opened = self._open[run_id] = _Open(self.tracker.begin(state.run), state.run)
        for entry in state.entries[len(opened.entries) :]:
            opened.log.epoch(entry)
            opened.entries.append(entry)
        if state.record is not None:
            self._end(run_id, state.record.status, summary(state.record))

    def close(self) -> None:
        """Complete the logs of runs that have not ended."""
        for run_id in list(self._open):
            self._end(run_id, UNFINISHED, {})

    def _end(self, run_id: str, status: str, values: Mapping[str, Value]) -> None:
        self._open.pop(run_id).log.end(status, values)


def summary(record: RunResult) -> dict[str, Value]:
    """What a record says of the whole run, by the columns of ``make export``."""
    (row,) = export.table([record], []).rows
    wanted = {name: value for name, value in row.items() if name.startswith(_SUMMARY)}
    known = {name: value for name, value in wanted.items() if value is not None}
    return {"status": record.status, **known, **({"error": row["error"]} if row["error"] else {})}


def _state(folder: Path, group: str) -> _State:
    """What a run's directory says: of a training under way, or else of its record.

    While a run trains its ``progress.json`` is there, and a record beside it is an older one's.
    """
    try:
        progress = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        return _live(folder, progress, group)
    except FileNotFoundError:
        if not (folder / RESULT).is_file():
            raise UserError(f"{folder}: there is neither a record nor a run under way") from None
        return _recorded(read_result(folder / RESULT), group)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{folder}: is not the directory of a run under way: {error}") from None


def _live(folder: Path, progress: Mapping[str, Any], group: str) -> _State:
    spec = RunSpec(yaml.safe_load((folder / SPEC).read_text(encoding="utf-8")))
    if spec.run_id != folder.name:
        raise ValueError(f"{SPEC} is that of another run, {spec.run_id}")
    begun = progress["updated"] - progress["seconds"]
    text = (folder / METRICS).read_text(encoding="utf-8")
    return _State(Run(spec, progress["code"], begun, group), list(_whole_lines(text)))


def _recorded(record: RunResult, group: str) -> _State:
    code = str(record.code.get("digest", ""))
    started = record.environment.get("started") or record.environment.get("ended")
    begun = datetime.fromisoformat(started).timestamp() if started else 0.0
    return _State(Run(record.spec, code, begun, group), record.history, record)


def _whole_lines(text: str) -> Iterator[Entry]:
    """The entries but one that is being written."""
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)
