"""Wall-clock seconds of a training, by what they went into."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any


class Clock:
    """Wall-clock seconds: since the start, since the last lap, and summed by name."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.totals: dict[str, float] = {}

    def lap(self, name: str = "") -> None:
        """Add the seconds since the last lap to ``name``; without one they are nobody's."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        if name:
            self.totals[name] = self.totals.get(name, 0.0) + seconds

    @contextlib.contextmanager
    def aside(self, name: str) -> Iterator[None]:
        """Add the seconds meanwhile to ``name``, and not to the lap in hand."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self.totals[name] = self.totals.get(name, 0.0) + seconds
            self._last += seconds

    def of(self, *names: str) -> float:
        """Seconds summed under ``names``."""
        return sum(self.totals.get(name, 0.0) for name in names)

    def elapsed(self) -> float:
        """Seconds since the start; after a resume, with those before it."""
        return time.perf_counter() - self._start

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"totals": dict(self.totals), "elapsed": self.elapsed()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; seconds so far are added to those before."""
        for name, seconds in state["totals"].items():
            self.totals[name] = self.totals.get(name, 0.0) + seconds
        self._start -= state["elapsed"]
