"""What each optimizer is: torch's arithmetic, its ingredients, and the presets of its name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adamwprune import optimizers
from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.optimizers import SGD, Adam, AdamW, AdamWAdv, Spam
from adamwprune.optimizers._base import KeepsMoments
from adamwprune.plan.matrix import expand
from tests.optimizers.conftest import (
    ALL,
    IN_THE_TREE,
    assert_close,
    backward,
    network,
    same_bits,
    train,
)

ADAMS = [cls for cls in ALL.values() if issubclass(cls, KeepsMoments)]
PLAIN = {
    "sgd": (SGD, torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}),
    "sgd-decay": (SGD, torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}),
    "sgd-plain": (SGD, torch.optim.SGD, {"lr": 0.01, "momentum": 0.0}),
    "adam": (Adam, torch.optim.Adam, {}),
    "adam-decay": (Adam, torch.optim.Adam, {"weight_decay": 0.1, "betas": (0.8, 0.99)}),
    "adamw": (AdamW, torch.optim.AdamW, {"weight_decay": 1e-4}),
    "adamw-amsgrad": (AdamW, torch.optim.AdamW, {"weight_decay": 0.1, "amsgrad": True}),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_optimizers_are_torchs_to_the_bit(name):
    ours, theirs, settings = PLAIN[name]
    a, b = network(torch.float32), network(torch.float32)
    train(a, ours(a.parameters(), **settings), 300)
    train(b, theirs(b.parameters(), **settings, fused=True), 300)
    assert same_bits(a, b)


@pytest.mark.parametrize("name", PLAIN)
def test_plain_optimizers_are_torchs_own_loop_too(name):
    """Not only the same kernel: the plain implementation that torch takes without ``fused``."""
    ours, theirs, settings = PLAIN[name]
    a, b = network(), network()
    train(a, ours(a.parameters(), **settings), 150)
    train(b, theirs(b.parameters(), **settings, foreach=False), 150)
    assert_close(a, b)


def test_adamwadv_is_torchs_adamw_with_amsgrad_after_clipping():
    a, b = network(), network()
    train(a, AdamWAdv(a.parameters()), 100)
    reference = torch.optim.AdamW(b.parameters(), weight_decay=0.01, amsgrad=True)
    clipped = 0
    for number in range(100):
        backward(b, number)
        clipped += nn.utils.clip_grad_norm_(b.parameters(), 1.0) > 1.0
        reference.step()
    assert 0 < clipped < 100
    assert_close(a, b)


def test_sgd_clips_the_norm():
    a, b = network(), network()
    train(a, SGD(a.parameters(), max_grad_norm=0.5), 30)
    reference = torch.optim.SGD(b.parameters(), 0.01, 0.9)
    for number in range(30):
        backward(b, number)
        nn.utils.clip_grad_norm_(b.parameters(), 0.5)
        reference.step()
    assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("cls", [AdamWAdv, SGD])
@pytest.mark.parametrize("scale", [1e-3, 10.0])
def test_a_clipped_gradient_is_left_in_the_parameter(cls, dtype, scale):
    """The fused kernels divide on their way, and write what they used, as clip_grad_norm_ does."""
    model, expected = network().to(dtype), network().to(dtype)
    for each in (model, expected):
        torch.manual_seed(0)
        for param in each.parameters():
            param.grad = scale * torch.randn_like(param)
    nn.utils.clip_grad_norm_(expected.parameters(), 1.0)
    cls(model.parameters(), max_grad_norm=1.0).step()
    digits = {torch.float32: 1e-6, torch.float64: 1e-12, torch.bfloat16: 1e-2}[dtype]
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=digits, atol=digits * scale)


@pytest.mark.parametrize("cls", ADAMS)
def test_steps_are_counted_once_also_beside_torchs_own_class(cls):
    """torch wraps step() class by class; a step() that calls its parent's would run hooks twice."""
    plain = network()
    train(plain, torch.optim.AdamW(plain.parameters()), 1)
    model = network()
    optimizer = cls(model.parameters())
    calls = []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    train(model, optimizer, 7)
    assert len(calls) == 7
    assert {float(s["step"]) for s in optimizer.state.values()} == {7.0}
    assert optimizer.steps == 7


def test_a_state_dict_of_another_mode_can_be_continued():
    """What the new mode needs beside Adam's moments begins at nothing."""
    model = network()
    before = AdamW(model.parameters())
    train(model, before, 5)
    stable = AdamW(model.parameters(), amsgrad=True, spam=Spam.stable_mode())
    stable.load_state_dict(before.state_dict())
    stable.param_groups[0]["amsgrad"] = True  # the saved group said otherwise
    train(model, stable, 5, first=5)
    assert all(float(state["step"]) == 10 for state in stable.state.values())
    assert all(state["max_exp_avg_sq"].any() for state in stable.state.values())


# -- presets --------------------------------------------------------------------------------


def built(name, **settings):
    """The optimizer as a run builds it from the tree's defaults and these settings."""
    tree = Tree()
    strict.apply(tree, strict.command_line(tree, {"OPTIMIZER": name, **settings}, "test"))
    (spec,) = expand(tree).specs
    return optimizers.build(name, network().parameters(), spec.values), spec


@pytest.mark.parametrize("name", IN_THE_TREE)
def test_constructor_defaults_are_what_kconfig_presets(name):
    run, by_hand = built(name)[0], ALL[name](network().parameters())
    assert type(run) is ALL[name]
    # In one's own loop nothing lowers the learning rate: there Adam's is torch's.
    rate = 0.01 if name == "sgd" else 1e-3
    assert by_hand.defaults == {**run.defaults, "lr": rate}
    assert run.max_grad_norm == by_hand.max_grad_norm
    assert getattr(run, "spam", None) == getattr(by_hand, "spam", None)


@pytest.mark.parametrize(
    ("mode", "spam"),
    [
        ("none", Spam()),
        ("zscore", Spam.zscore_mode()),
        ("paper", Spam.paper_mode()),
        ("stable", Spam.stable_mode()),
    ],
)
@pytest.mark.parametrize("name", ["adam", "adamwspam", "adamwprune"])
def test_a_spam_mode_is_what_its_method_says_for_every_optimizer(name, mode, spam):
    assert built(name, SPAM_MODE=mode)[0].spam == spam


def test_stable_spam_has_options_of_its_own_and_no_others():
    optimizer, spec = built(
        "adamwspam",
        SPAM_MODE="stable",
        SPAM_INTERVAL="300",
        SPAM_GAMMA1="0.5",
        SPAM_GAMMA2="0.6",
        SPAM_GAMMA3="0.8",
    )
    assert optimizer.spam == Spam(interval=300, gammas=(0.5, 0.6, 0.8))
    names = {name for name in spec.values if name.startswith("SPAM_")}
    gammas = {"SPAM_GAMMA1", "SPAM_GAMMA2", "SPAM_GAMMA3"}
    assert names == {"SPAM_MODE", "SPAM_INTERVAL"} | gammas
    for mode in ("zscore", "paper"):
        assert not gammas & set(built("adamwspam", SPAM_MODE=mode)[1].values)
