"""Profile some steps of a run, RUN=: a trace for Perfetto, and where the time goes.

The run is one of the matrix, or one that has a record. It is profiled on as many threads as it is
trained on. Nothing of the run's own is written; the trace is results/profile/<run id>.json.
"""

import argparse
import os

from adamwprune.commands.why import spec_of
from adamwprune.config.sources import Workspace
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.launch import Launch
from adamwprune.scheduler import devices

VARIABLES = ("RUN",)


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace)
    launch = Launch(experiment)
    spec = spec_of(
        Catalogue.of(experiment), experiment.workspace.variables.get("RUN", ""), "make profile"
    )
    slot = launch.place(spec)
    # Before torch is imported, as a run has it; the profiler's library would write a banner.
    os.environ.update({"KINETO_LOG_LEVEL": "99", **devices.environment(slot.threads)})
    from adamwprune.run import profiler

    path = experiment.root / "profile" / f"{spec.run_id}.json"
    print(profiler.profile(spec, experiment.data_dir, slot.device, slot.threads, path).text())
    print(f"{path}: open it at https://ui.perfetto.dev or in chrome://tracing")
    return 0
