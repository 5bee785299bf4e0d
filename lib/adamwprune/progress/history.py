"""What past runs left to estimate from, and how good past estimates were.

The scores are in ``results/.eta.jsonl``, one line a matrix.
"""

import contextlib
import datetime
import heapq
import json
from dataclasses import dataclass
from pathlib import Path

from adamwprune.base.errors import UserError
from adamwprune.base.files import append_line, read_own
from adamwprune.base.forms import number
from adamwprune.progress.eta import Estimate
from adamwprune.records.brief import read_result
from adamwprune.records.record import RunResult
from adamwprune.records.store import RESULT, run_names, stamp

FILE = ".eta.jsonl"
LATEST = 100  # records that an estimate is made from: before them were other machines and code


def records(root: Path) -> list[RunResult]:
    """The latest records below ``root``, of whatever configuration; damaged ones are left out."""
    try:
        names = run_names(root)
    except OSError:
        return []
    paths = [f"{root}/{name}/{RESULT}" for name in names]
    stamped = [(written, path) for path in paths if (written := stamp(path))]
    found = []
    for _, path in heapq.nlargest(LATEST, stamped):  # by the time they were written
        with contextlib.suppress(UserError):
            found.append(read_result(Path(path)))
    return found


@dataclass(frozen=True)
class Score:
    """What was predicted for a matrix, and what it took; in seconds."""

    predicted: Estimate
    actual: float
    runs: int

    def append_to(self, root: Path) -> None:
        """Add a line to the file of scores below ``root``; raises ``OSError``."""
        now = datetime.datetime.now(datetime.UTC)
        started = now - datetime.timedelta(seconds=self.actual)
        line = {
            "started": started.isoformat(timespec="seconds"),
            "p50": round(self.predicted.p50, 1),
            "p90": round(self.predicted.p90, 1),
            "seconds": round(self.actual, 1),
            "runs": self.runs,
        }
        append_line(root / FILE, line)


def scores(root: Path) -> tuple[int, int]:
    """How many matrices took no longer than their P90, and of how many; damaged lines are none."""
    try:
        lines = read_own(root / FILE).decode("utf-8", "replace").splitlines()
    except OSError:
        return 0, 0
    within = [verdict for verdict in map(_within, lines) if verdict is not None]
    return sum(within), len(within)


def _within(line: str) -> bool | None:
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(plain, dict):
        return None
    p90, seconds = number(plain.get("p90")), number(plain.get("seconds"))
    return None if p90 is None or seconds is None else seconds <= p90
