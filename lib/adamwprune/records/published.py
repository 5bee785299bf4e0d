"""Published records: the tracked files ``results/published/NAME.jsonl``, one record a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from adamwprune.base.errors import UserError
from adamwprune.base.files import obstacle, refusing, write_text
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult


def read_published(folder: Path, own: str = "") -> list[RunResult]:
    """The records in ``folder/*.jsonl``, one a run; :class:`UserError` names a damaged line.

    A run may have been published under several names, from different machines. The record under
    the name ``own`` counts, so that a table is a function of its own file; without one, the first
    by name.
    """
    results: dict[RunSpec, RunResult] = {}
    for found in each_published(folder, own):
        if isinstance(found, UserError):
            raise found
        results.setdefault(found.spec, found)
    return list(results.values())


def each_published(folder: Path, own: str = "") -> Iterator[RunResult | UserError]:
    """Line by line the record, or what is wrong with it; the file ``own`` comes first.

    :class:`UserError` is raised for a file that cannot be read.
    """
    for path in sorted(_files(folder), key=lambda path: (path.stem != own, path)):
        yield from _lines(path)


def _lines(path: Path) -> Iterator[RunResult | UserError]:
    with refusing(f"cannot read {path}"), path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield RunResult.from_json(json.loads(line.rstrip(b"\r\n")))
            except (ValueError, RecursionError) as error:
                yield UserError(f"{path}:{number}: {obstacle(line) or error}")


def published_as(folder: Path, name: str) -> list[RunResult]:
    """The records in ``folder/NAME.jsonl`` alone; none where that is not there."""
    path = folder / f"{name}.jsonl"
    return list(_records(path)) if path.is_file() else []


def _records(path: Path) -> Iterator[RunResult]:
    for found in _lines(path):
        if isinstance(found, UserError):
            raise found
        yield found


def _files(folder: Path) -> list[Path]:
    """The files of records; none where the folder is not there."""
    with refusing(f"cannot read {folder}"):
        try:
            names = os.listdir(folder)  # noqa: PTH208  glob takes one that is unreadable for empty
        except FileNotFoundError:
            return []
    return [folder / name for name in names if name.endswith(".jsonl") and name[0] != "."]


def write_published(path: Path, results: list[RunResult]) -> None:
    """Records verbatim, one JSON line each, ordered by identity."""
    lines = [json.dumps(r.to_json()) for r in sorted(results, key=lambda r: r.run_id)]
    with refusing(f"cannot write {path}"):
        write_text(path, "".join(f"{line}\n" for line in lines))
