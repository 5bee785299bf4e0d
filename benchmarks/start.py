"""Until the first batch of ``train.py``, beside a process that imports torch and no more."""

import sys
from dataclasses import replace

from benchmarks import metrics, one_run, processes
from benchmarks.metrics import Metric, Options, at_most

SECTION = "start"
EACH = 3  # times in a repetition: a start is short, and what else goes on makes it twice as long


def measure(options: Options) -> list[Metric]:
    """Both in turn."""
    short = replace(options, epochs=1)
    imports, starts = [], []
    for number in range(1 if options.quick else EACH * options.repetitions):
        imports.append(importing_torch())
        starts.append(one_run.ours(short, options.scratch / f"start-{number}").startup)
    beyond = [start - alone for start, alone in zip(starts, imports, strict=True)]
    goal = at_most(0.2) if options.device == "cpu" and not options.quick else None
    return [
        metrics.of(SECTION, "importing torch alone", "s", imports),
        metrics.of(SECTION, "until the first batch, train.py", "s", starts),
        metrics.of(SECTION, "the latter beyond the former", "s", beyond, goal),
    ]


def importing_torch() -> float:
    """Seconds until a process that does nothing else has imported torch."""
    words = [sys.executable, "-c", "import torch; print('imported', flush=True)"]
    return processes.run(words).when("imported")
