"""A network that predicts each next letter from the last three, without attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamwprune.base.kinds import Tokens
from adamwprune.models import Model

SEEN = 3  # letters
SIZE = 12  # of an embedding


class Tiny(nn.Module):
    """Tokens ``[n, block]`` → logits ``[n, block, vocabulary]``."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, SIZE)
        self.hidden = nn.Linear(SEEN * SIZE, width, bias=False)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        embedded = F.pad(self.embedding(tokens), (0, 0, SEEN - 1, 0))  # nothing before the first
        last = torch.cat([embedded[:, i : i + tokens.shape[1]] for i in range(SEEN)], dim=-1)
        logits: Tensor = self.head(F.relu(self.hidden(last)))
        return logits


def build(values: Mapping[str, Any], kind: Tokens) -> Model:
    """Pruned are the linear layers, and not the embedding."""
    module = Tiny(kind.vocabulary, values["TINY_WIDTH"])
    return Model(module, kind, prunable=("hidden.weight", "head.weight"))
