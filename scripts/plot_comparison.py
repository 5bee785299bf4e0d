"""Draw chosen runs side by side: model_comparison.png and accuracy_evolution.png.

A run is named by its id, by the start of its id, by its directory or by its result.json; runs that
differ only in their seed are averaged.
"""

import argparse
from pathlib import Path

import _packages  # noqa: F401
from adamwprune.command import run_command
from adamwprune.record import RunResult
from adamwprune.report.figures import draw_comparison
from adamwprune.store import RESULT, Store, read_published, read_result


def record_of(name: str, results: Path) -> RunResult:
    """The record that ``name`` means; published ones count where none was run here."""
    path = Path(name) / RESULT if Path(name).is_dir() else Path(name)
    if path.is_file():
        return read_result(path)
    published = {result.run_id: result for result in read_published(results / "published")}
    return Store(results).find(name, published)


def parser(description: str) -> argparse.ArgumentParser:
    """The options that the plotting commands share."""
    made = argparse.ArgumentParser(description=description, allow_abbrev=False)
    made.add_argument("--results", type=Path, default=Path("results"), help="directory of all runs")
    made.add_argument("--output", type=Path, help="directory of the figures (RESULTS/figures)")
    return made


def main() -> int:
    flags = parser(__doc__)
    flags.add_argument("records", metavar="RECORD", nargs="+", help="id, its start, or a path")
    given = flags.parse_args()
    records = [record_of(name, given.results) for name in given.records]
    for path in draw_comparison(records, given.output or given.results / "figures"):
        print(path)
    return 0


if __name__ == "__main__":
    run_command(main)
