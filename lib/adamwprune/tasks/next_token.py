"""The next token of a text, by cross-entropy: what a language model is trained for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from adamwprune.base.metrics import LOSS, Metric
from adamwprune.datasets import Batch, Data
from adamwprune.datasets._tokens import TokenData
from adamwprune.tasks import Network, Sums

BITS_PER_BYTE = Metric("bits_per_byte", "bits", "lower")
PERPLEXITY = Metric("perplexity", "", "lower")


class NextToken:
    """Targets ``[n, block]`` are tokens, outputs ``[n, block, vocabulary]`` are logits.

    ``bytes_per_token`` relates nats a token to bits a byte; None: that metric is not known.
    """

    totals = ("nats",)

    def __init__(self, bytes_per_token: float | None = None) -> None:
        self.bytes_per_token = bytes_per_token
        known = (BITS_PER_BYTE,) if bytes_per_token else ()
        self.metrics = (LOSS, *known, PERPLEXITY)

    def loss(self, network: Network, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = network(batch.inputs).flatten(0, 1)
        loss = F.cross_entropy(logits.float(), batch.targets.flatten())
        return loss, loss  # not the logits, which are larger than all the rest

    def observe(self, sums: Sums, batch: Batch, loss: Tensor, output: Tensor) -> None:
        sums.add("nats", loss * len(batch))  # all blocks are of one size

    def measures(self, totals: Mapping[str, float], examples: int) -> dict[str, float]:
        nats = totals["nats"] / examples
        found = {"loss": nats, "perplexity": math.exp(nats) if nats < 700 else math.inf}
        if self.bytes_per_token:
            found["bits_per_byte"] = nats / math.log(2) / self.bytes_per_token
        return found


def build(values: Mapping[str, Any], data: Data) -> NextToken:
    """Nothing of it can be set; bits per byte are known of data that know their bytes."""
    return NextToken(data.bytes_per_token if isinstance(data, TokenData) else None)
