"""A text of the user's own: any file, or nanoGPT's tokens in ``train.bin`` and ``val.bin``.

Of nanoGPT's directory only these two files of uint16 tokens are read: its ``meta.pkl`` is a pickle,
which could run anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adamwprune.base.errors import UserError
from adamwprune.base.files import expanded, refusing
from adamwprune.base.kinds import Tokens
from adamwprune.datasets import Measured
from adamwprune.datasets._tokenizers import Bytes, tokenizer_of
from adamwprune.datasets._tokens import TokenData, check_lengths, examples_of, largest

PARTS = ("train.bin", "val.bin")
CONTINUES = 0b10  # the first two bits of a byte of UTF-8 that goes on with a character


def kind(values: Mapping[str, Any]) -> Tokens:
    """Blocks of the file's vocabulary, which was measured."""
    return Tokens(values["VOCABULARY"], values["BLOCK"])


def measure(values: Mapping[str, Any], data_dir: Path) -> Measured:
    """Blocks, vocabulary and digest; :class:`UserError` for what cannot be trained on."""
    path = _path(values, data_dir)
    data = _data(values, path)
    check_lengths(str(path), len(data.train), len(data.test), data.block)
    for name, tokens in zip(PARTS, (data.train, data.test), strict=True):
        if (token := largest(tokens)) >= data.vocabulary:
            where = path / name if path.is_dir() else path
            vocabulary = f"a vocabulary of {data.vocabulary} (TEXT_VOCABULARY)"
            raise UserError(f"{where}: token {token} is beyond {vocabulary}")
    found: dict[str, int | str] = {
        "TRAIN_EXAMPLES": examples_of(len(data.train), data.block),
        "DATASET_DIGEST": data.digest,
        "VOCABULARY": data.vocabulary,
    }
    if path.is_dir():
        unused = ["TEXT_HELD_OUT", "TOKENIZER"]
    else:
        unused = ["TEXT_VOCABULARY"] if isinstance(data.tokenizer, Bytes) else []
    return Measured(found, [path, *_files(path)], unused)


def load(values: Mapping[str, Any], data_dir: Path) -> TokenData:
    """The tokens; those of nanoGPT are mapped into memory, and read when they are used."""
    return _data(values, _path(values, data_dir))


def _path(values: Mapping[str, Any], data_dir: Path) -> Path:
    path = data_dir / expanded(values["TEXT_FILE"])
    if not path.exists():
        raise UserError(f"{path}: there is no such file or directory (TEXT_FILE)")
    return path


def _data(values: Mapping[str, Any], path: Path) -> TokenData:
    with refusing(f"cannot read {path}"):
        return _tokens(values, path) if path.is_dir() else _text(values, path)


def _files(path: Path) -> list[Path]:
    return [path / name for name in PARTS] if path.is_dir() else []


def _text(values: Mapping[str, Any], path: Path) -> TokenData:
    """A file, whose end is held out."""
    tokenizer = tokenizer_of(values["TOKENIZER"])
    text = path.read_bytes()
    if not text:
        raise UserError(f"{path}: the file is empty (TEXT_FILE)")
    train, test = _split(text, values["TEXT_HELD_OUT"])
    encoded: list[Tensor] = []
    for begin, part in ((0, train), (len(train), test)):
        try:
            encoded.append(tokenizer.encoded(part))
        except UnicodeDecodeError as error:
            place = f"byte {begin + error.start}: {error.reason}"
            raise UserError(f"{path}: no UTF-8 ({place}); TOKENIZER=bytes takes any file") from None
    tokens, test_tokens = encoded
    vocabulary = Bytes.vocabulary if isinstance(tokenizer, Bytes) else values["TEXT_VOCABULARY"]
    return TokenData(
        tokens,
        test_tokens,
        vocabulary,
        values["BLOCK"],
        hashlib.sha256(text).hexdigest()[:16],
        tokenizer,
        bytes_per_token=len(test) / max(1, len(test_tokens)),
    )


def _split(text: bytes, held_out: float) -> tuple[bytes, bytes]:
    """At a whole character of UTF-8, if the text is that."""
    at = len(text) - round(held_out * len(text))
    while at < len(text) and text[at] >> 6 == CONTINUES:
        at += 1
    return text[:at], text[at:]


def _tokens(values: Mapping[str, Any], folder: Path) -> TokenData:
    """nanoGPT's directory. How many bytes its tokens stand for is not known."""
    digest = hashlib.sha256()
    parts: list[Tensor] = []
    for path in _files(folder):
        if not path.is_file():
            names = " and ".join(PARTS)
            raise UserError(f"{path}: missing; a directory of tokens has {names} (TEXT_FILE)")
        size = path.stat().st_size
        if not size or size % 2:
            raise UserError(f"{path}: {size} bytes are no tokens of uint16")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        parts.append(torch.from_file(str(path), size=size // 2, dtype=torch.int16))
    train, test = parts
    vocabulary, block = values["TEXT_VOCABULARY"], values["BLOCK"]
    return TokenData(train, test, vocabulary, block, digest.hexdigest()[:16])
