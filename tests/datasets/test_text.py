"""Text: blocks of tokens that begin anywhere, bytes and foreign tokens, and what is refused."""

from __future__ import annotations

import hashlib
import lzma
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from adamwprune import datasets
from adamwprune.base.errors import UserError
from adamwprune.base.kinds import Tokens
from adamwprune.datasets import shakespeare, text_file
from adamwprune.datasets._tokenizers import Bytes
from adamwprune.datasets._tokens import EVALUATION_TOKENS, TokenData
from adamwprune.train.data import DRAWS, Order

NOWHERE = Path("/nowhere")
SETTINGS = {
    "DATASET": "text-file",
    "TEXT_FILE": "text.txt",
    "TEXT_HELD_OUT": 0.25,
    "TOKENIZER": "bytes",
    "TEXT_VOCABULARY": 50304,
    "BLOCK": 8,
    "VALIDATION_EXAMPLES": 0,
    "AUGMENT": "none",
}


def counting(block: int = 4, tokens: int = 50, test: int = 14) -> TokenData:
    """Each token is its place in the text."""
    text = torch.arange(tokens, dtype=torch.uint8)
    return TokenData(text, torch.arange(100, 100 + test, dtype=torch.uint8), 256, block, "digest")


def loaded(folder: Path, **changed: object) -> TokenData:
    """A text of the user's own, as a run has it."""
    values = {**SETTINGS, **changed}
    found = datasets.measure(values, folder)
    data = datasets.load({**values, **found.values}, folder)
    assert isinstance(data, TokenData)
    return data


def refused(folder: Path, **changed: object) -> str:
    """Why a text cannot be trained on, in one line."""
    with pytest.raises(UserError) as refusal:
        datasets.measure({**SETTINGS, **changed}, folder)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


# -- blocks ----------------------------------------------------------------------


def test_a_block_begins_where_number_and_draw_say_and_its_targets_one_further_on():
    data = counting()
    assert data.examples == 11, "a twelfth could not begin at every one of its places"
    batch = data.batch(torch.tensor([[0, 0], [1, 2], [10, 2**31 - 1]]))
    assert batch.inputs.tolist() == [[0, 1, 2, 3], [6, 7, 8, 9], [43, 44, 45, 46]]
    assert batch.targets.tolist() == [[1, 2, 3, 4], [7, 8, 9, 10], [44, 45, 46, 47]]
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64


def test_every_place_of_the_text_is_begun_at():
    data = counting()
    begun: set[int] = set()
    order = Order(data.examples, 5, 0, torch.device("cpu"))
    for _ in range(200):
        begun.update(data.batch(order.next()).inputs[:, 0].tolist())
    assert begun == set(range(44))
    assert DRAWS % 4 == 0, "by the remainder each is as likely as any other"


def test_the_evaluation_is_over_consecutive_blocks_each_token_once(monkeypatch):
    data = counting()
    monkeypatch.setitem(EVALUATION_TOKENS, "cpu", 8)
    batches = list(data.evaluation())
    assert [len(batch) for batch in batches] == [2, 1]
    assert data.measured_on == 3
    assert torch.cat([b.inputs for b in batches]).flatten().tolist() == list(range(100, 112))
    assert torch.cat([b.targets for b in batches]).flatten().tolist() == list(range(101, 113))


def test_the_end_of_the_training_text_is_held_out_for_validation():
    data = counting().validating(3)
    assert (data.examples, data.measured_on) == (8, 3)
    predicted = torch.cat([b.targets for b in data.evaluation()]).flatten().tolist()
    assert predicted == list(range(38, 50))
    assert data.train.tolist() == list(range(38))
    with pytest.raises(UserError, match="VALIDATION_EXAMPLES=11 leaves no block to train on"):
        counting().validating(11)


def test_it_is_fitted_to_a_model_of_the_same_vocabulary_and_block_only():
    data = counting()
    assert data.fitted(Tokens(256, 4)) is data
    with pytest.raises(UserError, match="the data are Tokens"):
        data.fitted(Tokens(256, 8))


# -- the plays -------------------------------------------------------------------


def test_the_plays_are_in_the_package_and_the_last_one_is_for_testing():
    text = lzma.decompress(shakespeare.FILE.read_bytes())
    assert shakespeare.FILE.stat().st_size < 2_000_000
    assert len(text) == shakespeare.BYTES
    assert max(text) < 128
    assert text.count(b"\n\nby William Shakespeare\n") == 37
    values = {"DATASET": "shakespeare", "BLOCK": 64}
    found = dict(shakespeare.measure(values, NOWHERE).values)
    data = shakespeare.load(values, NOWHERE)
    assert data.examples == found["TRAIN_EXAMPLES"] == 73399
    assert data.kind == shakespeare.kind(values) == Tokens(256, 64)
    assert data.digest == hashlib.sha256(text).hexdigest()[:16]
    assert Bytes().decoded(data.test.tolist()).startswith(b"THE WINTER'S TALE\n")
    assert b"WINTER'S TALE" not in Bytes().decoded(data.train.tolist())
    assert data.bytes_per_token == 1.0
    licence = shakespeare.FILE.with_name("shakespeare.LICENSE").read_text()
    assert hashlib.sha256(text).hexdigest() in licence


def test_a_block_longer_than_the_play_is_refused():
    values = {"DATASET": "shakespeare", "BLOCK": 152_788}
    with pytest.raises(UserError, match="152788 tokens to be judged by"):
        shakespeare.measure(values, NOWHERE)


# -- a file of one's own -----------------------------------------------------------


def test_a_file_is_bytes_whose_end_is_held_out(tmp_path):
    (tmp_path / "text.txt").write_bytes(bytes(range(100)))
    data = loaded(tmp_path)
    assert data.train.tolist() == list(range(75))
    assert data.test.tolist() == list(range(75, 100))
    assert (data.kind, data.bytes_per_token) == (Tokens(256, 8), 1.0)
    assert data.examples == 75 // 8 - 1
    absolute = loaded(NOWHERE, TEXT_FILE=str(tmp_path / "text.txt"))
    assert absolute.digest == data.digest == hashlib.sha256(bytes(range(100))).hexdigest()[:16]
    found = datasets.measure(SETTINGS, tmp_path)
    assert list(found.paths) == [tmp_path / "text.txt"]


def test_characters_of_several_bytes_are_not_cut(tmp_path):
    (tmp_path / "text.txt").write_text("é" * 50)
    data = loaded(tmp_path, TEXT_HELD_OUT=0.25)
    assert len(data.train) == 76
    assert Bytes().decoded(data.test.tolist()).decode() == "é" * 12


def tokens_in(folder: Path, train: list[int], test: list[int]) -> None:
    for name, tokens in (("train.bin", train), ("val.bin", test)):
        np.array(tokens, dtype=np.uint16).tofile(folder / name)


def test_tokens_of_nanogpt_are_read_and_its_pickle_is_not(tmp_path):
    tokens_in(tmp_path, [*range(40_000, 40_030), 50_303], [65, *range(50_000, 50_010)])
    (tmp_path / "meta.pkl").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    data = loaded(tmp_path.parent, TEXT_FILE=tmp_path.name)
    assert data.kind == Tokens(50304, 8)
    batch = data.batch(torch.tensor([[0, 3]]))
    assert batch.inputs.tolist() == [list(range(40_003, 40_011))]
    (only,) = data.evaluation()
    assert only.targets.tolist() == [list(range(50_000, 50_008))]
    assert data.bytes_per_token is None
    assert data.tokenizer is None
    found = datasets.measure({**SETTINGS, "TEXT_FILE": str(tmp_path)}, NOWHERE)
    assert [path.name for path in found.paths[1:]] == ["train.bin", "val.bin"]


def test_what_cannot_be_trained_on_is_refused_in_one_line(tmp_path):
    text, folder = tmp_path / "text.txt", tmp_path / "tokens"
    assert f"{text}: there is no such file" in refused(tmp_path)
    text.touch()
    assert f"{text}: the file is empty" in refused(tmp_path)
    text.write_bytes(bytes(3))
    assert "3 tokens to train on are less than two blocks of 8" in refused(
        tmp_path, TEXT_HELD_OUT=0.1
    )
    text.write_bytes(bytes(19))
    assert "14 tokens to train on are less than two blocks of 8" in refused(tmp_path)
    text.write_bytes(bytes(30))
    assert "8 tokens to be judged by" in refused(tmp_path)
    folder.mkdir()
    assert f"{folder}/train.bin: missing" in refused(tmp_path, TEXT_FILE="tokens")
    (folder / "train.bin").write_bytes(bytes(101))
    assert "101 bytes are no tokens of uint16" in refused(tmp_path, TEXT_FILE="tokens")
    tokens_in(folder, [*range(31), 65], [1] * 20)
    assert "train.bin: token 65 is beyond a vocabulary of 65 (TEXT_VOCABULARY)" in refused(
        tmp_path, TEXT_FILE="tokens", TEXT_VOCABULARY=65
    )
    tokens_in(folder, [1] * 40, [65_535] * 20)
    assert "val.bin: token 65535 is beyond" in refused(tmp_path, TEXT_FILE="tokens")
    (folder / "val.bin").unlink()
    assert f"{folder}/val.bin: missing" in refused(tmp_path, TEXT_FILE="tokens")


# -- GPT-2's byte pairs --------------------------------------------------------------


class Pairs:
    """Stands for tiktoken's encoding: two letters are a token."""

    def encode_ordinary(self, text: str) -> list[int]:
        return [40_000 + ord(first) for first in text[::2]]

    def decode_bytes(self, tokens: list[int]) -> bytes:
        return b"".join(bytes([token - 40_000] * 2) for token in tokens)


def with_tiktoken(monkeypatch, get_encoding) -> None:
    module = types.ModuleType("tiktoken")
    module.get_encoding = get_encoding  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tiktoken", module)


def test_gpt2s_tokens_know_how_many_bytes_they_stand_for(tmp_path, monkeypatch):
    with_tiktoken(monkeypatch, lambda name: Pairs())
    (tmp_path / "text.txt").write_text("aabbccdd" * 20)
    data = loaded(tmp_path, TOKENIZER="gpt2")
    assert data.kind == Tokens(50304, 8)
    assert data.bytes_per_token == 2.0
    assert data.batch(torch.tensor([[0, 0]])).inputs[0, :4].tolist() == [
        40_000 + ord(letter) for letter in "abcd"
    ]
    assert data.tokenizer is not None
    assert data.tokenizer.decoded([40_097]) == b"aa"


def test_a_validation_set_has_bytes_per_token_of_its_own(tmp_path, monkeypatch):
    """Bits per byte are of the text that a run is judged by."""

    class Longer(Pairs):
        """Two of z are a token of four bytes."""

        def decode_bytes(self, tokens: list[int]) -> bytes:
            return super().decode_bytes(tokens).replace(b"zz", b"zzzz")

    with_tiktoken(monkeypatch, lambda name: Longer())
    (tmp_path / "text.txt").write_text("aa" * 50 + "zz" * 25 + "aa" * 25)
    data = loaded(tmp_path, TOKENIZER="gpt2", VALIDATION_EXAMPLES=2)
    assert len(data.test) == 17
    assert data.bytes_per_token == 4.0
    assert loaded(tmp_path, TOKENIZER="gpt2").bytes_per_token == 2.0


@pytest.mark.parametrize(
    ("changed", "unused"),
    [
        ({}, ["TEXT_VOCABULARY"]),
        ({"TOKENIZER": "gpt2"}, []),
        ({"TEXT_FILE": "tokens"}, ["TEXT_HELD_OUT", "TOKENIZER"]),
    ],
    ids=["bytes", "gpt2", "tokens"],
)
def test_it_knows_which_options_mean_nothing_for_it(tmp_path, monkeypatch, changed, unused):
    with_tiktoken(monkeypatch, lambda name: Pairs())
    (tmp_path / "text.txt").write_text("aabbccdd" * 20)
    (tmp_path / "tokens").mkdir()
    tokens_in(tmp_path / "tokens", [1] * 40, [1] * 20)
    assert list(datasets.measure({**SETTINGS, **changed}, tmp_path).unused) == unused


def test_without_tiktoken_or_its_ranks_one_line_says_so(tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text("aabbccdd" * 20)
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    assert refused(tmp_path, TOKENIZER="gpt2") == (
        "TOKENIZER=gpt2 needs tiktoken: pip install tiktoken"
    )

    def offline(name: str) -> Pairs:
        raise ConnectionError("no network\nreally")

    with_tiktoken(monkeypatch, offline)
    assert "no ranks of gpt2 at hand (no network)" in refused(tmp_path, TOKENIZER="gpt2")
    with_tiktoken(monkeypatch, lambda name: Pairs())
    for place in (0, 190):  # in the part to train on, in the part that is held out
        (tmp_path / "text.txt").write_bytes(b"a" * place + b"\xff" + b"a" * (199 - place))
        assert f"no UTF-8 (byte {place}: invalid start byte); TOKENIZER=bytes" in refused(
            tmp_path, TOKENIZER="gpt2"
        )


def test_a_text_is_read_anew_where_a_run_has_another(tmp_path):
    (tmp_path / "text.txt").write_bytes(bytes(range(100)))
    values = {**SETTINGS, **datasets.measure(SETTINGS, tmp_path).values}
    (tmp_path / "text.txt").write_bytes(bytes(range(1, 101)))
    with pytest.raises(UserError, match="its files have the digest"):
        datasets.load(values, tmp_path)
    assert text_file.kind(values) == Tokens(256, 8)
