"""TensorBoard: a directory of event files a run, written without torch and without TensorFlow."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adamwprune.config.options import Value
from adamwprune.trackers import Run


class Tracker:
    """``tensorboard --logdir FOLDER`` shows what it writes."""

    def __init__(self, folder: Path) -> None:
        # What torch.utils.tensorboard is made of, too; that would import torch, for seconds.
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.plugins.hparams import summary_v2
        from tensorboard.plugins.text import summary_v2 as text
        from tensorboard.summary.writer import event_file_writer

        self.folder, self.events, self.summaries = folder, event_pb2, summary_pb2
        self.hparams, self.open = summary_v2.hparams_pb, event_file_writer.EventFileWriter
        self.text = text.text_pb

    def begin(self, run: Run) -> _Log:
        """The run's directory, without older event files."""
        folder = self.folder / run.run_id
        if folder.exists():
            shutil.rmtree(folder)
        return _Log(self, run, folder)


class _Log:
    """A scalar a metric; what the whole run gave is a table in the Text tab: a chart of one point
    shows nothing.
    """

    def __init__(self, tracker: Tracker, run: Run, folder: Path) -> None:
        self.tracker, self.time, self.step = tracker, run.begun, 0
        self.entries = 0
        self.waiting: list[Any] = []  # the first entry, until there is a second one
        self.writer = tracker.open(str(folder))
        # A TensorBoard that is open forgets what it had read of an older log.
        start = tracker.events.SessionLog(status=tracker.events.SessionLog.START)
        self._add(session_log=start)
        self._add(summary=tracker.hparams(run.config, run.run_id, run.begun))
        self.writer.flush()

    def epoch(self, entry: Mapping[str, float]) -> None:
        """At the entry's step, and at the time at which it would have been without pauses."""
        self.step = int(entry["step"])
        self.time += entry["seconds"]
        scalar = self.tracker.summaries.Summary.Value
        found = [
            scalar(tag=name, simple_value=value)
            for name, value in entry.items()
            if name not in ("step", "epoch", "seconds") and isinstance(value, (int, float))
        ]
        self.entries += 1
        self.waiting.append(self._event(summary=self.tracker.summaries.Summary(value=found)))
        if self.entries > 1:
            for event in self.waiting:
                self.writer.add_event(event)
            self.waiting.clear()
            self.writer.flush()

    def end(self, status: str, summary: Mapping[str, Value]) -> None:
        """The summary as a table in Markdown."""
        rows = [f"| {name} | {_cell(value)} |" for name, value in summary.items()]
        if rows:
            table = "\n".join(["| | |", "|---|---|", *rows])
            self._add(summary=self.tracker.text("summary", table))
        self.writer.close()

    def _add(self, **what: Any) -> None:
        self.writer.add_event(self._event(**what))

    def _event(self, **what: Any) -> Any:
        return self.tracker.events.Event(wall_time=self.time, step=self.step, **what)


def _cell(value: Value) -> str:
    return " ".join(str(value).replace("|", r"\|").split())
