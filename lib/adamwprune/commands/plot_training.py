"""Draw one run by itself, training_plot.png: its metrics, sparsity and learning rate.

The run is named by its id, by the start of its id, by its directory or by its result.json.
"""

import argparse

from adamwprune.commands.plot_comparison import places, record_of
from adamwprune.config.sources import Workspace
from adamwprune.report.figures import draw_training

CONFIGURED = False  # takes records, not a configuration


def flags(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    places(parser)
    parser.add_argument("record", metavar="RECORD", help="id, its start, or a path")


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    record = record_of(given.record, given.results)
    for path in draw_training(record, given.output or given.results / "figures"):
        print(path)
    return 0
