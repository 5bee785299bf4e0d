"""The next token of a text, by cross-entropy: what a language model is trained for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from adamwprune.base.metrics import LOSS, Metric
from adamwprune.datasets import Batch, Data
from adamwprune.datasets._tokens import TokenData
from adamwprune.tasks import Network, Sums
from adamwprune.tasks._sampling import sampled

BITS_PER_BYTE = Metric("bits_per_byte", "bits", "lower")
PERPLEXITY = Metric("perplexity", "", "lower")


class NextToken:
    """Targets ``[n, block]`` are tokens, outputs ``[n, block, vocabulary]`` are logits.

    Bits per byte are known, and text is sampled, of data that know the bytes of their tokens.
    """

    totals = ("nats",)

    def __init__(self, text: TokenData | None = None) -> None:
        self.text = text
        self.bytes_per_token = text.bytes_per_token if text else None
        known = (BITS_PER_BYTE,) if self.bytes_per_token else ()
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

    def sample(self, network: nn.Module) -> bytes:
        """Text that the network writes; none where nobody knows how its tokens are written."""
        if self.text is None or self.text.tokenizer is None or not self.bytes_per_token:
            return b""
        return sampled(network, self.text.kind, self.text.tokenizer, self.bytes_per_token)


def build(values: Mapping[str, Any], data: Data) -> NextToken:
    """Nothing of it can be set."""
    return NextToken(data if isinstance(data, TokenData) else None)
