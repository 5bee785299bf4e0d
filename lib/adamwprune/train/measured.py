"""Print what a run's dataset is by its files, as JSON.

    python -m adamwprune.train.measured < a run's values by name and DATA_DIR, as JSON

Beside the values that the files decide stand those that were looked up on the way, and the size and
time of the last change of each file and directory that was read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from adamwprune import datasets
from adamwprune.base.errors import UserError
from adamwprune.base.reads import Reads
from adamwprune.plan.measured import DATA_DIR, stamp


def main() -> None:
    """One run's values on stdin, one JSON object on stdout."""
    reads = Reads(json.load(sys.stdin))
    try:
        found = datasets.measure(reads, Path(reads[DATA_DIR]))
    except UserError as error:
        sys.exit(str(error))
    stamps = {str(path): stamp(str(path)) for path in found.paths}
    print(json.dumps({"read": reads.read, "values": dict(found.values), "stamps": stamps}))


if __name__ == "__main__":
    main()
