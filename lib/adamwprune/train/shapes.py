"""Print the shapes of the weights of a run that pruning may touch, as JSON.

    python -m adamwprune.train.shapes < a run's values by name, as JSON

The model is built on torch's meta device: no weight is allocated, and no data are read. Beside the
shapes stand the values that were looked up on the way, on which they depend.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import torch

from adamwprune.base.reads import Reads
from adamwprune.pruning import spared
from adamwprune.pruning.prunable import Prunable
from adamwprune.train.data import network_for


def shapes(values: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Of the run's model for the run's data, in the order of its layers."""
    with torch.device("meta"):
        network = network_for(values)
    found = Prunable(network.module, network.prunable, **spared(values))
    return list(found.shapes().values())


def main() -> None:
    """One run's values on stdin, one JSON object on stdout."""
    reads = Reads(json.load(sys.stdin))
    found = shapes(reads)
    print(json.dumps({"read": reads.read, "shapes": found}))


if __name__ == "__main__":
    main()
