"""Networks: plain modules. A member's module has ``build() -> Model``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import nn

from adamwprune.base import registry

registry.extend(__name__, __path__)


@dataclass(frozen=True)
class Model:
    """A freshly initialised network and the side, in pixels, of the images it takes."""

    module: nn.Module
    image_size: int


def build(name: str) -> Model:
    """The network ``name``, initialised from torch's current random state."""
    return cast(Model, registry.member(__name__, name).build())
