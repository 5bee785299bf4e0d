"""The kinds of data: what a dataset gives, and what a model or a task takes; without torch.

Kconfig knows a kind by one word (``images``, ``tokens``), so that planning can refuse a pair that
does not fit. Python knows it by one of these classes, with the sizes that a model is built for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Images:
    """Square images ``[n, channels, size, size]``, each with a label below ``classes``."""

    channels: int
    size: int  # pixels
    classes: int


@dataclass(frozen=True)
class Tokens:
    """Sequences ``[n, block]`` of numbers below ``vocabulary``."""

    vocabulary: int
    block: int  # tokens a sequence


Kind: TypeAlias = Images | Tokens
