"""GPT-2 with 124M parameters (Radford et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adamwprune.base.kinds import Tokens
from adamwprune.models import Model, _gpt


def build(values: Mapping[str, Any], kind: Tokens) -> Model:
    """12 layers of 768, 12 heads."""
    return _gpt.model(kind, layers=12, width=768, heads=12, factor=values["MODEL_WIDTH"])
