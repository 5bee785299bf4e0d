"""A mapping that remembers which of its keys were asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class Reads(Mapping[str, Any]):
    """``values``, as they are; :attr:`read` holds those that were looked up so far."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.read: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        self.read[name] = self._values[name]
        return self.read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
