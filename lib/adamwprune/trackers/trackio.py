"""Trackio: one local database of all runs. Nothing is sent, whatever the environment says."""

from __future__ import annotations

import contextlib
import contextvars
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adamwprune.config.options import Value
from adamwprune.trackers import PROJECT, Run

_REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID", "TRACKIO_WEBHOOK_URL")


class Tracker:
    """``TRACKIO_DIR=FOLDER trackio show`` shows what it writes."""

    def __init__(self, folder: Path) -> None:
        for name in _REMOTE:
            os.environ.pop(name, None)
        # Online it asks the Hugging Face Hub for the user's name, for each run.
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ.update(TRACKIO_DIR=str(folder), TRACKIO_STORAGE_MODE="sqlite")
        import trackio

        self.trackio = trackio
        self.failures: list[str] = []
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = self._note  # type: ignore[assignment]

    def begin(self, run: Run) -> _Log:
        """A run of Trackio's; an earlier one of this name is removed."""
        with contextlib.suppress(ValueError):  # there is no such project yet
            for earlier in self.trackio.Api().runs(PROJECT):
                if earlier.name == run.run_id:
                    earlier.delete()
        # In a context of its own: otherwise it would finish the run before.
        begun = contextvars.Context().run(
            self.trackio.init,
            project=PROJECT,
            name=run.run_id,
            group=run.group or None,
            config=run.config,
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )
        return _Log(self, begun)

    def check(self) -> None:
        """Raise for what Trackio only warns of: that it could not write, and goes on without."""
        if self.failures:
            raise OSError(self.failures[0])

    def _note(self, message: Warning | str, category: type[Warning], *where: Any) -> None:
        print(f"{category.__name__}: {message}")
        if category is UserWarning:
            self.failures.append(str(message))


class _Log:
    """Metrics by step; the record's numbers at the last one, in the section ``summary``."""

    def __init__(self, tracker: Tracker, run: Any) -> None:
        self.tracker, self.run, self.step = tracker, run, 0

    def epoch(self, entry: Mapping[str, float]) -> None:
        """At the entry's step."""
        self.step = int(entry["step"])
        self.run.log({k: v for k, v in entry.items() if k != "step"}, step=self.step)
        self.tracker.check()

    def end(self, status: str, summary: Mapping[str, Value]) -> None:
        """Wait until all of it is in the database."""
        values = {"status": status, **summary}
        self.run.log({f"summary/{k}": v for k, v in values.items()}, step=self.step)
        self.run.finish()
        self.tracker.check()
