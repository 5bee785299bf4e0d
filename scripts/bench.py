"""Measure speed and memory, print the table, write it to results/bench/; docs/benchmarks.md.

DEVICE= and DATA_DIR= are the configuration's; the words of BENCH_ARGS= go to the benchmark
(BENCH_ARGS="--section one-run --epochs 3"; --help lists them).
"""

import shlex
import sys

import _packages  # noqa: F401
from adamwprune.command import run_command
from adamwprune.config.tree import SOURCE_TREE
from adamwprune.errors import UserError
from adamwprune.experiment import Experiment

sys.path.insert(0, str(SOURCE_TREE))

from benchmarks import __main__ as benchmark


def main() -> int:
    experiment = Experiment.load()
    try:
        words = shlex.split(experiment.workspace.variables.get("BENCH_ARGS", ""))
    except ValueError as error:
        raise UserError(f"BENCH_ARGS=: {error}") from None
    own = ["--device", str(experiment.tree.operational()["DEVICE"])]
    own += ["--data-dir", str(experiment.data_dir)]
    own += ["--output", str(experiment.store.root / "bench")]
    return benchmark.main([*own, *words])


if __name__ == "__main__":
    run_command(main)
