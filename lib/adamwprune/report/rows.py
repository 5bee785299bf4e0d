"""Rows of a table that may be larger than memory: on disk, and read one at a time."""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

from adamwprune.base.files import refusing

Row = dict[str, Any]
Key = tuple[str, str]  # of a value: a part, and a name in it
IN_MEMORY = 1 << 22  # bytes of rows that need no file


class Rows(Collection[Row]):
    """A row a run, in the order of the runs' ids, as mappings from column to value.

    ``columns`` says which value a column holds; a row without it has None there. What does not fit
    into a few megabytes is in a nameless file in ``folder``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.columns: Mapping[str, Key] = {}
        place = None if folder is None else str(folder)
        self._file = SpooledTemporaryFile(IN_MEMORY, dir=place)  # noqa: SIM115  as long as the rows
        self._keys: dict[tuple[Key, ...], tuple[Key, ...]] = {}  # the same of most rows: held once
        self._places: dict[str, tuple[int, tuple[Key, ...]]] = {}  # by run id

    def put(self, run_id: str, parts: Mapping[str, Mapping[str, Any]]) -> None:
        """Add the row of a run, by part and by name in it, or put it in place of another."""
        keys = tuple((part, name) for part, own in parts.items() for name in own)
        values = [value for own in parts.values() for value in own.values()]
        with refusing("cannot write a temporary file"):
            place = self._file.seek(0, os.SEEK_END)
            self._file.write(json.dumps(values).encode() + b"\n")
        self._places[run_id] = place, self._keys.setdefault(keys, keys)

    @property
    def keys(self) -> set[Key]:
        """Those of all rows."""
        return {key for keys in {keys for _, keys in self._places.values()} for key in keys}

    def __iter__(self) -> Iterator[Row]:
        for run_id in sorted(self._places):
            place, keys = self._places[run_id]
            self._file.seek(place)
            values = dict(zip(keys, json.loads(self._file.readline()), strict=True))
            yield {column: values.get(key) for column, key in self.columns.items()}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, row: object) -> bool:
        return any(row == each for each in self)
