"""Write all records below the results directory as one table: export.csv, and export.parquet.

Published records count where no run was done here; Parquet needs pyarrow. A damaged record is
named and left out, and the exit status is 1.
"""

import sys

import _packages  # noqa: F401
from adamwprune.command import run_command
from adamwprune.experiment import Experiment
from adamwprune.report import export


def main() -> int:
    experiment = Experiment.load()
    root = experiment.store.root
    found = export.find(root, experiment.published)
    table = export.table(found.runs, found.published)
    for path in export.write(table, root / "export"):
        print(f"{path}: {len(table.rows)} runs, {len(table.columns)} columns")
    for problem in found.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if found.problems else 0


if __name__ == "__main__":
    run_command(main)
