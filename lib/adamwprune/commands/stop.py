"""Stop the runs that train into the directory of results, at a checkpoint; also on a cluster."""

import argparse
import os
import signal
from pathlib import Path

from adamwprune.base.errors import UserError
from adamwprune.config.sources import Workspace
from adamwprune.experiment.experiment import Experiment
from adamwprune.records.locks import holder
from adamwprune.records.store import LOCK
from adamwprune.scheduler import engines
from adamwprune.scheduler.spool import Spool


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace)
    root = experiment.root
    stopped = [*_local(root / LOCK), *_cluster(Spool(root))]
    for line in stopped:
        print(line)
    if not stopped:
        print(f"nothing is training into {root}")
    return 0


def _local(lock: Path) -> list[str]:
    """Ask the make on this machine that holds the directory to stop."""
    pid = holder(lock)
    if pid is None:
        return []
    if not pid.isdecimal():
        return [f"{lock}: is held by an unknown process"]
    os.kill(int(pid), signal.SIGTERM)
    return [f"make (process {pid}) was asked to stop its runs at a checkpoint"]


def _cluster(spool: Spool) -> list[str]:
    """Ask the agents of a cluster to stop, and take those that wait out of its queue."""
    if not spool.engine or not spool.left():
        return []
    spool.stop()
    ids = [str(each) for each in spool.engine.get("ids", [])]
    name = str(spool.engine.get("engine"))
    jobs = f"{name} {', '.join(ids)}"
    lines = [f"{jobs}: the agents stop their runs at a checkpoint; make goes on"]
    try:
        engines.cancel(name, ids)
    except UserError as error:
        lines.append(f"{jobs}: what waits in the queue stays there, and ends as it starts: {error}")
    return lines
