"""Gradients that are released as they are used: the numbers of steps that keep them all."""

from __future__ import annotations

import gc
import weakref
from functools import partial

import pytest
import torch
from torch import nn

from adamwprune.optimizers import SGD, AdamW, AdamWSpam, ReleasedGradients, Spam
from adamwprune.pruning import Magnitude, Movement, Pruner, RigL, Schedule, State
from tests.pruning.networks import network, train

RAMP = Schedule(0.9, warmup=3, interval=3, ramp_end=15)
CONSTANT = Schedule.constant(0.9, interval=3, end=15)


def trained(optimizer, score=None, schedule=RAMP, storage="bool", *, released, steps=20):
    model = network()
    made = optimizer(model.parameters())
    pruner = None
    if score is not None:
        pruner = Pruner(model, score(), schedule, storage=storage).attach(made)
    freed = ReleasedGradients(made, pruner).attach() if released else None
    train(model, made, steps)
    if pruner is not None:
        pruner.verify()
    return model, made, freed


def assert_same(one, other):
    for mine, theirs in zip(one[0].parameters(), other[0].parameters(), strict=True):
        assert torch.equal(mine, theirs)
    mine, theirs = one[1].state_dict()["state"], other[1].state_dict()["state"]
    assert mine.keys() == theirs.keys()
    for number, states in mine.items():
        for name, value in states.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(theirs[number][name])), name


OPTIMIZERS = {
    "adamw": partial(AdamW, lr=1e-2),
    "amsgrad": partial(AdamW, lr=1e-2, amsgrad=True, weight_decay=0.1),
    "sgd": partial(SGD, lr=0.05, momentum=0.9),
    "spam": partial(AdamW, lr=1e-2, spam=Spam(theta=50.0, interval=7)),
    "torch-adamw": partial(torch.optim.AdamW, lr=1e-2),
    "torch-sgd": partial(torch.optim.SGD, lr=0.05, momentum=0.9),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_dense_training_has_the_same_bits(name):
    one, other = (trained(OPTIMIZERS[name], released=released) for released in (False, True))
    assert_same(one, other)
    assert all(param.grad is None for param in other[0].parameters())
    assert other[2].largest == 4 * 1440


@pytest.mark.parametrize("storage", ["bool", "implied", "packed"])
@pytest.mark.parametrize("name", ["adamw", "spam", "torch-adamw"])
def test_pruning_by_state_has_the_same_bits(name, storage):
    kept = trained(OPTIMIZERS[name], State, released=False)
    assert_same(kept, trained(OPTIMIZERS[name], State, storage=storage, released=True))


@pytest.mark.parametrize(
    ("score", "schedule"), [(Magnitude, RAMP), (Movement, RAMP), (RigL, CONSTANT), (RigL, RAMP)]
)
def test_every_kind_of_method_has_the_same_bits(score, schedule):
    """Those that look at each gradient, and those that keep them until the update, too."""
    one, other = (
        trained(OPTIMIZERS["adamw"], score, schedule, released=released)
        for released in (False, True)
    )
    assert_same(one, other)


def test_one_gradient_is_there_at_a_time():
    model = network()
    optimizer = AdamW(model.parameters())
    freed = ReleasedGradients(optimizer).attach()
    most = []

    def count(gradient):
        most.append(sum(param.grad is not None for param in model.parameters()))

    freed.on_gradient = count
    train(model, optimizer, 2)
    assert most == [1] * 2 * len(list(model.parameters()))
    assert optimizer.steps == 2


@pytest.mark.parametrize("storage", ["bool", "packed"])
def test_without_a_reference_it_goes_on_and_in_the_end_nothing_is_left(storage):
    model = network()
    optimizer = AdamW(model.parameters())
    pruner = Pruner(model, Magnitude(), Schedule(0.5, 0, 1, 2), storage=storage).attach(optimizer)
    ReleasedGradients(optimizer, pruner).attach()
    gc.collect()
    train(model, optimizer, 3)
    assert all(param.grad is None for param in model.parameters())
    left = [weakref.ref(param) for param in model.parameters()]
    del model, optimizer, pruner
    gc.collect()
    assert [each() for each in left] == [None] * len(left)


def test_detached_it_leaves_gradients():
    model = network()
    optimizer = AdamW(model.parameters())
    ReleasedGradients(optimizer).attach().detach()
    train(model, optimizer, 2)
    assert all(param.grad is not None for param in model.parameters())


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (partial(AdamW, max_grad_norm=1.0), "max_grad_norm needs all"),
        (AdamWSpam, "needs all"),
        (torch.optim.LBFGS, "LBFGS needs all"),
    ],
)
def test_what_needs_all_gradients_at_once_is_refused(optimizer, reason):
    with pytest.raises(ValueError, match=reason):
        ReleasedGradients(optimizer(nn.Linear(3, 2).parameters()))
