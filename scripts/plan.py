"""Show the expanded matrix, what of it is done, and what was dropped and why; runs nothing."""

import _packages  # noqa: F401
from adamwprune.command import run_command
from adamwprune.experiment import Experiment


def main() -> int:
    experiment = Experiment.load()
    store, matrix = experiment.store, experiment.matrix
    statuses = {cell.spec: store.status(cell.spec) for cell in matrix.cells}
    for spec, status in statuses.items():
        print(f"{status:8} {spec.run_id}")
    for dropped in matrix.dropped:
        print(f"dropped  {dropped.label}: {dropped.reason}")
    for note in experiment.notes():
        print(f"note: {note}")
    counts = {name: list(statuses.values()).count(name) for name in ("done", "missing", "failed")}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    print(f"{experiment.source}: {len(statuses)} runs: {told}; {len(matrix.dropped)} dropped")
    return 0


if __name__ == "__main__":
    run_command(main)
