"""What make shows at the end: tables as text, figures as files, both only from records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from adamwprune.files import refusing, write_text
from adamwprune.report import tables
from adamwprune.spec import RunResult, RunSpec

STAMP = ".drawn"  # names what the figures beside it were drawn from


def tables_of(
    expected: Sequence[RunSpec], records: Sequence[RunResult], format: str, memory: bool
) -> str:
    """The accuracy table and, on demand, the memory table, in ``format``."""
    parts = [tables.render(tables.accuracy_rows(expected, records), format)]
    if memory:
        parts.append(tables.render(tables.memory_rows(expected, records), format))
    return "\n".join(parts)


def draw_if_changed(
    expected: Sequence[RunSpec], records: Sequence[RunResult], folder: Path
) -> list[Path]:
    """Draw every figure into ``folder`` unless those there show the same; the files written."""
    stamp, digest = folder / STAMP, _digest(expected, records)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
        return []
    from adamwprune.report.figures import draw_all  # matplotlib is slow to import

    paths = draw_all(expected, records, folder, ("png", "svg"))
    with refusing(f"cannot write to {folder}"):
        write_text(stamp, digest)
    return paths


def _digest(expected: Sequence[RunSpec], records: Sequence[RunResult]) -> str:
    content = [[spec.run_id for spec in expected], [record.to_json() for record in records]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
