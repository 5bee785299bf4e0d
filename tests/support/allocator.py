"""A GPU's allocator, for tests without a GPU."""

from __future__ import annotations


class Allocator:
    """An allocator whose bytes the test sets."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def use(self, size: int, then: int | None = None) -> None:
        self.most = max(self.most, size)
        self.now = size if then is None else then

    def allocated(self) -> int:
        return self.now

    def peak(self) -> int:
        return self.most

    def reset(self) -> None:
        self.most = self.now
