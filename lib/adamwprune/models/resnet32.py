"""ResNet-32 in the form for CIFAR (He et al., arXiv 1512.03385, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adamwprune.base.kinds import Images
from adamwprune.models import Model
from adamwprune.models._resnet import cifar_model


def build(values: Mapping[str, Any], kind: Images) -> Model:
    """ResNet-32 for images of any size; meant for small ones."""
    return cifar_model(values, kind, blocks=5)
