"""The next token: losses, bits per byte, perplexity, and a sample of text."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adamwprune import tasks
from adamwprune.base.metrics import LOSS
from adamwprune.datasets import Batch
from adamwprune.datasets._tokenizers import Bytes
from adamwprune.datasets._tokens import TokenData
from adamwprune.tasks import Diverged, Sampling, Sums, measured
from adamwprune.tasks._sampling import LENGTH
from adamwprune.tasks.next_token import BITS_PER_BYTE, PERPLEXITY, NextToken

CPU = torch.device("cpu")


def text(bytes_per_token: float | None = 1.0, tokenizer: Bytes | None = None) -> TokenData:
    tokens = torch.zeros(40, dtype=torch.uint8)
    return TokenData(tokens, tokens, 256, 4, "", tokenizer, bytes_per_token)


def seen(task: NextToken, *batches: tuple[torch.Tensor, torch.Tensor]) -> dict[str, float]:
    """The metrics over batches of logits and targets, as the loop measures them."""
    sums = Sums(task.totals, CPU)
    for logits, targets in batches:
        batch = Batch(targets, targets)
        loss, output = task.loss(lambda _, logits=logits: logits, batch)
        assert loss.dtype == torch.float32
        task.observe(sums, batch, loss, output)
        sums.examples += len(batch)
    return measured(task, sums)


def test_every_token_counts_the_same_whatever_the_batch():
    task = tasks.build({"TASK": "next-token"}, text(bytes_per_token=2.5))
    assert task.metrics == (LOSS, BITS_PER_BYTE, PERPLEXITY)
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 4, 7), torch.randint(7, (5, 4))
    found = seen(task, (logits[:3], targets[:3]), (logits[3:], targets[3:]))
    whole = F.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()
    assert found["loss"] == pytest.approx(whole, rel=1e-6)
    assert found["bits_per_byte"] == pytest.approx(whole / math.log(2) / 2.5, rel=1e-6)
    assert found["perplexity"] == pytest.approx(math.exp(whole), rel=1e-6)


def test_a_network_that_knows_nothing_needs_eight_bits_a_byte():
    found = seen(NextToken(text()), (torch.zeros(2, 4, 256), torch.zeros(2, 4, dtype=torch.long)))
    assert found["bits_per_byte"] == pytest.approx(8)
    assert found["perplexity"] == pytest.approx(256, rel=1e-5)


def test_bits_per_byte_are_not_told_where_nobody_knows_the_bytes():
    for data in (text(bytes_per_token=None), None):
        task = tasks.build({"TASK": "next-token"}, data)
        assert task.metrics == (LOSS, PERPLEXITY)
        assert task.sample(nn.Identity()) == b""


def test_half_precision_logits_are_judged_in_float32():
    logits = torch.randn(2, 4, 256, dtype=torch.bfloat16)
    targets = torch.randint(256, (2, 4))
    found = seen(NextToken(text()), (logits, targets))
    expected = F.cross_entropy(logits.double().flatten(0, 1), targets.flatten()).item()
    assert found["loss"] == pytest.approx(expected, rel=1e-6)


def test_a_loss_beyond_all_numbers_is_a_divergence():
    huge = torch.zeros(1, 4, 256).index_fill(2, torch.tensor(1), 1e4)
    with pytest.raises(Diverged, match="perplexity is inf"):
        seen(NextToken(text()), (huge, torch.zeros(1, 4, dtype=torch.long)))


class Alphabet(nn.Module):
    """Says that the next letter of the alphabet follows."""

    def __init__(self) -> None:
        super().__init__()
        self.sure = nn.Parameter(torch.tensor(100.0))
        self.longest = 0

    def forward(self, tokens):
        self.longest = max(self.longest, tokens.shape[1])
        following = torch.where(tokens == 10, 97, 97 + (tokens - 96) % 26)
        return self.sure * F.one_hot(following, 256)


def test_a_sample_goes_on_from_what_it_wrote_within_the_networks_block():
    network = Alphabet().train()
    task = NextToken(text(tokenizer=Bytes()))
    assert isinstance(task, Sampling)
    before = torch.get_rng_state()
    found = task.sample(network)
    assert torch.equal(torch.get_rng_state(), before), "by random numbers of its own"
    assert found[:30] == b"abcdefghijklmnopqrstuvwxyzabcd"
    assert len(found) == LENGTH
    assert network.longest == 4
    network.sure.data.fill_(1.0)
    assert task.sample(network) == task.sample(network) != found
