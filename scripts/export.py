"""Write all records below the results directory as one table: export.csv, and export.parquet.

Published records count where no run was done here; Parquet needs pyarrow. A damaged record is
named and left out, and the exit status is 1.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace

import _packages  # noqa: F401
from adamwprune.code import Sources
from adamwprune.command import run_command
from adamwprune.errors import UserError
from adamwprune.experiment import Experiment
from adamwprune.record import FROZEN, STALE, RunResult
from adamwprune.report import export
from adamwprune.staleness import changes
from adamwprune.wording import counted


def marked(records: Iterable[RunResult], mark: str, code: Sources) -> Iterator[RunResult]:
    """The records, with ``mark`` where other code made them than is here."""
    for record in records:
        try:
            outdated = bool(changes(record, code.of(record.spec)))
        except UserError:  # the run's optimizer, say, is not here any more
            outdated = True
        yield replace(record, marks=frozenset({mark})) if outdated else record


def main() -> int:
    experiment = Experiment.load()
    root = experiment.store.root
    found = export.find(root, experiment.published)
    code = experiment.code
    table = export.table(marked(found.runs, STALE, code), marked(found.published, FROZEN, code))
    for path in export.write(table, root / "export"):
        runs = counted(len(table.rows), "run")
        print(f"{path}: {runs}, {counted(len(table.columns), 'column')}")
    for problem in found.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if found.problems else 0


if __name__ == "__main__":
    run_command(main)
