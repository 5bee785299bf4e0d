"""Text that a language model writes: its next tokens, one after the other, at random."""

from __future__ import annotations

import torch
from torch import nn

from adamwprune.base.kinds import Tokens
from adamwprune.datasets._tokenizers import Tokenizer

LENGTH = 400  # bytes, or about as many
TEMPERATURE = 0.8
SEED = 0
START = b"\n"  # what stands before the text


@torch.inference_mode()
def sampled(
    network: nn.Module, kind: Tokens, tokenizer: Tokenizer, bytes_per_token: float
) -> bytes:
    """Some 400 bytes at temperature 0.8, by random numbers of their own: always the same ones.

    The network is in evaluation mode afterwards.
    """
    network.eval()
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(SEED)
    start = tokenizer.encoded(START).tolist()
    tokens = list(start)
    for _ in range(round(LENGTH / bytes_per_token)):
        context = torch.tensor([tokens[-kind.block :]], device=device)
        logits = network(context)[0, -1, : tokenizer.vocabulary].float().cpu()
        chances = torch.softmax(logits / TEMPERATURE, dim=0)
        tokens.append(int(torch.multinomial(chances, 1, generator=generator)))
    return tokenizer.decoded(tokens[len(start) :])
