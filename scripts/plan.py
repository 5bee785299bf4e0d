"""Show the expanded matrix, what of it is done, and what was dropped and why; runs nothing."""

import _packages  # noqa: F401
from adamwprune.command import run_command
from adamwprune.experiment import Experiment

STATES = ("done", "stale", "missing", "failed")


def main() -> int:
    experiment = Experiment.load()
    matrix = experiment.matrix
    states = {cell.spec: experiment.state(cell.spec) for cell in matrix.cells}
    frozen = {result.run_id for result in experiment.frozen()}
    for spec, state in states.items():
        published = state.name == "missing" and spec.run_id in frozen
        why = "there is a published record, frozen" if published else state.why
        print(f"{state.name:8} {spec.run_id}{f': {why}' if why else ''}")
    for dropped in matrix.dropped:
        print(f"dropped  {dropped.label}: {dropped.reason}")
    for note in experiment.notes():
        print(f"note: {note}")
    names = [state.name for state in states.values()]
    told = ", ".join(f"{names.count(name)} {name}" for name in STATES if name in names)
    print(f"{experiment.source}: {len(states)} runs: {told}; {len(matrix.dropped)} dropped")
    return 0


if __name__ == "__main__":
    run_command(main)
