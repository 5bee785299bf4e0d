"""What the name of an optimizer of the Adam family stands for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from adamwprune.optimizers._spam import Spam


@dataclass(frozen=True)
class Preset:
    """What a member's name stands for: the defaults of its constructor."""

    decoupled: bool = True  # weight decay as in AdamW, otherwise added to the gradient
    weight_decay: float = 0.0
    amsgrad: bool = False
    max_grad_norm: float = 0.0  # 0: no clipping
    eps: float = 1e-8
    spam: Spam = field(default_factory=Spam)

    def with_spam(self, spam: Spam | None) -> Preset:
        """The defaults beside this ``spam`` (None: the preset one).

        SPAM as published has no AMSGrad, no norm clipping and no decay, and ε = 1e-6.
        """
        preset = self if spam is None else replace(self, spam=spam)
        if not preset.spam.published:
            return preset
        return replace(preset, weight_decay=0.0, amsgrad=False, max_grad_norm=0.0, eps=1e-6)
