"""Adam: Kingma & Ba, arXiv 1412.6980."""

from __future__ import annotations

from adamwprune.optimizers._adam import AdamFamily
from adamwprune.optimizers._preset import Preset


class Adam(AdamFamily):
    """Plain Adam. Weight decay, where set, is added to the gradient."""

    preset = Preset(decoupled=False)


build = Adam.from_values
