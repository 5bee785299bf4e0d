"""Write all records below the results directory as one table: export.csv, and export.parquet.

With CONFIG=, or settings (LR=, SEED=, ...), the table holds the runs that these mean. Published
records count where no run was done here; Parquet needs pyarrow. A damaged record is named and left
out, and the exit status is 1.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from adamwprune.base.errors import UserError
from adamwprune.base.wording import counted
from adamwprune.config.sources import Workspace
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.records.code import Sources
from adamwprune.records.published import each_published
from adamwprune.records.record import FROZEN, STALE, RunResult
from adamwprune.records.staleness import changes
from adamwprune.report import export


def marked(records: Iterable[RunResult], mark: str, code: Sources) -> Iterator[RunResult]:
    """The records, with ``mark`` where other code made them than is here."""
    for record in records:
        try:
            outdated = bool(changes(record, code.of(record.spec)))
        except UserError:  # the run's optimizer, say, is not here any more
            outdated = True
        yield replace(record, marks=frozenset({mark})) if outdated else record


def _choice(experiment: Experiment) -> Callable[[RunResult], bool]:
    """Of the runs that the command line names; of all where it names none."""
    if not (experiment.workspace.variables.get("CONFIG") or experiment.is_changed):
        return lambda record: True
    specs = set(experiment.matrix.specs)
    print(f"{experiment.source}: {counted(len(specs), 'run')}; without CONFIG= and settings, all")
    return lambda record: record.spec in specs


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace)
    root = experiment.root
    code = Catalogue.of(experiment).code
    problems: list[str] = []
    is_wanted = _choice(experiment)
    runs = filter(is_wanted, export.sound(export.each_run(root), problems))
    published = filter(is_wanted, export.sound(each_published(experiment.published), problems))
    table = export.table(
        marked(runs, STALE, code),
        marked(published, FROZEN, code),
        root if root.is_dir() else None,
    )
    for path in export.write(table, root / "export"):
        rows = counted(len(table.rows), "run")
        print(f"{path}: {rows}, {counted(len(table.columns), 'column')}")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0
