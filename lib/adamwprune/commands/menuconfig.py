"""Configure in a terminal, which shows how many runs the configuration makes."""

import argparse
import functools
from collections import Counter
from collections.abc import Iterator

from adamwprune.base.errors import UserError
from adamwprune.base.wording import counted
from adamwprune.config import menu
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.launch import Launch
from adamwprune.plan import matrix
from adamwprune.progress.status import estimate
from adamwprune.records.code import Sources
from adamwprune.records.state import MISSING, NAMES
from adamwprune.records.store import Store

LIMIT = 5000  # points of a matrix; to count the runs of more takes seconds


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    """Show the menu; .config is written where the user saves."""
    code = Sources()
    count = functools.partial(runs, workspace, code)
    menu.menuconfig(workspace, count, functools.partial(time_of, workspace, code))
    return 0


def time_of(workspace: Workspace, code: Sources, tree: Tree) -> str:
    """``about 12:30`` for what is missing, from past runs or steps that were measured; empty where
    nothing is missing, or nothing is known.
    """
    if matrix.points(tree) > LIMIT:
        return ""
    experiment = Experiment(tree, workspace, str(workspace.config), matrix.expand(tree))
    launch = Launch(experiment)
    states = list(Catalogue(experiment, Store(experiment.root), code).states.values())
    try:
        places = launch.places()
    except UserError:  # DEVICE=cuda where there is none; make says so
        return ""
    lines = estimate(states, experiment.root, places)
    told = next((line.split()[1:] for line in lines if line.startswith("eta")), [])
    return f"about {told[0]}" if told and told[0][0].isdigit() else ""


def runs(workspace: Workspace, code: Sources, tree: Tree) -> Iterator[str]:
    """Say how many runs the tree's configuration makes, in words that become exact step by step.

    Raises :class:`~adamwprune.base.errors.ConfigError` for a configuration that makes none.
    """
    points = matrix.points(tree)
    yield f"at most {counted(points, 'run')}"
    if points > LIMIT:
        return
    expanded = matrix.expand(tree)
    experiment = Experiment(tree, workspace, str(workspace.config), expanded)
    catalogue = Catalogue(experiment, Store(experiment.root), code)
    number = counted(len(expanded.cells), "run")
    counts: Counter[str] = Counter(done=0)
    try:
        for spec in expanded.specs:
            yield number
            counts[catalogue.state(spec).name] += 1
    except UserError:  # it names a file, for which there is no room
        yield f"{number}; make plan says what is wrong with a published record"
        return
    parts = [
        f"{counts[state]:,} {state}" for state in NAMES if state in counts and state != MISSING
    ]
    if expanded.dropped:
        parts.append(f"{len(expanded.dropped):,} dropped")
    yield f"{number}, {', '.join(parts)}"
