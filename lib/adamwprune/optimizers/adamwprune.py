"""AdamWPrune: AdamWSpam whose own states decide which weights are pruned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch.nn import Parameter

from adamwprune.optimizers._adam import settings
from adamwprune.optimizers.adamwspam import AdamWSpam


class AdamWPrune(AdamWSpam):
    """The step of :class:`AdamWSpam`; pruning is attached to it::

        optimizer = AdamWPrune(model.parameters())
        schedule = Schedule(target=0.9, warmup=100, interval=50, ramp_end=944)
        Pruner(model, State(), schedule).attach(optimizer)

    The pruner reads ``exp_avg`` and ``exp_avg_sq`` from the optimizer's state and keeps nothing
    beside them: a weight is pruned where it and its states are zero.
    """


def build(params: Iterable[Parameter], values: Mapping[str, Any]) -> AdamWPrune:
    """AdamWPrune with a run's values."""
    return AdamWPrune(params, **settings(values))
