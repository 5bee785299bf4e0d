"""Serve the report on 127.0.0.1 while its runs are trained in another shell; trains nothing.

The page shows the runs of the configuration as it is now, and fills as they go. WATCH_PORT= names
the port, 0 any free one. Ctrl-C ends it.
"""

import argparse
import contextlib

from adamwprune.base.console import require
from adamwprune.base.wording import counted
from adamwprune.config.sources import Workspace
from adamwprune.experiment.experiment import Experiment
from adamwprune.page import vendor
from adamwprune.page.live import server
from adamwprune.page.live.seen import Watched

VARIABLES = ("WATCH_PORT", "PUBLISHED", "KEEP_STALE")


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    require(vendor.PACKAGE, "scipy")
    with contextlib.suppress(KeyboardInterrupt):  # how it is meant to end
        experiment = Experiment.load(workspace)
        for note in experiment.notes():
            print(f"note: {note}")
        port = server.port_of(experiment.workspace.variables.get(server.VARIABLE, ""))
        with server.Server(port) as serving:
            watched = Watched(experiment)
            runs = counted(len(experiment.matrix.specs), "run")
            print(f"{experiment.source}: {runs} at {serving.url} until Ctrl-C", flush=True)
            serving.show(watched)
    return 0
