"""ResNet-50 in the form for ImageNet (He et al., arXiv 1512.03385, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adamwprune.base.kinds import Images
from adamwprune.models import Model
from adamwprune.models._resnet import Bottleneck, imagenet_model


def build(values: Mapping[str, Any], kind: Images) -> Model:
    """ResNet-50; for images of up to 64 pixels with a stem that keeps their resolution."""
    return imagenet_model(values, kind, Bottleneck, (3, 4, 6, 3))
