"""Trackers: TensorBoard, Weights & Biases, Trackio. Each is a reader of the files that runs leave.

A run knows nothing of them. A tracker is a process of its own (``__main__``) that is told the ids
of runs with news, reads their ``metrics.jsonl`` and ``result.json`` (``_follower``) and writes what
it does not have yet: while they train, or with ``make track`` after it, by the same code. So a
tracker can fail, hang or die, and no run is another for it. While it lives it holds
``tracking/NAME.lock``: no other process writes where it does.

A member's module has a class ``Tracker(folder)`` with ``begin(run) -> Log``. It imports its package
when it is made, and writes below ``folder`` only. Whatever it raises ends the tracker, with a note.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from adamwprune.config.options import Value
from adamwprune.plan.spec import RunSpec

FOLDER = "tracking"  # of all trackers, below the directory of results
PROJECT = "adamwprune"  # what trackers that have projects call this one

DONE, FAILED, UNFINISHED = "done", "failed", "unfinished"  # how a run's log may end
# Exit statuses of a tracker's process: everything is written, or it has said what is not. With any
# other one it was its package that ended it.
WRITTEN, LACKING = 64, 65


@dataclass(frozen=True)
class Run:
    """A run as trackers see it."""

    spec: RunSpec
    code: str  # digest of the code that trains it; empty in records that do not have it
    begun: float  # when the training began, less the time that it was interrupted; Unix seconds
    group: str = ""  # the configuration that has a name and that it is trained for

    @property
    def run_id(self) -> str:
        """Its name in every tracker."""
        return self.spec.run_id

    @property
    def config(self) -> dict[str, Value]:
        """Its configuration: the values of its symbols, its id and its code."""
        return {**self.spec.values, "run_id": self.run_id, "code": self.code}


class Log(Protocol):
    """What a tracker has of one run."""

    def epoch(self, entry: Mapping[str, float]) -> None:
        """Add an entry of ``metrics.jsonl``, of the epoch that ended at ``entry["step"]``."""

    def end(self, status: str, summary: Mapping[str, Value]) -> None:
        """Complete it. ``status``: ``done``, ``failed``, or ``unfinished`` where the run stopped or
        is not at its end, without a summary. ``summary``: by the columns of ``make export``.
        """


class Tracker(Protocol):
    """A member, open."""

    def begin(self, run: Run) -> Log:
        """A log of ``run`` without entries; what there was of this run is replaced."""
