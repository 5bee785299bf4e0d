"""AdamW: Adam with decoupled weight decay, Loshchilov & Hutter, arXiv 1711.05101."""

from __future__ import annotations

from adamwprune.optimizers._adam import AdamFamily
from adamwprune.optimizers._preset import Preset


class AdamW(AdamFamily):
    """Adam with decoupled weight decay 1e-4."""

    preset = Preset(weight_decay=1e-4)


build = AdamW.from_values
