"""The trace of a run: what it holds is what the optimizer was given, and it costs no bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adamwprune.optimizers import AdamW, AdamWSpam, Spam
from adamwprune.optimizers._base import gradient_norm
from adamwprune.pruning import Magnitude, Pruner, Schedule
from adamwprune.pruning.select.weight_bins import BINS, LIMIT, histogram
from adamwprune.train.loop import Training
from adamwprune.train.step_trace import POINTS, Trace
from tests.support.runs import specs


class Watch:
    """Notes norms, rates and spikes by other means than the trace."""

    def __init__(self, training: Training) -> None:
        self.norms, self.rates, self.spikes = [], [], []
        training.optimizer.register_step_pre_hook(self._before)
        self.note = training.optimizer.on_spike
        training.optimizer.on_spike = self._spike

    def _before(self, optimizer, *arguments):
        params = [p for group in optimizer.param_groups for p in group["params"]]
        self.norms.append(gradient_norm(params).item())
        self.rates.append(optimizer.rate)

    def _spike(self, spike):
        self.spikes.append(bool(spike))
        if self.note is not None:
            self.note(spike)

    def stepped(self, training):
        pass

    def evaluated(self, training, entry):
        pass


def trained(spec):
    training = Training(spec, Path("/nowhere"), "cpu")
    watch = Watch(training)
    training.train(watch)
    return training, watch


def test_a_row_a_step_while_there_are_few():
    (spec,) = specs(OPTIMIZER="adamwspam", PRUNING_METHOD="magnitude", LR_SCHEDULE="cosine")
    training, watch = trained(spec)
    found = training.outcome()["trace"]
    assert found["interval"] == 1
    assert found["step"] == list(range(1, 33))
    assert found["norm"] == [pytest.approx(norm, rel=1e-5) for norm in watch.norms]
    assert found["norm_max"] == found["norm"]
    assert found["lr"] == watch.rates
    assert found["lr"][0] == spec["LR"]
    assert found["spikes"] == [int(each) for each in watch.spikes]
    assert sum(found["spikes"]) > 0
    assert found["resets"] == []


def test_steps_are_drawn_together_and_the_last_stretch_may_be_shorter():
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = AdamW([weight], 0.1)
    total = 2 * POINTS + 3  # stretches of three steps
    trace = Trace(optimizer, total).attach()
    for step in range(1, total + 1):
        weight.grad = torch.tensor([3.0 * step, 4.0 * step])
        rate = optimizer.rate
        optimizer.step()
        trace.stepped(step, rate)
    found = trace.record()
    assert found["interval"] == 3
    assert len(found["step"]) == total // 3 == len(found["norm"])
    assert (found["step"][0], found["step"][-1]) == (3, total)
    assert (found["norm"][0], found["norm_max"][0]) == (10.0, 15.0)
    assert found["norm"][-1] == 5.0 * (total - 1)
    assert found["spikes"] is None
    trace = Trace(optimizer, 2 * POINTS + 1).attach()
    assert trace.interval == 3
    for step in range(1, 2 * POINTS + 2):
        weight.grad = torch.tensor([0.0, 1.0])
        optimizer.step()
        trace.stepped(step, 0.1)
    assert trace.record()["step"][-2:] == [240, 241]
    assert trace.record()["norm"] == [1.0] * 81


def test_resets_and_the_warm_up_after_them_are_those_of_the_optimizer():
    settings = {"SPAM_MODE": "paper", "SPAM_INTERVAL": "10", "SPAM_WARMUP_STEPS": "4"}
    (spec,) = specs(OPTIMIZER="adam", LR_SCHEDULE="none", **settings)
    training, watch = trained(spec)
    found = training.outcome()["trace"]
    spam = Spam(theta=5000, interval=10, warmup_steps=4)
    assert found["resets"] == [s for s in range(1, 33) if spam.resets_before(s)] == [10, 20, 30]
    assert found["lr"] == [spec["LR"] * spam.scale(step) for step in range(1, 33)] == watch.rates
    assert found["spikes"] is None, "nobody looked for them"


def test_the_norm_is_that_of_the_masked_gradient():
    model = torch.nn.Linear(4, 2, bias=False)
    optimizer = AdamWSpam(model.parameters(), 0.01)
    schedule = Schedule(0.5, warmup=0, interval=1, ramp_end=1)
    Pruner(model, Magnitude(), schedule).attach(optimizer)
    trace = Trace(optimizer, 2).attach()
    for step in (1, 2):
        model.weight.grad = torch.full((2, 4), 100.0)  # far above where it is clipped
        optimizer.step()
        trace.stepped(step, 0.01)
    norms = trace.record()["norm"]
    assert norms == [pytest.approx(100 * 8**0.5, rel=1e-5), pytest.approx(200.0, rel=1e-5)]


def test_it_changes_no_bit():
    (spec,) = specs(OPTIMIZER="adamwprune", PRUNING_METHOD="state")
    with_it, _ = trained(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trace, "attach", lambda self: self)
        without, _ = trained(spec)
    assert without.trace.record()["norm"] == [0.0] * 32
    for name, tensor in with_it.model.state_dict().items():
        assert torch.equal(tensor, without.model.state_dict()[name])
    assert {**with_it.history[-1], "seconds": 0} == {**without.history[-1], "seconds": 0}


# -- what pruning records of its updates ---------------------------------------


def test_weights_are_counted_in_fixed_bins_without_zeros():
    weights = [torch.tensor([0.0, -0.0, 0.001, -0.001, 0.495]), torch.tensor([[-9.0, 0.5, 0.011]])]
    found = histogram(weights)
    assert len(found) == BINS == 100
    assert LIMIT == 0.5
    assert {n: c for n, c in enumerate(found) if c} == {0: 1, 49: 1, 50: 1, 51: 1, 99: 2}
    assert histogram([]) == []


def test_a_run_records_its_weights_before_and_after_pruning():
    (spec,) = specs(OPTIMIZER="adamw", PRUNING_METHOD="magnitude", TARGET_SPARSITY="0.9")
    training, _ = trained(spec)
    found = training.outcome()["pruning"]
    assert sum(found["histogram"]["before"]) == 61_470
    assert sum(found["histogram"]["after"]) == 61_470 - 55_323
    assert found["histogram"]["before"][45] > 0 == found["histogram"]["after"][50]
    (spec,) = specs(OPTIMIZER="adamw")
    dense = trained(spec)[0].outcome()["pruning"]["histogram"]
    assert dense["before"] is None
    assert sum(dense["after"]) == 61_470


def test_an_update_says_how_many_weights_it_brought_back():
    (spec,) = specs(OPTIMIZER="sgd", PRUNING_METHOD="movement", TARGET_SPARSITY="0.9")
    found = trained(spec)[0].outcome()["pruning"]
    assert sum(update["returned"] for update in found["updates"]) == found["returned"] > 0
    assert found["updates"][0]["returned"] == 0
