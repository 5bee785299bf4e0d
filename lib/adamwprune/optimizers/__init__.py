"""Optimizers: ``torch.optim.Optimizer`` subclasses, usable in anybody's training loop.

A class owns what happens inside ``step()``: spike handling, gradient-norm clipping, AMSGrad,
weight decay. Learning-rate schedules are torch's own, outside; pruning is
:meth:`adamwprune.pruning.Pruner.attach`. A member's module has
``build(params, values) -> Base``; the ``values`` are a run's by symbol name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from torch import nn
from torch.nn import Parameter

from adamwprune.base import registry

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT

    from adamwprune.optimizers._base import Base
    from adamwprune.optimizers._released import ReleasedGradients
    from adamwprune.optimizers._spam import Spam
    from adamwprune.optimizers.adam import Adam
    from adamwprune.optimizers.adamw import AdamW
    from adamwprune.optimizers.adamwadv import AdamWAdv
    from adamwprune.optimizers.adamwprune import AdamWPrune
    from adamwprune.optimizers.adamwspam import AdamWSpam
    from adamwprune.optimizers.sgd import SGD

_PUBLIC = {
    "SGD": "sgd",
    "Adam": "adam",
    "AdamW": "adamw",
    "AdamWAdv": "adamwadv",
    "AdamWPrune": "adamwprune",
    "AdamWSpam": "adamwspam",
    "ReleasedGradients": "_released",
    "Spam": "_spam",
}
registry.extend(__name__, __path__)
__getattr__ = registry.lazily(__name__, _PUBLIC)
__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "AdamWAdv",
    "AdamWPrune",
    "AdamWSpam",
    "ReleasedGradients",
    "Spam",
    "build",
]


def decayed(model: nn.Module, which: str) -> Iterable[Parameter] | list[dict[str, Any]]:
    """The parameters of ``model`` as an optimizer takes them.

    ``which`` of them decay: ``all``, or ``matrices``: a group of those with two dimensions or
    more, and a group without decay of biases and normalisation.
    """
    if which == "all":
        return model.parameters()
    matrices = [each for each in model.parameters() if each.dim() > 1]
    others = [each for each in model.parameters() if each.dim() <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}]
    return [*groups, {"params": others, "weight_decay": 0.0}]


def build(name: str, params: ParamsT, values: Mapping[str, Any]) -> Base:
    """The optimizer ``name`` over ``params``, or groups of them, with a run's values."""
    return cast("Base", registry.member(__name__, name).build(params, values))
