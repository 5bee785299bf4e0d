"""Draw one run by itself: ``adamwprune plot-training``, without an installation."""

import sys

import _library  # noqa: F401
from adamwprune.__main__ import main
from adamwprune.base.console import run_command

if __name__ == "__main__":
    run_command(lambda: main(["plot-training", *sys.argv[1:]]))
