"""Networks: plain modules. A member's module has ``build(values, kind) -> Model``.

``values`` are a run's by symbol name, ``kind`` says what its data are: channels, classes, a
vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from adamwprune.base import registry
from adamwprune.base.kinds import Images, Kind

registry.extend(__name__, __path__)


@dataclass(frozen=True)
class Model:
    """A freshly initialised network, and what it takes.

    ``takes`` may differ from the data's own kind where these can be fitted to it (small images are
    centred in a larger field). ``prunable`` names the parameters that pruning may touch; None are
    the weights of convolutions and linear layers (:func:`adamwprune.pruning.prunable`).
    """

    module: nn.Module
    takes: Kind
    prunable: tuple[str, ...] | None = None
    note: str = ""

    def example(self, examples: int = 1, device: str = "meta") -> Tensor:
        """Inputs of the shape and type that the network takes, on torch's meta device by default:
        shapes and types without numbers.
        """
        if isinstance(self.takes, Images):
            size = self.takes.size
            return torch.zeros(examples, self.takes.channels, size, size, device=device)
        return torch.zeros(examples, self.takes.block, dtype=torch.long, device=device)


def build(values: Mapping[str, Any], kind: Kind) -> Model:
    """The network of a run for data of this kind, from torch's current random state."""
    return cast(Model, registry.member(__name__, values["MODEL"]).build(values, kind))
