"""AdamWSpam: AdamWAdv that damps its momentum after gradient spikes (after arXiv 2501.06842)."""

from __future__ import annotations

from dataclasses import replace

from adamwprune.optimizers._spam import Spam
from adamwprune.optimizers.adamwadv import AdamWAdv


class AdamWSpam(AdamWAdv):
    """AdamWAdv with :meth:`Spam.zscore_mode`.

    ``spam=Spam.paper_mode()`` is SPAM as published, ``spam=Spam.stable_mode()`` Stable-SPAM
    (arXiv 2502.17055).
    """

    preset = replace(AdamWAdv.preset, spam=Spam.zscore_mode())


build = AdamWSpam.from_values
