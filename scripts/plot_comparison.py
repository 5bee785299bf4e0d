"""Draw chosen runs side by side: ``adamwprune plot-comparison``, without an installation."""

import sys

import _library  # noqa: F401
from adamwprune.__main__ import main
from adamwprune.base.console import run_command

if __name__ == "__main__":
    run_command(lambda: main(["plot-comparison", *sys.argv[1:]]))
