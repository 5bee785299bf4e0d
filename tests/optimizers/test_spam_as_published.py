"""SPAM as published (arXiv 2501.06842), against its official code's recipe written down anew."""

from __future__ import annotations

import math

import pytest
import torch

from adamwprune.optimizers import AdamW, AdamWPrune, AdamWSpam, Spam
from tests.optimizers.conftest import ALL, IN_THE_TREE, network
from tests.optimizers.test_optimizers import ADAMS, built
from tests.optimizers.test_spam import Problem

STEPS, THETA, INTERVAL, WARMUP = 1200, 5000.0, 500, 150
LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-6
PUBLISHED = {"amsgrad": False, "weight_decay": 0.0, "eps": 1e-6}


class Published:
    """One tensor; ``total`` and ``current`` count as the official code does."""

    def __init__(self, weight, eps_before_correction):
        self.w, self.eps_before_correction = weight, eps_before_correction
        self.m, self.v = torch.zeros_like(weight), torch.zeros_like(weight)
        self.total, self.current, self.clipped = 0, WARMUP + 1, 0

    def step(self, g, eps):
        rest = 0.0
        if self.current < WARMUP:
            rest = 0.99 * (1 + math.cos(math.pi * self.current / (WARMUP + 1))) / 2
        t = self.total + 1
        if t % INTERVAL == 0:
            self.m, self.v = torch.zeros_like(g), torch.zeros_like(g)
        if t >= 20 and t % INTERVAL >= 20:
            spiky = (g * g > THETA * self.v) & (self.v != 0)
            self.clipped += int(spiky.sum())
            g = torch.where(spiky, g.sign() * (THETA * self.v).sqrt(), g)
        self.m = BETA1 * self.m + (1 - BETA1) * g
        self.v = BETA2 * self.v + (1 - BETA2) * g * g
        first, second = 1 - BETA1**t, math.sqrt(1 - BETA2**t)
        if self.eps_before_correction:
            update = second / first * self.m / (self.v.sqrt() + eps)
        else:
            update = self.m / first / (self.v.sqrt() / second + eps)
        self.w = self.w - LR * (1 - rest) * update
        self.total, self.current = self.total + 1, self.current + 1
        if (self.total + 1) % INTERVAL == 0:
            self.current = 0


@pytest.mark.parametrize("cls", [AdamW, AdamWSpam, AdamWPrune])
@pytest.mark.parametrize(("before", "eps"), [(False, EPS), (True, 1e-30)])
@pytest.mark.slow
def test_1200_steps_are_the_published_ones(cls, before, eps):
    """The official code adds ε before the bias correction, Adam and torch after it.

    Here it is torch's ε; without an ε that counts, the two agree.
    """
    problem = Problem()
    params = [torch.nn.Parameter(w) for w in problem.start()]
    references = [Published(w, before) for w in problem.start()]
    settings = {} if eps == EPS else {"eps": eps}
    optimizer = cls(params, spam=Spam.paper_mode(), **settings)
    for step in range(1, STEPS + 1):
        pairs = zip(params, problem.gradients([p.detach() for p in params], step), strict=True)
        for param, gradient in pairs:
            param.grad = gradient
        ours = [reference.w for reference in references]
        for reference, gradient in zip(references, problem.gradients(ours, step), strict=True):
            reference.step(gradient, eps)
        optimizer.step()
        found = [param.detach() for param in params]
        expected = [reference.w for reference in references]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert sum(reference.clipped for reference in references) > 20
    assert all(float(state["step"]) == STEPS for state in optimizer.state.values())


@pytest.mark.parametrize("cls", [cls for cls in ADAMS if cls.__module__.startswith("adamwprune")])
def test_what_is_not_set_beside_it_is_as_published(cls):
    optimizer = cls(network().parameters(), spam=Spam.paper_mode())
    assert {name: optimizer.defaults[name] for name in PUBLISHED} == PUBLISHED
    assert optimizer.max_grad_norm == 0
    assert (optimizer.defaults["lr"], optimizer.defaults["betas"]) == (LR, (BETA1, BETA2))


def test_what_is_set_beside_it_stays():
    settings = {"amsgrad": True, "weight_decay": 0.5, "eps": 1e-3}
    optimizer = AdamWSpam(
        network().parameters(), spam=Spam.paper_mode(), max_grad_norm=2.0, **settings
    )
    assert {name: optimizer.defaults[name] for name in settings} == settings
    assert optimizer.max_grad_norm == 2.0


def test_its_mechanics_in_settings_of_ones_own_change_no_preset():
    optimizer = AdamWSpam(network().parameters(), spam=Spam(theta=THETA, interval=INTERVAL))
    assert optimizer.defaults["amsgrad"]
    assert (optimizer.defaults["weight_decay"], optimizer.max_grad_norm) == (0.01, 1.0)


@pytest.mark.parametrize("name", [name for name in IN_THE_TREE if name != "sgd"])
def test_a_run_s_presets_are_the_published_ones(name):
    run = built(name, SPAM_MODE="paper")[0]
    by_hand = ALL[name](network().parameters(), spam=Spam.paper_mode())
    assert {**run.defaults, "lr": LR} == by_hand.defaults
    assert run.max_grad_norm == by_hand.max_grad_norm == 0
    assert run.spam == by_hand.spam == Spam.paper_mode()


def test_a_run_s_settings_beside_it_stay():
    settings = {"AMSGRAD": "on", "WEIGHT_DECAY": "0.5", "EPS": "1e-3", "MAX_GRAD_NORM": "2"}
    run = built("adamwspam", SPAM_MODE="paper", **settings)[0]
    assert [run.defaults[n] for n in ("amsgrad", "weight_decay", "eps")] == [True, 0.5, 1e-3]
    assert run.max_grad_norm == 2.0


@pytest.mark.parametrize("mode", ["none", "zscore", "stable"])
def test_other_modes_leave_a_run_s_presets(mode):
    run = built("adamwspam", SPAM_MODE=mode)[0]
    assert [run.defaults[n] for n in ("amsgrad", "weight_decay", "eps")] == [True, 0.01, 1e-8]
    assert run.max_grad_norm == 1.0
