"""Draw one run by itself, training_plot.png: loss, accuracy, sparsity and learning rate.

The run is named by its id, by the start of its id, by its directory or by its result.json.
"""

import _packages  # noqa: F401
from adamwprune.command import run_command
from adamwprune.report.figures import draw_training
from plot_comparison import parser, record_of


def main() -> int:
    flags = parser(__doc__)
    flags.add_argument("record", metavar="RECORD", help="id, its start, or a path")
    given = flags.parse_args()
    record = record_of(given.record, given.results)
    for path in draw_training(record, given.output or given.results / "figures"):
        print(path)
    return 0


if __name__ == "__main__":
    run_command(main)
