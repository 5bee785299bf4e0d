"""Datasets of text: a long row of tokens to train on, and another to be judged by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adamwprune.base.errors import UserError
from adamwprune.base.kinds import Kind, Tokens
from adamwprune.datasets import Batch
from adamwprune.datasets._tokenizers import Tokenizer

# Tokens of an evaluation's batch: on a CPU in its caches, on a GPU enough to fill it.
EVALUATION_TOKENS = {"cpu": 1024, "cuda": 2**16}
EVALUATION_LOGITS = 2**28  # of a batch at most: 1 GiB
UINT16 = 0xFFFF


@dataclass(frozen=True)
class TokenData:
    """Tokens ``[n]`` to train on and to be judged by (:class:`Data`); targets are the next tokens.

    They are uint8, or uint16 in the bits of int16, which more operations of torch take. An example
    is a block of the training tokens: number i begins between ``i * block`` and the beginning of
    the next one, where the random number beside it says, so that a block begins at any token. The
    evaluation is over the consecutive blocks of the test tokens; less than a block at their end is
    left out.

    ``bytes_per_token``: of the test tokens, None where it is not known; ``tokenizer``: None
    likewise.
    """

    train: Tensor
    test: Tensor
    vocabulary: int
    block: int
    digest: str
    tokenizer: Tokenizer | None = None
    bytes_per_token: float | None = None

    @property
    def kind(self) -> Tokens:
        """Blocks of tokens."""
        return Tokens(self.vocabulary, self.block)

    @property
    def device(self) -> torch.device:
        """Where the tokens are."""
        return self.train.device

    @property
    def examples(self) -> int:
        """Blocks to train on."""
        return examples_of(len(self.train), self.block)

    @property
    def measured_on(self) -> int:
        """Blocks of the test set."""
        return (len(self.test) - 1) // self.block

    def batch(self, picks: Tensor) -> Batch:
        """Blocks of the training tokens as int64 ``[n, block]``, and the tokens one further on."""
        begin = picks[:, 0] * self.block + picks[:, 1] % self.block
        places = begin.unsqueeze(1) + torch.arange(self.block + 1, device=picks.device)
        return _batch(self.train[places])

    def evaluation(self) -> Iterator[Batch]:
        """The consecutive blocks of the test tokens."""
        most = min(EVALUATION_TOKENS[self.device.type], EVALUATION_LOGITS // self.vocabulary)
        blocks = self.test.unfold(0, self.block + 1, self.block)
        return map(_batch, blocks.split(max(1, most // self.block)))

    def validating(self, examples: int) -> TokenData:
        """The last blocks of the training tokens stand in for the test tokens."""
        kept = len(self.train) - examples * self.block
        if kept < 2 * self.block:
            raise UserError(f"VALIDATION_EXAMPLES={examples} leaves no block to train on")
        train, test = self.train[:kept], self.train[kept - 1 :]
        if self.tokenizer is None:
            return replace(self, train=train, test=test)
        text = self.tokenizer.decoded(_numbers(test).tolist())
        return replace(self, train=train, test=test, bytes_per_token=len(text) / len(test))

    def fitted(self, takes: Kind) -> TokenData:
        """As it is: the model takes this vocabulary in blocks of this size."""
        if takes != self.kind:
            raise UserError(f"the model takes {takes}, the data are {self.kind}")
        return self

    def to(self, device: torch.device) -> TokenData:
        """All tokens on ``device``."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def largest(tokens: Tensor) -> int:
    """The largest of tokens on the CPU."""
    return int(_numbers(tokens).max())


def examples_of(tokens: int, block: int) -> int:
    """Blocks of so many training tokens, each of which may begin anywhere in its place."""
    return tokens // block - 1


def check_lengths(name: str, train: int, test: int, block: int) -> None:
    """:class:`UserError` for a text in which there is no block."""
    if train < 2 * block:
        raise UserError(f"{name}: {train} tokens to train on are less than two blocks of {block}")
    if test < block + 1:
        raise UserError(
            f"{name}: {test} tokens to be judged by, a block and its target are {block + 1}"
        )


def _numbers(tokens: Tensor) -> NDArray[np.unsignedinteger]:
    """Tokens on the CPU as what they count."""
    numbers = tokens.numpy()
    return numbers.view(np.uint16) if tokens.dtype == torch.int16 else numbers


def _batch(sequences: Tensor) -> Batch:
    """``[n, block + 1]`` → tokens and the next ones."""
    tokens = sequences.long()
    if sequences.dtype == torch.int16:
        tokens &= UINT16
    return Batch(tokens[:, :-1], tokens[:, 1:])
