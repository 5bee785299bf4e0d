"""What make shows at the end: tables as text, figures as files, both only from records."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adamwprune.base.files import refusing, write_text
from adamwprune.plan.spec import RunSpec
from adamwprune.records.published import write_published
from adamwprune.records.record import FROZEN, RunResult
from adamwprune.report import choice, comparisons, tables
from adamwprune.report.comparisons import Commands
from adamwprune.report.groups import settings
from adamwprune.report.statistics import Presets, judge

STAMP = ".drawn"  # names what the figures beside it were drawn from


@dataclass(frozen=True)
class Request:
    """How the runs of a report were asked for."""

    presets: Presets = field(default_factory=dict)
    commands: Commands = field(default_factory=Commands)


def tables_of(
    expected: Sequence[RunSpec],
    records: Sequence[RunResult],
    format: str,
    memory: bool,
    request: Request | None = None,
) -> str:
    """The table of results, its comparisons and, on demand, the memory table, in ``format``.

    As CSV there are tables only.
    """
    request = request or Request()
    found, width = settings(expected, records), tables.terminal_width()
    verdicts = judge(found, request.presets)
    rows = tables.result_rows(expected, records, verdicts.leading)
    best = comparisons.paragraphs(choice.sentences(found, request.commands), format, width)
    told = comparisons.render(verdicts, format, width, request.commands)
    parts = [tables.render(rows, format), *filter(None, [best, told])]
    if memory:
        parts.append(tables.render(tables.memory_rows(expected, records), format))
    return "\n".join(parts)


def publish(
    folder: Path,
    name: str,
    expected: Sequence[RunSpec],
    records: Sequence[RunResult],
    memory: bool,
    presets: Presets | None = None,
) -> None:
    """Write ``name.jsonl``, the records verbatim, and ``name.md``, their tables, into ``folder``.

    ``name`` is that of the defconfig, whose runs these are on every machine.
    A mark that a record is published says nothing here, and would come and go with the code.
    """
    plain = [replace(record, marks=record.marks - {FROZEN}) for record in records]
    write_published(folder / f"{name}.jsonl", plain)
    # Whoever reads the table has these records, and trains only what is missing.
    request = Request(presets or {}, Commands({"CONFIG": name, "PUBLISHED": "1"}))
    with refusing(f"cannot write to {folder}"):
        write_text(folder / f"{name}.md", tables_of(expected, plain, "markdown", memory, request))


def check_format(format: str) -> None:
    """Raise :class:`UserError` for a format that no table has."""
    tables.render([], format)


def draw_if_changed(
    expected: Sequence[RunSpec],
    records: Sequence[RunResult],
    folder: Path,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Draw every figure into ``folder`` unless those there show the same; the files written.
    ``tell`` is told of a figure whose data no record holds.

    Figures of an earlier configuration are removed: nothing beside the new ones would say that
    they show other runs.
    """
    before, digest = _stamped(folder), _digest(expected, records)
    files = before.get("files", [])
    if before.get("digest") == digest and all((folder / name).is_file() for name in files):
        return []
    from adamwprune.report.figures import draw_all  # matplotlib is slow to import

    paths = draw_all(expected, records, folder, ("png", "svg"), tell=tell)
    names = [path.name for path in paths]
    with refusing(f"cannot write to {folder}"):
        for name in {Path(str(file)).name for file in files} - {*names, ""}:
            (folder / name).unlink(missing_ok=True)
        write_text(folder / STAMP, json.dumps({"digest": digest, "files": names}))
    return paths


def _stamped(folder: Path) -> dict[str, Any]:
    """What :func:`draw_if_changed` left: the digest of what was drawn, and the files."""
    try:
        return dict(json.loads((folder / STAMP).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _digest(expected: Sequence[RunSpec], records: Sequence[RunResult]) -> str:
    marked = [[record.to_json(), sorted(record.marks)] for record in records]
    content = [[spec.run_id for spec in expected], marked]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
