"""AdamWAdv: AdamW with AMSGrad, gradient-norm clipping and a stronger weight decay."""

from __future__ import annotations

from adamwprune.optimizers._adam import AdamFamily
from adamwprune.optimizers._preset import Preset


class AdamWAdv(AdamFamily):
    """AdamW, weight decay 0.01, AMSGrad (arXiv 1904.09237), gradient norm clipped at 1.

    Its recipe also anneals the learning rate along a cosine; schedules are torch's, outside.
    """

    preset = Preset(weight_decay=0.01, amsgrad=True, max_grad_norm=1.0)


build = AdamWAdv.from_values
