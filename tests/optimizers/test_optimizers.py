"""Each optimizer against torch or a straight-line reference, and one conformance suite over all."""

from __future__ import annotations

import copy
import inspect
import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from adamwprune import optimizers
from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.matrix import expand
from adamwprune.optimizers import SGD, Adam, AdamW, AdamWAdv, AdamWPrune, AdamWSpam, Spam

ALL = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "adamwadv": AdamWAdv,
    "adamwspam": AdamWSpam,
    "adamwprune": AdamWPrune,
}
ADAMS = [cls for name, cls in ALL.items() if name != "sgd"]


def network(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def backward(model, number):
    """A gradient that depends on the step's number alone, with a spike now and then."""
    generator = torch.Generator().manual_seed(number)
    dtype = next(model.parameters()).dtype
    inputs = torch.randn(16, 6, generator=generator, dtype=torch.float64).to(dtype)
    scale = 40.0 if number % 17 == 16 else 1.0
    model.zero_grad()
    (scale * model(inputs).square().mean()).backward()


def train(model, optimizer, steps, first=0):
    for number in range(first, first + steps):
        backward(model, number)
        optimizer.step()


def same(ours, theirs, rtol=1e-9):
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda p: SGD(p, 0.01), lambda p: torch.optim.SGD(p, 0.01, 0.9)),
        (
            lambda p: SGD(p, 0.01, weight_decay=0.1),
            lambda p: torch.optim.SGD(p, 0.01, 0.9, weight_decay=0.1),
        ),
        (Adam, torch.optim.Adam),
        (
            lambda p: Adam(p, weight_decay=0.1),
            lambda p: torch.optim.Adam(p, weight_decay=0.1),
        ),
        (AdamW, lambda p: torch.optim.AdamW(p, weight_decay=1e-4)),
    ],
)
def test_plain_optimizers_are_torchs(ours, theirs):
    a, b = network(), network()
    train(a, ours(a.parameters()), 150)
    train(b, theirs(b.parameters()), 150)
    same(a, b)


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
    same(a, b)


def test_sgd_clips_the_norm():
    a, b = network(), network()
    train(a, SGD(a.parameters(), max_grad_norm=0.5), 30)
    reference = torch.optim.SGD(b.parameters(), 0.01, 0.9)
    for number in range(30):
        backward(b, number)
        nn.utils.clip_grad_norm_(b.parameters(), 0.5)
        reference.step()
    same(a, b)


class Reference:
    """SPAM and its z-score heuristic in one straight line, one tensor at a time."""

    def __init__(self, params, *, zscore, theta, interval, warmup, amsgrad, max_norm, wd=0.01):
        self.params, self.zscore, self.theta = list(params), zscore, theta
        self.interval, self.warmup, self.amsgrad = interval, warmup, amsgrad
        self.max_norm, self.wd = max_norm, wd
        self.m = [torch.zeros_like(p) for p in self.params]
        self.v = [torch.zeros_like(p) for p in self.params]
        self.top = [torch.zeros_like(p) for p in self.params]
        self.norms, self.t, self.since, self.spikes, self.clipped = [], 0, None, 0, 0

    @torch.no_grad()
    def step(self, lr=1e-3):
        self.t += 1
        if self.interval and self.t > 1 and (self.t - 1) % self.interval == 0:
            self.since = 0
            for tensor in self.m + self.v + self.top:
                tensor.zero_()
        grads = [p.grad.clone() for p in self.params]
        norm = math.sqrt(sum(float((g * g).sum()) for g in grads))
        if self.zscore:
            self.damp(norm)
        clip = self.theta and self.t > 20 and (self.since is None or self.since >= 20)
        for g, v in zip(grads, self.v, strict=True):
            if clip:
                spiky = g * g > self.theta * v
                self.clipped += int(spiky.sum())
                g[spiky] = g[spiky].sign() * (self.theta * v[spiky]).sqrt()
        norm = math.sqrt(sum(float((g * g).sum()) for g in grads))
        if self.max_norm and norm > self.max_norm:
            grads = [g * (self.max_norm / (norm + 1e-6)) for g in grads]
        scale = 1.0
        if self.since is not None and self.since < self.warmup:
            scale = 1 - 0.495 * (1 + math.cos(math.pi * self.since / (self.warmup + 1)))
        for i, (p, g) in enumerate(zip(self.params, grads, strict=True)):
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            self.v[i] = 0.999 * self.v[i] + 0.001 * g * g
            self.top[i] = torch.maximum(self.top[i], self.v[i])
            second = self.top[i] if self.amsgrad else self.v[i]
            denominator = (second / (1 - 0.999**self.t)).sqrt() + 1e-8
            p.mul_(1 - lr * self.wd)
            p.sub_(scale * lr * (self.m[i] / (1 - 0.9**self.t)) / denominator)
        if self.since is not None:
            self.since += 1

    def damp(self, norm):
        last = self.norms[-100:]
        if len(last) >= 10:
            mean = sum(last) / len(last)
            deviation = math.sqrt(sum((n - mean) ** 2 for n in last) / len(last))
            if deviation > 0 and (norm - mean) / deviation > 2:
                self.spikes += 1
                self.m = [0.5 * m for m in self.m]
                self.v = [0.9 * v for v in self.v]
                self.top = [0.9 * t for t in self.top]
        self.norms.append(norm)


@pytest.mark.parametrize("amsgrad", [True, False])
@pytest.mark.parametrize(
    ("spam", "clips"),
    [
        (Spam.zscore_mode(), False),
        (Spam(zscore=True, theta=3.0, interval=120, warmup_steps=30), True),
        (Spam(theta=3.0, interval=130, warmup_steps=40), True),
    ],
)
def test_spam_follows_the_reference_across_two_resets(spam, clips, amsgrad):
    a, b = network(), network()
    ours = AdamWSpam(a.parameters(), amsgrad=amsgrad, spam=spam)
    reference = Reference(
        b.parameters(),
        zscore=spam.zscore,
        theta=spam.theta,
        interval=spam.interval,
        warmup=spam.warmup_steps,
        amsgrad=amsgrad,
        max_norm=1.0,
    )
    for number in range(300):
        backward(a, number)
        ours.step()
        backward(b, number)
        reference.step()
        assert ours.param_groups[0]["lr"] == 1e-3, "the warm-up must never write the learning rate"
    # The window of norms is float32 by design: its z-score decides, it is not a factor.
    same(a, b, rtol=1e-6)
    assert (reference.spikes > 3) == spam.zscore
    assert (reference.clipped > 100) == clips


def test_spam_warm_up_factors_are_the_papers():
    spam = Spam.paper_mode()
    assert (spam.theta, spam.interval, spam.warmup_steps) == (5000, 500, 150)
    assert spam.scale(1) == spam.scale(500) == 1.0, "no warm-up at the start of training"
    assert spam.resets_before(501)
    assert not spam.resets_before(500)
    assert spam.scale(501) == pytest.approx(0.01)
    assert spam.scale(501 + 75) == pytest.approx(1 - 0.495 * (1 + math.cos(math.pi * 75 / 151)))
    assert spam.scale(651) == 1.0
    assert [spam.clips_at(t) for t in (20, 21, 501, 520, 521)] == [False, True, False, False, True]


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


def test_constructor_defaults_are_what_kconfig_presets():
    tree = Tree()
    strict.apply(tree, strict.command_line(tree, {"OPTIMIZER": " ".join(ALL)}, "test"))
    specs = {cell.spec["OPTIMIZER"]: cell.spec for cell in expand(tree).cells}
    for name, cls in ALL.items():
        built = optimizers.build(name, network().parameters(), specs[name].values)
        by_hand = cls(network().parameters())
        assert type(built) is cls
        assert built.defaults == by_hand.defaults
        assert built.max_grad_norm == by_hand.max_grad_norm
        if name != "sgd":
            assert built.spam == by_hand.spam


# -- the conformance suite: every optimizer, a new one unasked ------------------------------


@pytest.fixture(params=sorted(optimizers.registry.members("adamwprune.optimizers")))
def member(request):
    return ALL[request.param]


def test_state_dict_round_trip_in_mid_run(member):
    model = network(torch.float32)
    optimizer = member(model.parameters())
    train(model, optimizer, 40)
    twin = copy.deepcopy(model)
    restored = member(twin.parameters())
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, 40, first=40)
    train(twin, restored, 40, first=40)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_state_dict_of_torchs_adamw_can_be_continued():
    a, b = network(), network()
    theirs = torch.optim.AdamW(a.parameters(), weight_decay=1e-4)
    train(a, theirs, 20)
    b.load_state_dict(a.state_dict())
    ours = AdamW(b.parameters())
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    train(a, theirs, 20, first=20)
    train(b, ours, 20, first=20)
    same(a, b)
    assert ours.steps == 40


class Forbidding(TorchDispatchMode):
    """Fails on every operation that reads a value back from the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            raise AssertionError(f"{func} synchronises with the device")
        return func(*args, **(kwargs or {}))


def test_a_step_reads_nothing_back_from_the_device(member):
    model = network(torch.float32)
    optimizer = member(model.parameters())
    for number in range(30):
        backward(model, number)
        with Forbidding():
            optimizer.step()


def test_bfloat16(member):
    model = network(torch.bfloat16)
    train(model, member(model.parameters()), 30)
    assert all(p.dtype == torch.bfloat16 and p.isfinite().all() for p in model.parameters())


def test_parameters_without_gradient_are_skipped(member):
    model = network()
    frozen = model[0].weight
    frozen.requires_grad_(False)
    before = frozen.clone()
    optimizer = member(model.parameters())
    train(model, optimizer, 3)
    assert torch.equal(frozen, before)
    assert frozen not in optimizer.state


def test_sparse_gradients_are_refused(member):
    embedding = nn.Embedding(10, 3, sparse=True)
    optimizer = member(embedding.parameters())
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()


def test_closure(member):
    model = network()
    optimizer = member(model.parameters())

    def closure():
        assert torch.is_grad_enabled()
        backward(model, 0)
        return 3.5

    assert optimizer.step(closure) == 3.5


def test_invalid_values_are_refused_as_torch_does(member):
    accepted = inspect.signature(member).parameters
    bad = {
        "lr": -1.0,
        "weight_decay": -0.1,
        "betas": (1.0, 0.999),
        "momentum": 1.0,
        "eps": -1e-8,
        "max_grad_norm": -1.0,
    }
    for name, value in bad.items():
        if name in accepted:
            with pytest.raises(ValueError, match="Invalid"):
                member(network().parameters(), **{name: value})
    with pytest.raises(ValueError, match="Invalid theta: -1"):
        Spam(theta=-1)
