"""Magnitude pruning: the smallest weights go (Han et al., arXiv 1506.02626)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adamwprune.pruning.score import Size


class Magnitude(Size):
    """|w|."""


def build(values: Mapping[str, Any]) -> Magnitude:
    """Magnitude pruning; it has no options of its own."""
    return Magnitude()
