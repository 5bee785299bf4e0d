"""Learning rates over the steps, against formulas written out by hand and torch's own schedules."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from adamwprune.base.errors import ConfigError
from adamwprune.train import learning_rate
from tests.support.runs import specs


def rates(**settings: str) -> list[float]:
    """The learning rate of each step of a run."""
    (spec,) = specs(**settings)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=spec["LR"])
    schedule = learning_rate.schedule(spec, optimizer)
    found = []
    for _ in range(spec.total_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*found, optimizer.param_groups[0]["lr"]]


def test_warm_up_then_cosine_to_a_floor_as_nanogpt_has_it():
    """get_lr of nanoGPT's train.py, for warmup_iters 4, lr_decay_iters 20, min_lr a tenth."""

    def reference(it: int) -> float:
        if it < 4:
            return 0.01 * (it + 1) / 5
        ratio = (it - 4) / (20 - 4)
        return 0.001 + 0.5 * (1 + math.cos(math.pi * ratio)) * (0.01 - 0.001)

    found = rates(LR="0.01", STEPS="20", LR_SCHEDULE="cosine", LR_WARMUP="4", LR_FLOOR="0.1")
    assert found == pytest.approx([reference(it) for it in range(21)])


def test_linear_decay_falls_by_the_same_amount_each_step():
    found = rates(LR="1", STEPS="10", LR_SCHEDULE="linear", LR_FLOOR="0.5")
    assert found == pytest.approx([1 - 0.05 * step for step in range(11)])


def test_a_warm_up_may_be_a_fraction_and_stand_alone():
    found = rates(LR="1", STEPS="20", LR_SCHEDULE="none", LR_WARMUP="0.2")
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, *[1.0] * 17])


def test_cosine_without_warm_up_stays_torch_s_to_the_bit():
    """Its recursion rounds otherwise than the closed form."""
    (spec,) = specs(LR="0.1", STEPS="50", LR_SCHEDULE="cosine")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    assert isinstance(learning_rate.schedule(spec, optimizer), CosineAnnealingLR)
    (spec,) = specs(LR="0.1", STEPS="50", LR_SCHEDULE="none")
    assert isinstance(learning_rate.schedule(spec, optimizer), LambdaLR)


def test_a_warm_up_that_never_ends_is_refused():
    with pytest.raises(ConfigError, match="LR_WARMUP=20 does not end before the training does"):
        rates(STEPS="20", LR_WARMUP="20")
