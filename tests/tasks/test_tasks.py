"""Tasks: losses, sums on the device, and the metrics that come of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional as F

from adamwprune import tasks
from adamwprune.base.kinds import Images
from adamwprune.base.metrics import ACCURACY, LOSS, Metric
from adamwprune.datasets import Batch
from adamwprune.tasks import Diverged, Sums, measured
from adamwprune.tasks.classification import TOP5, Classification

CPU = torch.device("cpu")
LOGITS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]])


def seen(task, batches):
    """Sums over batches of logits and targets, as the loop makes them."""
    sums = Sums(task.totals, CPU)
    for logits, targets in batches:
        batch = Batch(torch.zeros(len(targets)), targets)
        loss, output = task.loss(lambda _, logits=logits: logits, batch)
        task.observe(sums, batch, loss, output)
        sums.examples += len(batch)
    return sums


@dataclass
class Labelled:
    """Data of so many classes."""

    classes: int

    @property
    def kind(self):
        return Images(3, 32, self.classes)


def test_classification_is_cross_entropy_judged_by_accuracy():
    task = tasks.build({"TASK": "classification", "LABEL_SMOOTHING": 0.0}, Labelled(3))
    assert task.metrics == (ACCURACY, LOSS)
    # Batches of different sizes: each example counts the same.
    first, second = (LOGITS, torch.tensor([0, 1, 0])), (LOGITS[:1], torch.tensor([0]))
    found = measured(task, seen(task, [first, second]))
    assert found["accuracy"] == 0.75
    whole = F.cross_entropy(torch.cat([LOGITS, LOGITS[:1]]), torch.tensor([0, 1, 0, 0]))
    assert found["loss"] == pytest.approx(whole.item(), rel=1e-6)


def test_label_smoothing_is_in_the_loss_that_is_minimised_and_in_no_record():
    smooth = tasks.build({"TASK": "classification", "LABEL_SMOOTHING": 0.1}, Labelled(3))
    targets = torch.tensor([0, 1, 0])
    loss, _ = smooth.loss(lambda _: LOGITS, Batch(torch.zeros(3), targets))
    losses = -F.log_softmax(LOGITS, dim=1)
    expected = 0.9 * losses[range(3), targets] + 0.1 * losses.mean(1)
    assert loss.item() == pytest.approx(expected.mean().item(), rel=1e-6)
    plain = Classification()
    assert measured(smooth, seen(smooth, [(LOGITS, targets)])) == measured(
        plain, seen(plain, [(LOGITS, targets)])
    )


def test_from_a_hundred_classes_on_a_label_among_the_first_five_counts_too():
    values = {"TASK": "classification", "LABEL_SMOOTHING": 0.0}
    assert tasks.build(values, Labelled(99)).metrics == (ACCURACY, LOSS)
    task = tasks.build(values, Labelled(100))
    assert task.metrics == (ACCURACY, LOSS, TOP5)
    logits = torch.arange(100.0).expand(6, -1)  # the last class is the first choice
    found = measured(task, seen(task, [(logits, torch.tensor([99, 98, 96, 95, 94, 0]))]))
    assert found["accuracy"] == pytest.approx(1 / 6)
    assert found["top5_accuracy"] == pytest.approx(4 / 6)


class NextToken:
    """Judged by two numbers that are no means over examples; its output is the loss of a token."""

    metrics = (Metric("bits_per_byte", "bits", "lower"), Metric("perplexity", "", "lower"))
    totals = ("nats", "tokens", "bytes")

    def loss(self, network, batch):
        logits = network(batch.inputs).flatten(0, 1)
        losses = F.cross_entropy(logits, batch.targets.flatten(), reduction="none")
        return losses.mean(), losses

    def observe(self, sums, batch, loss, output):
        sums.add("nats", output.sum())
        sums.add("tokens", output.numel())
        sums.add("bytes", (batch.targets + 1).sum())  # token n stands for n + 1 bytes

    def measures(self, totals, examples):
        per_token = totals["nats"] / totals["tokens"]
        bits = totals["nats"] / math.log(2) / totals["bytes"]
        return {"bits_per_byte": bits, "perplexity": math.exp(per_token)}


def test_a_task_may_be_judged_by_what_is_no_mean_over_examples():
    logits = torch.zeros(2, 5, 4)  # four tokens, equally probable: two bits each
    targets = torch.tensor([[0, 1, 2, 3, 0], [3, 3, 3, 3, 3]])
    found = measured(NextToken(), seen(NextToken(), [(logits, targets)]))
    assert found["bits_per_byte"] == pytest.approx(10 * 2 / (6 + 5 + 20))
    assert found["perplexity"] == pytest.approx(4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_no_number_means_that_training_diverged(value):
    sums = seen(Classification(), [(LOGITS * value, torch.tensor([0, 1, 2]))])
    with pytest.raises(Diverged, match="training diverged: the loss is nan"):
        measured(Classification(), sums)


def test_sums_keep_their_tensors_and_come_back_from_a_checkpoint():
    sums = Sums(("a", "b"), CPU)
    before = sums.totals.data_ptr()
    sums.add("a", torch.tensor(1.5))
    sums.add("b", torch.tensor(2**40 + 1))  # exact, also beyond float32
    sums.examples += 4
    state = sums.state_dict()
    sums.reset()
    assert (sums.read(), sums.examples) == ({"a": 0.0, "b": 0.0}, 0)
    sums.load_state_dict(state)
    assert (sums.read(), sums.examples) == ({"a": 1.5, "b": 2**40 + 1}, 4)
    sums.add("a", 1)
    assert state["totals"].tolist() == [1.5, 2**40 + 1], "what is saved does not change"
    assert sums.totals.data_ptr() == before
