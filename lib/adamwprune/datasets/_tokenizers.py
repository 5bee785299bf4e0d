"""Tokenizers by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from adamwprune.base.errors import UserError


class Tokenizer(Protocol):
    """Text as numbers and back."""

    vocabulary: int

    def encoded(self, text: bytes) -> Tensor:
        """The tokens of a text, uint8, or uint16 in the bits of int16."""

    def decoded(self, tokens: Sequence[int]) -> bytes:
        """The text of tokens."""


class Bytes:
    """Each byte is a token."""

    vocabulary = 256

    def encoded(self, text: bytes) -> Tensor:
        """uint8, as many as there are bytes."""
        return torch.from_numpy(np.frombuffer(bytearray(text), np.uint8))

    def decoded(self, tokens: Sequence[int]) -> bytes:
        """As many bytes."""
        return bytes(tokens)


class GPT2:
    """GPT-2's byte pair encoding by tiktoken, of text in UTF-8.

    Raises :class:`UserError` without tiktoken or its ranks, which it downloads where they are not
    in its cache.
    """

    vocabulary = 50257

    def __init__(self) -> None:
        try:
            import tiktoken
        except ImportError:
            raise UserError("TOKENIZER=gpt2 needs tiktoken: pip install tiktoken") from None
        try:
            self._encoding: Any = tiktoken.get_encoding("gpt2")
        except (OSError, ValueError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            where = "set TIKTOKEN_CACHE_DIR to a directory that has them"
            text = f"TOKENIZER=gpt2: tiktoken has no ranks of gpt2 at hand ({reason}); {where}"
            raise UserError(text) from None

    def encoded(self, text: bytes) -> Tensor:
        """uint16 in the bits of int16; ``UnicodeDecodeError`` for what is no UTF-8."""
        tokens = self._encoding.encode_ordinary(text.decode())
        return torch.from_numpy(np.asarray(tokens, dtype=np.uint16).view(np.int16))

    def decoded(self, tokens: Sequence[int]) -> bytes:
        """The bytes that they stand for; they need not be whole characters."""
        text: bytes = self._encoding.decode_bytes(list(tokens))
        return text


def tokenizer_of(name: str) -> Tokenizer:
    """The tokenizer of TOKENIZER."""
    return GPT2() if name == "gpt2" else Bytes()
