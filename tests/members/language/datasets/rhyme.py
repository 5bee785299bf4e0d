"""Letters of a text that a rule makes: the same ones everywhere, without a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adamwprune.base.errors import UserError
from adamwprune.base.kinds import Kind, Tokens
from adamwprune.datasets import Batch

RHYME = "the cat sat on a mat and sang to all of us so long in tune"
WORDS = RHYME.split()
ALPHABET = sorted(set(RHYME))
BLOCK, SEQUENCES, HELD_OUT = 16, 256, 32


def text() -> str:
    """Each word follows from the place of the two before it."""
    first, second, words = 1, 2, []
    for step in range(2000):
        first, second = second, (first * 3 + second * 5 + step // 7) % len(WORDS)
        words.append(WORDS[second])
    return " ".join(words)[: BLOCK * SEQUENCES + 1]


@dataclass(frozen=True)
class Text:
    """Sequences ``[n, BLOCK + 1]``; each letter but the first is to be predicted."""

    train: Tensor
    test: Tensor
    digest: str

    @property
    def kind(self) -> Tokens:
        return Tokens(len(ALPHABET), BLOCK)

    @property
    def device(self) -> torch.device:
        return self.train.device

    @property
    def examples(self) -> int:
        return len(self.train)

    @property
    def measured_on(self) -> int:
        return len(self.test)

    def batch(self, picks: Tensor) -> Batch:
        return _batch(self.train[picks[:, 0]])

    def evaluation(self) -> Iterator[Batch]:
        yield _batch(self.test)

    def validating(self, examples: int) -> Text:
        return replace(self, train=self.train[:-examples], test=self.train[-examples:])

    def fitted(self, takes: Kind) -> Text:
        if takes != self.kind:
            raise UserError(f"the model takes {takes}, the data are {self.kind}")
        return self

    def to(self, device: torch.device) -> Text:
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def kind(values: Mapping[str, Any]) -> Tokens:
    """Letters of the alphabet."""
    return Tokens(len(ALPHABET), BLOCK)


def load(values: Mapping[str, Any], data_dir: Path) -> Text:
    """The text in sequences; the last ones are the test set."""
    letters = text()
    numbers = torch.tensor([ALPHABET.index(letter) for letter in letters])
    sequences = numbers.unfold(0, BLOCK + 1, BLOCK).contiguous()
    digest = hashlib.sha256(letters.encode()).hexdigest()[:16]
    return Text(sequences[:-HELD_OUT], sequences[-HELD_OUT:], digest)


def _batch(sequences: Tensor) -> Batch:
    return Batch(sequences[:, :-1], sequences[:, 1:])
