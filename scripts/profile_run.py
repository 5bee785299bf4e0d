"""Profile some steps of a run, RUN=: a trace for Perfetto, and where the time goes.

The run is one of the matrix, or one that has a record. Nothing of the run's own is written; the
trace is results/profile/<run id>.json.
"""

import os

import _packages  # noqa: F401
from adamwprune.command import run_command
from adamwprune.experiment import Experiment
from adamwprune.explanation import spec_of
from adamwprune.scheduler import devices


def main() -> int:
    experiment = Experiment.load()
    spec = spec_of(experiment, experiment.workspace.variables.get("RUN", ""), "make profile")
    operational = experiment.tree.operational()
    here = devices.machine(str(operational["DEVICE"]))
    slot = devices.slots(here, 1, int(operational["THREADS"]), 1)[0]
    # Before torch is imported, as a run has it; the profiler's library would write a banner.
    os.environ.update({"KINETO_LOG_LEVEL": "99", **devices.environment(slot.threads)})
    from adamwprune import profiling

    path = experiment.store.root / "profile" / f"{spec.run_id}.json"
    print(profiling.profile(spec, experiment.data_dir, slot, path).text())
    print(f"{path}: open it at https://ui.perfetto.dev or in chrome://tracing")
    return 0


if __name__ == "__main__":
    run_command(main)
