"""Compare two sessions of the benchmark, A= and B=: the JSON files that make bench wrote."""

import sys
from pathlib import Path

import _packages  # noqa: F401
from adamwprune.command import run_command
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import SOURCE_TREE
from adamwprune.errors import UserError

sys.path.insert(0, str(SOURCE_TREE))

from benchmarks import session


def main() -> int:
    variables = Workspace.from_environment().variables
    paths = [variables.get(name, "") for name in ("A", "B")]
    if not all(paths):
        raise UserError("make bench-compare needs A= and B=, two files of results/bench/")
    one, other = (session.read(Path(path)) for path in paths)
    print(session.compare(one, other))
    return 0


if __name__ == "__main__":
    run_command(main)
