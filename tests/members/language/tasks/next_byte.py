"""The next letter of a text, judged by the bits that each letter would take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from adamwprune.base.metrics import Metric
from adamwprune.datasets import Batch, Data
from adamwprune.tasks import Network, Sums


class NextByte:
    """Targets ``[n, block]`` are letters, outputs ``[n, block, vocabulary]`` are logits."""

    metrics = (Metric("bits_per_byte", "bits", "lower"),)
    totals = ("nats",)

    def loss(self, network: Network, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = network(batch.inputs)
        return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten()), logits

    def observe(self, sums: Sums, batch: Batch, loss: Tensor, output: Tensor) -> None:
        sums.add("nats", loss * len(batch))

    def measures(self, totals: Mapping[str, float], examples: int) -> dict[str, float]:
        return {"bits_per_byte": totals["nats"] / examples / math.log(2)}


def build(values: Mapping[str, Any], data: Data) -> NextByte:
    """Nothing of it can be set."""
    return NextByte()
