"""What a user sees while a matrix runs: a live view on a terminal, else one line an event.

Without a terminal the lines are ``start``, ``[i/n] done`` or ``failed``, ``eta`` after each end
and where nothing else was said for long, ``retry`` and ``note``. Epochs are in the runs' own logs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adamwprune.base import terminal
from adamwprune.base.wording import last_line
from adamwprune.plan import names
from adamwprune.plan.spec import RunSpec
from adamwprune.progress import eta, rows, steps
from adamwprune.progress.eta import Estimate, Paces, Work
from adamwprune.progress.history import Score
from adamwprune.progress.reading import Reading
from adamwprune.progress.rows import NAME, Counts, Row, clock, printable, quantiles, shortened
from adamwprune.records.record import RunResult
from adamwprune.records.store import has_checkpoint
from adamwprune.scheduler.devices import Slot

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

REFRESH = 2.0  # seconds between estimates
FEW = 100  # waiting runs up to which an estimate, which looks at all of them, costs nothing
SHARE = 0.02  # of the time that estimates may take
QUIET = 300.0  # seconds without a line after which one says how it goes
SETTLED = 5.0  # seconds of a matrix before rates alone are a prediction to be held to


def summary(spec: RunSpec, result: RunResult, width: int | None = None, name: str = "") -> str:
    """One line on a run that has ended; a finished one's within ``width``, if that is 60 or more.

    Where it is too long, the zeros are left out, then the middle of the run's name, which is the
    slug unless ``name`` is given.
    """
    name = name or spec.slug
    if result.status != "done":
        reason = last_line(result.error) or "no reason given"
        return f"failed  {name}  {reason}  (results: {spec.run_id})"
    score, seconds = result.headline.text(result.score), f"{result.seconds['total']:.1f} s"
    zeros = f"{result.pruning['zeros']:,} of {result.pruning['prunable']:,} weights zero"
    if risen := _risen(result):
        score = f"{score}, {risen}"
    line = f"done    {name}  {score}  {zeros}  {seconds}"
    if width is None or len(line) <= width:
        return line
    rest = f"  {score}  {seconds}"
    return f"done    {shortened(name, max(NAME, width - len(rest) - 8))}{rest}"


def _risen(result: RunResult) -> str:
    """``loss rose from 2.3 to 2e+26`` where it did so by a factor of ten; else nothing."""
    losses = [each["train_loss"] for each in result.history if "train_loss" in each]
    if len(losses) < 2 or losses[-1] <= 10 * min(losses) or min(losses) <= 0:
        return ""
    return f"loss rose from {min(losses):.2g} to {losses[-1]:.2g}"


class Matrix:
    """Where the runs of a matrix are, and when the last of them will be done."""

    def __init__(
        self,
        specs: Sequence[RunSpec],
        slots: Sequence[Slot],
        history: Sequence[RunResult],
        root: Path,
        now: Callable[[], float] = time.monotonic,
        names: Mapping[RunSpec, str] = names.NONE,
    ) -> None:
        self.names = names
        self.slots, self.past, self.now = slots, Paces(history), now
        self.runs, self.began = len(specs), now()
        self._ended: float | None = None  # when the last run did
        # In their order, and how far they are: one that was interrupted goes on where it was.
        folders = {spec: root / spec.run_id for spec in specs}
        self.waiting = {
            spec: Reading.read(spec, folder) if has_checkpoint(folder) else None
            for spec, folder in folders.items()
        }
        # Replaced, never changed: the thread that draws reads it.
        self.running: Mapping[RunSpec, Row] = {}
        self.warm = self.done = self.failed = 0  # workers that have started; runs
        self.predicted: Estimate | None = None  # for the whole matrix, when it was first known
        self._left: Estimate | None = None
        self._estimated, self._pause = self.began, 0.0
        self.estimate()

    def start(self, spec: RunSpec) -> None:
        """A run is in hand, perhaps again."""
        self.waiting.pop(spec, None)
        self.running = {**self.running, spec: self._row(spec)}
        self.warm = max(self.warm, len(self.running))

    def update(self, spec: RunSpec, event: Mapping[str, Any]) -> None:
        """A run in hand has said how far it is."""
        if spec in self.running:
            self.running = {**self.running, spec: self._row(spec, Reading.of(spec, event))}
        if self._is_due or (self._is_small and self._left is None):
            self.estimate()

    @property
    def _is_due(self) -> bool:
        """Whether it is time for another estimate; of thousands of runs one takes a second."""
        return self.now() - self._estimated >= max(REFRESH, self._pause)

    @property
    def _is_small(self) -> bool:
        """Whether an estimate costs nothing."""
        return len(self.waiting) <= FEW

    def name(self, spec: RunSpec) -> str:
        """What a person is told of a run by."""
        return self.names.get(spec, spec.slug)

    def _row(self, spec: RunSpec, reading: Reading | None = None) -> Row:
        return Row(spec, reading, given=self.name(spec))

    def stop(self, spec: RunSpec) -> None:
        """A run is not in hand any more and has not ended: it waits for another try."""
        self.waiting[spec] = self._dropped(spec)

    def end(self, spec: RunSpec, result: RunResult) -> None:
        """A run's record is there."""
        self._dropped(spec)
        self.waiting.pop(spec, None)
        self.done += result.status == "done"
        self.failed += result.status != "done"
        if self.done + self.failed == self.runs:
            self._ended = self.now()
        self.past.add(result)
        if self._is_due or self._is_small:
            self.estimate()

    def _dropped(self, spec: RunSpec) -> Reading | None:
        """Take a run out of those in hand; how far it was."""
        row = self.running.get(spec)
        self.running = {key: row for key, row in self.running.items() if key != spec}
        return row.reading if row else None

    @property
    def counts(self) -> Counts:
        """How many runs are where."""
        return Counts(self.done, self.failed, len(self.running), len(self.waiting))

    @property
    def elapsed(self) -> float:
        """Seconds since the matrix began, until its last run ended."""
        until = self.now() if self._ended is None else self._ended
        return until - self.began

    def estimate(self) -> None:
        """Work out anew when the matrix will be done."""
        start = self.now()
        running = [Work.of(row.spec, row.reading) for row in self.running.values()]
        waiting = [replace(Work.of(spec, at), rate=None) for spec, at in self.waiting.items()]
        self._left = eta.remaining(running, waiting, self.slots, self.past, self.warm)
        self._estimated = self.now()
        self._pause = (self._estimated - start) / SHARE
        settled = not self.running or self.elapsed >= SETTLED
        if self.predicted is None and self._left is not None and settled:
            past = self.elapsed
            self.predicted = Estimate(past + self._left.p50, past + self._left.p90)

    @property
    def left(self) -> Estimate | None:
        """Seconds left, as last worked out, less the time since; None where it is not known."""
        if self._left is None:
            return None
        since = self.now() - self._estimated
        return Estimate(max(0.0, self._left.p50 - since), max(0.0, self._left.p90 - since))

    @property
    def score(self) -> Score | None:
        """The first estimate against what it took; None unless every run is done.

        A matrix that failed in part or was stopped says nothing about its estimate.
        """
        if self.predicted is None or self.done != self.runs or not self.runs:
            return None
        return Score(self.predicted, self.elapsed, self.runs)


class Watcher:
    """An observer that keeps account of the matrix; what it says goes to standard output."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix

    @property
    def width(self) -> int | None:
        """Columns that a line has; None for any number."""
        return None

    def open(self) -> None:
        """The matrix begins."""

    def close(self) -> None:
        """The matrix has ended or was stopped."""

    def say(self, line: str) -> None:
        """Print one line at once."""
        print(printable(line, sys.stdout.encoding), flush=True)

    def started(self, spec: RunSpec, slot: Slot) -> None:
        """A run was given to a worker."""
        self.matrix.start(spec)

    def progress(self, spec: RunSpec, event: Mapping[str, Any]) -> None:
        """How far a run is."""
        self.matrix.update(spec, event)

    def stopped(self, spec: RunSpec) -> None:
        """A run left its worker without a record and waits for another try."""
        self.matrix.stop(spec)

    def ended(self, spec: RunSpec, result: RunResult) -> None:
        """A run's record is there."""
        self.matrix.end(spec, result)
        ended, runs = self.matrix.done + self.matrix.failed, self.matrix.runs
        place = f"[{ended:{len(str(runs))}}/{runs}] "
        room = None if self.width is None else self.width - len(place)
        self.say(place + summary(spec, result, room, self.matrix.name(spec)))

    def told(self, text: str) -> None:
        """A notice of the scheduler."""
        word, _, rest = text.partition(" ")
        self.say(f"retry   {rest}" if word == "retry" else f"note    {text}")


class Lines(Watcher):
    """One line an event, for logs and pipes."""

    def __init__(self, matrix: Matrix) -> None:
        super().__init__(matrix)
        self.last = matrix.began  # when something was said

    def open(self) -> None:
        """Say what is expected, where something is."""
        self._say_eta()

    def say(self, line: str) -> None:
        """Print one line at once."""
        super().say(line)
        self.last = self.matrix.now()

    def started(self, spec: RunSpec, slot: Slot) -> None:
        """A run was given to a worker."""
        super().started(spec, slot)
        self.say(f"start   {self.matrix.name(spec)}  {slot.words}")

    def progress(self, spec: RunSpec, event: Mapping[str, Any]) -> None:
        """How far a run is; said only where nothing else was for long."""
        super().progress(spec, event)
        if self.matrix.now() - self.last >= QUIET:
            self._say_eta()

    def ended(self, spec: RunSpec, result: RunResult) -> None:
        """A run's record is there."""
        super().ended(spec, result)
        self._say_eta()

    def _say_eta(self) -> None:
        counts, left = self.matrix.counts, self.matrix.left
        if left is not None and counts.running + counts.left:
            self.say(f"eta     {quantiles(left)}  {counts}")


class Live(Watcher):
    """A line for each run in hand and one for the matrix, drawn again and again.

    What has ended and what the scheduler says scrolls away above them.
    """

    def __init__(self, matrix: Matrix, console: Console) -> None:
        from rich.live import Live as Screen

        super().__init__(matrix)
        self.console = console
        self.screen = Screen(
            console=console,
            get_renderable=self.draw,
            refresh_per_second=4,
            transient=True,
            vertical_overflow="crop",
        )

    @property
    def width(self) -> int | None:
        """The terminal's columns."""
        return self.console.width

    def open(self) -> None:
        """Begin to draw."""
        self.screen.start()

    def close(self) -> None:
        """Remove what is drawn; what was said stays."""
        self.screen.stop()

    def draw(self) -> Text:
        """The view, for the terminal's present size."""
        from rich.text import Text

        width, height = self.console.size
        running, matrix = list(self.matrix.running.values()), self.matrix
        several = len({slot.device for slot in matrix.slots}) > 1
        extra = [rows.LEFT, rows.DEVICE] if several else [rows.LEFT]
        text = Text(no_wrap=True, overflow="crop")
        if running and height > 3:  # the last line stays free for the cursor
            head, *lines = rows.table(running, width, extra, height - 2)
            text.append(f"{head}\n", style="dim")
            text.append("".join(f"{line}\n" for line in lines))
        last = rows.matrix_line(matrix.counts, matrix.elapsed, matrix.left, width)
        return text.append(last, style="bold")

    def say(self, line: str) -> None:
        """Print one line above what is drawn; the terminal wraps what is too long."""
        from rich.text import Text

        self.console.print(Text(printable(line, self.console.encoding)), soft_wrap=True)


@contextmanager
def display(
    specs: Sequence[RunSpec],
    slots: Sequence[Slot],
    history: Sequence[RunResult],
    root: Path,
    names: Mapping[RunSpec, str] = names.NONE,
    *,
    here: bool = False,
) -> Iterator[Watcher]:
    """The right observer for where standard output goes; it scores its estimate at the end.

    ``history``: past records to estimate from. Below ``root`` the score is kept. ``names``: of
    runs that are told by another name than their slugs. ``here``: on this machine, whose measured
    steps say what no record does.
    """
    matrix, console = Matrix(specs, slots, history, root, names=names), terminal.console()
    if here and slots and steps.learn(matrix.past, specs, slots[0], measure=False):
        matrix.estimate()
    drawable = sys.stdout.isatty() and not console.is_dumb_terminal
    observer = Live(matrix, console) if drawable else Lines(matrix)
    observer.open()
    try:
        yield observer
    finally:
        observer.close()
    score = matrix.score
    if score is not None:
        observer.say(f"estimated {quantiles(score.predicted)}, took {clock(score.actual)}")
        try:
            score.append_to(root)
        except OSError as error:  # all runs are done: no reason to fail now
            observer.told(f"{root}: the estimate's score is lost: {error.strerror}")
