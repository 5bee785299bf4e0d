"""Show the matrix: what is done, what was dropped and why, what presets mean; runs nothing."""

import argparse
from collections.abc import Sequence

from adamwprune.base.wording import counted
from adamwprune.config.options import Value
from adamwprune.config.sources import Workspace
from adamwprune.experiment.experiment import Experiment

STATES = ("done", "published", "stale", "missing", "failed")


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace)
    matrix = experiment.matrix
    there = {result.spec for result in experiment.frozen()}
    names: list[str] = []
    for cell, name, why in experiment.outlook():
        is_there = name == "missing" and cell.spec in there
        takes = is_there and experiment.takes_published
        names.append("published" if takes else name)
        reason = "" if takes else "PUBLISHED=1 takes its record" if is_there else why
        print(f"{names[-1]:9} {cell.spec.run_id}{f': {reason}' if reason else ''}")
    for dropped in matrix.dropped:
        print(f"dropped   {dropped.label}: {dropped.reason}")
    for member, options in matrix.presets.items():
        print(f"preset    {member}: {', '.join(map(told, options, options.values()))}")
    for note in experiment.notes():
        print(f"note: {note}")
    runs = counted(len(names), "run")
    counts = ", ".join(f"{names.count(name)} {name}" for name in STATES if name in names)
    print(f"{experiment.source}: {runs}: {counts}; {len(matrix.dropped)} dropped")
    return 0


def told(name: str, values: Sequence[Value]) -> str:
    """``LR 0.001``; ``BATCH_SIZE 64 or 512`` where the runs differ in more than the member."""
    texts = (f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    return f"{name} {' or '.join(texts)}"
