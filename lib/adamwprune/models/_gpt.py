"""GPT-2 (Radford et al., "Language models are unsupervised multitask learners", 2019).

Parameters have the names of the published checkpoint, as ``transformers``' ``GPT2LMHeadModel`` has
them: ``transformer.wte.weight``, ``transformer.h.0.attn.c_attn.weight``, ``lm_head.weight``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamwprune.base.errors import UserError
from adamwprune.base.kinds import Tokens
from adamwprune.models import Model

DEVIATION = 0.02  # of the initial weights
# The published file holds these transposed ([inputs, outputs], the layer ``Conv1D``).
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
POSITIONS = "transformer.wpe.weight"
HEAD = "lm_head.weight"


class Attention(nn.Module):
    """Causal self-attention over ``[n, tokens, width]``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width)  # queries, keys and values
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        parts = self.c_attn(x).view(n, tokens, 3, self.heads, width // self.heads)
        query, key, value = (part.transpose(1, 2) for part in parts.unbind(2))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        projected: Tensor = self.c_proj(mixed.transpose(1, 2).reshape(n, tokens, width))
        return projected


class MLP(nn.Module):
    """Two linear layers, four times as wide between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))
        return projected


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        sum_: Tensor = x + self.mlp(self.ln_2(x))
        return sum_


class Transformer(nn.Module):
    """Tokens ``[n, tokens]`` → their normalised states ``[n, tokens, width]``."""

    def __init__(self, kind: Tokens, layers: int, width: int, heads: int) -> None:
        super().__init__()
        self.wte = nn.Embedding(kind.vocabulary, width)
        self.wpe = nn.Embedding(kind.block, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.h:
            x = block(x)
        normalised: Tensor = self.ln_f(x)
        return normalised


class GPT(nn.Module):
    """Tokens ``[n, up to block]`` → logits of each next token ``[n, tokens, vocabulary]``.

    The head is the embedding of the tokens. Raises :class:`UserError` where ``heads`` does not
    divide ``width``.
    """

    def __init__(self, kind: Tokens, layers: int, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"GPT: {heads} heads do not divide a width of {width}")
        self.transformer = Transformer(kind, layers, width, heads)
        self.lm_head = nn.Linear(width, kind.vocabulary, bias=False)
        self._initialise(layers)
        self.lm_head.weight = self.transformer.wte.weight

    def _initialise(self, layers: int) -> None:
        """GPT-2's initial weights; 2 * layers projections add to the residual stream."""
        for name, parameter in self.named_parameters():
            if name == HEAD:
                continue  # becomes the embedding
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                scale = (2 * layers) ** -0.5 if name.endswith("c_proj.weight") else 1.0
                nn.init.normal_(parameter, std=DEVIATION * scale)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.lm_head(self.transformer(tokens))
        return logits


def model(kind: Tokens, layers: int, width: int, heads: int, factor: float) -> Model:
    """A GPT for this vocabulary and block, ``factor`` times as wide."""
    return Model(GPT(kind, layers, narrowed(width, heads, factor), heads), kind)


def narrowed(width: int, heads: int, factor: float) -> int:
    """``factor`` times the width, rounded to a number that the heads divide."""
    return width if factor == 1 else max(1, round(width * factor / heads)) * heads


def load_published(network: GPT, weights: Mapping[str, Tensor]) -> None:
    """Load a published state dict by its names, into a network of the same sizes.

    Takes the names of ``GPT2LMHeadModel`` and those of the file of ``openai-community/gpt2``, which
    lack ``transformer.``. Of more positions than the network has, the first ones are loaded.
    Raises :class:`UserError` for what is missing and for other sizes.
    """
    given = {_full_name(name): tensor for name, tensor in weights.items()}
    for name, parameter in network.named_parameters():
        if name not in given:
            raise UserError(f"the published weights have no {name}")
        tensor = given[name].t() if name.endswith(TRANSPOSED) else given[name]
        if name == POSITIONS:
            tensor = tensor[: len(parameter)]
        if tensor.shape != parameter.shape:
            sizes = f"{list(tensor.shape)}, the network's are {list(parameter.shape)}"
            raise UserError(f"the published {name} has the sizes {sizes}")
        with torch.no_grad():
            parameter.copy_(tensor)


def _full_name(name: str) -> str:
    return name if name == HEAD or name.startswith("transformer.") else f"transformer.{name}"
