"""Classification: one label for each example, by cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from adamwprune.base.metrics import ACCURACY, LOSS
from adamwprune.datasets import Batch, Data
from adamwprune.tasks import Network, Sums


class Classification:
    """Targets ``[n]`` are labels, outputs ``[n, classes]`` are logits."""

    metrics = (ACCURACY, LOSS)
    totals = ("loss", "hits")

    def loss(self, network: Network, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = network(batch.inputs)
        return F.cross_entropy(logits, batch.targets), logits

    def observe(self, sums: Sums, batch: Batch, loss: Tensor, output: Tensor) -> None:
        sums.add("loss", loss * len(batch))
        sums.add("hits", (output.argmax(1) == batch.targets).sum())

    def measures(self, totals: Mapping[str, float], examples: int) -> dict[str, float]:
        return {"loss": totals["loss"] / examples, "accuracy": totals["hits"] / examples}


def build(values: Mapping[str, Any], data: Data) -> Classification:
    """Nothing of it can be set."""
    return Classification()
