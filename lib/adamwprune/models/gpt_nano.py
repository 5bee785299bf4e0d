"""GPT-nano: the GPT of nanoGPT's example for a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adamwprune.base.kinds import Tokens
from adamwprune.models import Model, _gpt


def build(values: Mapping[str, Any], kind: Tokens) -> Model:
    """4 layers of 128, 4 heads."""
    return _gpt.model(kind, layers=4, width=128, heads=4, factor=values["MODEL_WIDTH"])
