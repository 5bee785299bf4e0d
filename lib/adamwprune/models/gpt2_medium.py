"""GPT-2 with 350M parameters (Radford et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adamwprune.base.kinds import Tokens
from adamwprune.models import Model, _gpt


def build(values: Mapping[str, Any], kind: Tokens) -> Model:
    """24 layers of 1024, 16 heads."""
    return _gpt.model(kind, layers=24, width=1024, heads=16, factor=values["MODEL_WIDTH"])
