"""Weights & Biases: a directory a run, offline unless the environment has another WANDB_MODE."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adamwprune.config.options import Value
from adamwprune.trackers import DONE, PROJECT, Run


class Tracker:
    """``wandb sync FOLDER/offline-run-*`` uploads what it writes."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("WANDB_MODE", "offline")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # to the makers of wandb
        os.environ.setdefault("WANDB_CACHE_DIR", str(folder / "cache"))
        import wandb

        self.folder, self.wandb = folder, wandb
        self.settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,  # the record holds the commit
            silent=True,
            x_disable_meta=True,
            x_disable_stats=True,  # of a machine that is busy with training
        )

    def begin(self, run: Run) -> _Log:
        """A run of wandb's; what earlier ones left of this run here is removed.

        Its id is the same however often it is written, and another once other code trained it:
        on a server that has it, it goes on, and steps that are there are not added again.
        """
        identity = f"{run.spec.digest}-{run.code[:8]}".rstrip("-")
        for earlier in self.folder.glob(f"offline-run-*-{identity}"):
            shutil.rmtree(earlier)
        return _Log(
            self.wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                id=identity,
                name=run.run_id,
                group=run.group or None,
                config=run.config,
                dir=self.folder.parent,  # wandb adds a wandb of its own
                mode=os.environ["WANDB_MODE"],
                resume=None if os.environ["WANDB_MODE"] == "offline" else "allow",
                reinit="create_new",  # several at a time
                settings=self.settings,
            )
        )


class _Log:
    """Metrics by step; the record in the run's summary."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def epoch(self, entry: Mapping[str, float]) -> None:
        """At the entry's step."""
        values = {name: value for name, value in entry.items() if name != "step"}
        self.run.log(values, step=int(entry["step"]))

    def end(self, status: str, summary: Mapping[str, Value]) -> None:
        """What did not end well has failed, to wandb, which knows no third way."""
        self.run.summary.update({"status": status, **summary})
        self.run.finish(exit_code=0 if status == DONE else 1)
