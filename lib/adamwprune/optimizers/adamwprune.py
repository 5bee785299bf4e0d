"""AdamWPrune: AdamWSpam whose own states decide which weights are pruned."""

from __future__ import annotations

from adamwprune.optimizers.adamwspam import AdamWSpam


class AdamWPrune(AdamWSpam):
    """The step of :class:`AdamWSpam`; pruning is attached to it::

        optimizer = AdamWPrune(model.parameters())
        schedule = Schedule(target=0.9, warmup=100, interval=50, ramp_end=944)
        Pruner(model, State(), schedule, storage="implied").attach(optimizer)

    The pruner reads ``exp_avg`` and ``exp_avg_sq`` from the optimizer's state and keeps nothing
    beside them: a weight is pruned where it and its states are zero.
    """


build = AdamWPrune.from_values
