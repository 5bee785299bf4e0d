"""Draw chosen runs side by side: model_comparison.png and accuracy_evolution.png.

A run is named by its id, by the start of its id, by its directory or by its result.json; runs that
differ only in their seed are averaged.
"""

import argparse
from pathlib import Path

from adamwprune.base.errors import UserError
from adamwprune.base.files import expanded
from adamwprune.config.sources import Workspace
from adamwprune.records.brief import read_result
from adamwprune.records.published import read_published
from adamwprune.records.record import RunResult
from adamwprune.records.store import RESULT, Store, only
from adamwprune.report.figures import draw_comparison

CONFIGURED = False  # takes records, not a configuration


def record_of(name: str, results: Path) -> RunResult:
    """The record that ``name`` means; published ones count where none was run here."""
    path = Path(name) / RESULT if Path(name).is_dir() else Path(name)
    if path.is_file():
        return read_result(path)
    published = {result.run_id: result for result in read_published(results / "published")}
    here = {name: results / name / RESULT for name in Store(results).begun_names()}
    known: dict[str, RunResult | Path] = {**published, **here}
    found = only(name, known)
    if found is None:
        raise UserError(f"{results}: no run starts with {name!r}")
    return found if isinstance(found, RunResult) else read_result(found)


def places(parser: argparse.ArgumentParser) -> None:
    """The options that the plotting commands share."""
    parser.add_argument("--results", type=expanded, default=Path("results"), help="all runs")
    parser.add_argument(
        "--output", type=expanded, help="directory of the figures (RESULTS/figures)"
    )


def flags(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    places(parser)
    parser.add_argument("records", metavar="RECORD", nargs="+", help="id, its start, or a path")


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    records = [record_of(name, given.results) for name in given.records]
    folder = given.output or given.results / "figures"
    for path in draw_comparison(records, folder, tell=print):
        print(path)
    return 0
