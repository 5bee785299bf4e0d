"""Show the matrix: what is done, what was dropped and why, what presets mean; runs nothing.

Where something is missing it says how long that takes: from the records that are there, or, where
none is like it, from a step of each network, which is measured within seconds and remembered. For a
cluster it also says how many GPU hours.
"""

import argparse
from collections.abc import Sequence

from adamwprune.base.wording import counted, wrapped
from adamwprune.config.options import Value
from adamwprune.config.sources import Workspace
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.launch import Launch
from adamwprune.plan.spec import RunSpec
from adamwprune.progress.status import estimate
from adamwprune.records.state import MISSING, NAMES

VARIABLES = ("PUBLISHED", "KEEP_STALE")


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace)
    launch = Launch(experiment)
    places = launch.places()  # refuses what cannot be trained here
    matrix = experiment.matrix
    catalogue = Catalogue.of(experiment)
    names = [state.name for state in catalogue.states.values()]
    for spec, state in catalogue.states.items():
        why = state.why
        if state.name == MISSING and spec in catalogue.frozen_specs:
            why = "PUBLISHED=1 takes its record"
        _tell(state.name, f"{spec.run_id}{_place(experiment, spec)}{f': {why}' if why else ''}")
    for dropped in matrix.dropped:
        _tell("dropped", f"{dropped.label}: {dropped.reason}")
    for member, options in matrix.presets.items():
        _tell("preset", f"{member}: {', '.join(map(told, options, options.values()))}")
    for note in experiment.notes():
        print(f"note: {note}")
    runs = counted(len(names), "run")
    counts = ", ".join(f"{names.count(name)} {name}" for name in NAMES if name in names)
    print(f"{experiment.source}: {runs}: {counts}; {len(matrix.dropped)} dropped")
    states = list(catalogue.states.values())
    for line in estimate(states, experiment.root, places, launch.agents, measure=True):
        print(line)
    return 0


def _tell(word: str, text: str) -> None:
    print(*wrapped(text, f"{word:9} ", " " * 10), sep="\n")


def _place(experiment: Experiment, spec: RunSpec) -> str:
    """What tells a run from others of the same slug, which its id says in a digest only."""
    more = experiment.names[spec].removeprefix(spec.slug.rpartition("-s")[0])
    words = more.strip("-").split("-")[:-1]
    return f"  {' '.join(words)}" if words else ""


def told(name: str, values: Sequence[Value]) -> str:
    """``LR 0.001``; ``BATCH_SIZE 64 or 512`` where the runs differ in more than the member."""
    texts = (f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    return f"{name} {' or '.join(texts)}"
