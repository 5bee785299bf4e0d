"""Train the configuration's one run in the foreground; a configuration of several is refused."""

import argparse
import logging
import os
import sys
from typing import Any

from adamwprune.base.imports import uncollected
from adamwprune.base.wording import at_place
from adamwprune.config.sources import Workspace
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.launch import Launch
from adamwprune.plan.job import Event, Job
from adamwprune.progress.live import summary
from adamwprune.records.code import Code
from adamwprune.records.record import RunResult
from adamwprune.records.state import DONE
from adamwprune.scheduler import devices
from adamwprune.trackers.supervisor import Tracking


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    return train_in_foreground(Experiment.load(workspace))


def train_in_foreground(experiment: Experiment) -> int:
    """Train the experiment's one run, showing its log; the exit status."""
    for note in experiment.notes():
        print(f"note: {note}")
    result = _record(Launch(experiment), Catalogue.of(experiment))
    print(summary(result.spec, result))
    return 0 if result.status == DONE else 1


def _record(launch: Launch, catalogue: Catalogue) -> RunResult:
    """The record of the experiment's one run, trained unless it is done."""
    job = launch.single()
    catalogue.sweep()
    if catalogue.state(job.spec).name == DONE:
        print(f"already trained; remove {launch.store.folder(job.spec)} to train it again")
        return catalogue.find(job.spec.run_id)
    launch.store.check_writable()
    with launch.tracking(lambda text: print(f"note: {text}", flush=True)) as tracking:
        result = train_here(job, catalogue.code.of(job.spec), tracking)
        tracking.news(job.spec.run_id)
    return result


def train_here(job: Job, code: Code, tracking: Tracking | None = None) -> RunResult:
    """Train a run in this process, its log on the terminal; Ctrl-C stops it at a checkpoint."""
    print(f"{job.folder}: {at_place(job.device, job.threads, job.ranks)}", flush=True)
    logging.getLogger("adamwprune").addHandler(logging.StreamHandler(sys.stdout))

    def watch(event: dict[str, Any]) -> None:
        if event["event"] == Event.WAITING:  # its log does not say so
            pid = event["pid"]
            print(f"another process ({pid}) is training this run: waiting for it", flush=True)
        if tracking is not None:
            tracking.progress(job.spec.run_id, event)

    os.environ.update(devices.environment(job.threads))  # before torch is imported
    with uncollected():
        from adamwprune.run import foreground

    return foreground.train(job, code, watch)
