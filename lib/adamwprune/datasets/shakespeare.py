"""Shakespeare's 37 plays inside the package; provenance in ``shakespeare.LICENSE``."""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adamwprune.base.kinds import Tokens
from adamwprune.datasets import Measured
from adamwprune.datasets._tokenizers import Bytes
from adamwprune.datasets._tokens import TokenData, check_lengths, examples_of

FILE = Path(__file__).with_name("shakespeare.txt.xz")
BYTES = 4_850_416
TEST_BYTES = 152_788  # the last of them: The Winter's Tale, a play that is not trained on


def kind(values: Mapping[str, Any]) -> Tokens:
    """Each byte is a token."""
    return Tokens(Bytes.vocabulary, values["BLOCK"])


def measure(values: Mapping[str, Any], data_dir: Path) -> Measured:
    """How many blocks the text has."""
    block = values["BLOCK"]
    check_lengths("shakespeare", BYTES - TEST_BYTES, TEST_BYTES, block)
    return Measured({"TRAIN_EXAMPLES": examples_of(BYTES - TEST_BYTES, block)}, ())


def load(values: Mapping[str, Any], data_dir: Path) -> TokenData:
    """The embedded plays; ``data_dir`` is not looked at."""
    text = lzma.decompress(FILE.read_bytes())
    tokens = Bytes().encoded(text)
    return TokenData(
        tokens[:-TEST_BYTES],
        tokens[-TEST_BYTES:],
        Bytes.vocabulary,
        values["BLOCK"],
        hashlib.sha256(text).hexdigest()[:16],
        Bytes(),
        bytes_per_token=1.0,
    )
