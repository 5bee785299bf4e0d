"""Answer planning's questions, which only torch and the members can: JSON lines, one a question.

    {"about": "shapes", "values": {...}}     -> shapes of the weights that pruning may touch
    {"about": "measured", "values": {...}}   -> what a dataset of the user's own is by its files

Beside each answer stand the values that were looked up on the way, on which it depends. What cannot
be answered has an ``error`` in its place. The process ends with its stdin.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from adamwprune import datasets
from adamwprune.base.errors import UserError
from adamwprune.base.reads import Reads
from adamwprune.base.wording import last_line
from adamwprune.plan.measured import DATA_DIR, stamp
from adamwprune.pruning import spared
from adamwprune.pruning.prunable import Prunable
from adamwprune.train.data import network_for


def shapes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of the run's model for the run's data, in the order of its layers.

    The model is built on torch's meta device: no weight is allocated, and no data are read.
    """
    with torch.device("meta"):
        network = network_for(values)
    found = Prunable(network.module, network.prunable, **spared(values))
    return {"shapes": list(found.shapes().values())}


def measured(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that the files decide, the options that they leave unused; and of each file and
    directory that was read its size and the time of its last change.
    """
    found = datasets.measure(values, Path(values[DATA_DIR]))
    stamps = {str(path): stamp(str(path)) for path in found.paths}
    return {"values": dict(found.values), "unused": list(found.unused), "stamps": stamps}


PATIENCE = 60  # seconds without a question, after which SIGALRM ends the process
QUESTIONS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "shapes": shapes,
    "measured": measured,
}


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to one question, or the error."""
    reads = Reads(question["values"])
    try:
        return {**QUESTIONS[question["about"]](reads), "read": reads.read}
    except UserError as error:
        return {"error": str(error)}
    except Exception as error:  # noqa: BLE001  a member from outside may raise anything
        return {"error": f"{type(error).__name__}: {last_line(str(error)) or 'no reason given'}"}


def main() -> None:
    """Until stdin ends, or nothing is asked for a while: a matrix may train for days."""
    signal.alarm(PATIENCE)
    for line in sys.stdin:
        signal.alarm(0)
        with contextlib.redirect_stdout(sys.stderr):  # what a member prints is no answer
            found = answer(json.loads(line))
        print(json.dumps(found), flush=True)
        signal.alarm(PATIENCE)


if __name__ == "__main__":
    main()
