"""Dense training: the method that prunes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adamwprune.pruning.score import Score


class Dense(Score):
    """No scores, no masks, no hooks."""

    prunes = False


def build(values: Mapping[str, Any]) -> Dense:
    """The method none."""
    return Dense()
