"""What a dataset of the user's own is, read from its files when a matrix is planned.

Kconfig declares the number of examples and the digest of a dataset that is the same everywhere. Of
images and text of the user's own (``DATASET_MEASURED``) they are measured, so that they are part
of a run's identity all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adamwprune.config.options import Value
from adamwprune.plan.answers import Answer, Answers
from adamwprune.plan.lineage import NEUTRAL

DATA_DIR = "DATA_DIR"  # beside the values that are asked about: where the files are


def measured(values: Mapping[str, Value], data_dir: Path) -> tuple[dict[str, Value], list[str]]:
    """The values of a run that its dataset's files decide, by symbol name; and the options that
    mean nothing for them.

    Raises :class:`UserError` where the files are not there or are not what they should be.
    """
    answer = _MEASURED.of({**NEUTRAL, **values, DATA_DIR: str(data_dir.absolute())})
    return dict(answer["values"]), list(answer["unused"])


def stamp(path: str) -> list[int] | None:
    """Size and time of the last change of a file or directory; None if it is not there."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _is_unchanged(answer: Answer) -> bool:
    return all(stamp(path) == then for path, then in answer["stamps"].items())


_MEASURED = Answers("measured", ("datasets",), _is_unchanged)
