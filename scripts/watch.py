"""Serve the report on 127.0.0.1 while its runs are trained in another shell; trains nothing.

The page shows the runs of the configuration as it is now, and fills as they go. WATCH_PORT= names
the port, 0 any free one. Ctrl-C ends it.
"""

import contextlib

import _packages  # noqa: F401
from adamwprune.command import require, run_command
from adamwprune.experiment import Experiment
from adamwprune.report.html import vendor
from adamwprune.watch import server
from adamwprune.watch.seen import Watched
from adamwprune.wording import counted


def main() -> int:
    require(vendor.PACKAGE, "scipy")
    with contextlib.suppress(KeyboardInterrupt):  # how it is meant to end
        experiment = Experiment.load()
        for note in experiment.notes():
            print(f"note: {note}")
        port = server.port_of(experiment.workspace.variables.get(server.VARIABLE, ""))
        with server.Server(port) as serving:
            watched = Watched(experiment)
            runs = counted(len(experiment.matrix.specs), "run")
            print(f"{experiment.source}: {runs} at {serving.url} until Ctrl-C", flush=True)
            serving.show(watched)
    return 0


if __name__ == "__main__":
    run_command(main)
