"""A GPT of any size, in GPT-2's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adamwprune.base.kinds import Tokens
from adamwprune.models import Model, _gpt


def build(values: Mapping[str, Any], kind: Tokens) -> Model:
    """So many layers of this width."""
    return _gpt.model(
        kind,
        layers=values["GPT_LAYERS"],
        width=values["GPT_WIDTH"],
        heads=values["GPT_HEADS"],
        factor=values["MODEL_WIDTH"],
    )
