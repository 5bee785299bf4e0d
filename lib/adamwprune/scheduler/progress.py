"""What a user sees while a matrix runs: a live view on a terminal, else one line an event."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from adamwprune.record import RunResult
from adamwprune.scheduler.devices import Slot
from adamwprune.spec import RunSpec


def summary(spec: RunSpec, result: RunResult) -> str:
    """One line on a run that has ended."""
    if result.status != "done":
        reason = (
            result.error.strip().splitlines()[-1] if result.error.strip() else "no reason given"
        )
        return f"failed  {spec.slug}  {reason}  (results: {spec.run_id})"
    zeros = f"{result.pruning['zeros']:,} of {result.pruning['prunable']:,} weights zero"
    return f"done    {spec.slug}  {result.accuracy:.2f}%  {zeros}  {result.seconds['total']:.1f} s"


class Lines:
    """One line an event, for logs and pipes."""

    def __init__(self, runs: int) -> None:
        self.runs, self.ended_runs = runs, 0

    def started(self, spec: RunSpec, slot: Slot) -> None:
        """A run was given to a worker."""
        print(f"start   {spec.slug}  {slot.device}, {_threads(slot)}", flush=True)

    def progress(self, spec: RunSpec, event: dict[str, Any]) -> None:
        """Epochs are in the run's own log."""

    def told(self, text: str) -> None:
        print(text, flush=True)

    def ended(self, spec: RunSpec, result: RunResult) -> None:
        """A run's record is there."""
        self.ended_runs += 1
        print(f"[{self.ended_runs}/{self.runs}] {summary(spec, result)}", flush=True)


class Live:
    """A bar for the matrix and one for each run in hand, with its epoch and accuracy.

    All bars count training steps, so that the time left is known before the first run ends.
    """

    def __init__(self, specs: Sequence[RunSpec], console: Console) -> None:
        self.console = console
        self.runs, self.ended_runs, self.ended_steps = len(specs), 0, 0
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            speed_estimate_period=300,
        )
        total = sum(spec.total_steps for spec in specs)
        self.matrix = self.bars.add_task("matrix", total=total, note=f"0/{self.runs} runs")
        self.running: dict[RunSpec, TaskID] = {}

    def started(self, spec: RunSpec, slot: Slot) -> None:
        """A run was given to a worker."""
        self.running[spec] = self.bars.add_task(
            f"  {spec.slug}", total=spec.total_steps, note=_threads(slot)
        )

    def progress(self, spec: RunSpec, event: dict[str, Any]) -> None:
        """A step or an epoch of a run."""
        run = self.running[spec]
        if event["event"] == "epoch":
            accuracy = f"{100 * event['test_accuracy']:.2f}%"
            self.bars.update(run, note=f"epoch {event['epoch']}/{spec['EPOCHS']}  {accuracy}")
        self.bars.update(run, completed=event["step"])
        self._update_matrix()

    def told(self, text: str) -> None:
        print(text, flush=True)

    def ended(self, spec: RunSpec, result: RunResult) -> None:
        """A run's record is there."""
        self.bars.remove_task(self.running.pop(spec))
        self.ended_runs += 1
        self.ended_steps += spec.total_steps
        self._update_matrix()
        self.console.print(summary(spec, result), highlight=False, markup=False)

    def _update_matrix(self) -> None:
        running = self.running.values()
        steps = sum(task.completed for task in self.bars.tasks if task.id in running)
        note = f"{self.ended_runs}/{self.runs} runs"
        self.bars.update(self.matrix, completed=self.ended_steps + steps, note=note)


class Display(AbstractContextManager["Display"]):
    """The right observer for where standard output goes."""

    def __init__(self, specs: Sequence[RunSpec]) -> None:
        console = Console()
        self.live = Live(specs, console) if sys.stdout.isatty() else None
        self.observer: Lines | Live = self.live or Lines(len(specs))

    def __enter__(self) -> Self:
        if self.live:
            self.live.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live:
            self.live.bars.stop()


def _threads(slot: Slot) -> str:
    return f"{slot.threads} thread{'s' if slot.threads > 1 else ''}"
