"""Weights, gradients and states of any strides: what a step does is the same for all of them.

torch's fused kernels walk memory. The reference is a contiguous weight, and for torch's own
optimizers torch's for-loop.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from adamwprune.optimizers import SGD, Adam, AdamW, AdamWSpam, Spam
from adamwprune.optimizers._layout import laid_out
from tests.optimizers.conftest import CASES

SHAPE = (4, 3, 2, 5)
LAYOUTS = {
    "contiguous": lambda t: t.contiguous(),
    "channels_last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "transposed": lambda t: t.transpose(0, 3).contiguous().transpose(0, 3),
    "strided": lambda t: torch.zeros(4, 3, 2, 10, dtype=t.dtype)[..., ::2].copy_(t),
}
STEPS = 30


@pytest.fixture(params=sorted(CASES))
def case(request):
    """Builds an optimizer over parameters."""
    return CASES[request.param]


def start(layout: str, dtype: torch.dtype = torch.float64) -> nn.Parameter:
    numbers = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return nn.Parameter(LAYOUTS[layout](numbers.to(dtype)))


def train(optimizer, param, first, last, gradients="contiguous"):
    """Steps ``first`` to ``last`` on gradients that depend on the step alone; some are spikes."""
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        numbers = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
        numbers *= 40 if step % 17 == 16 else 1
        param.grad = LAYOUTS[gradients](numbers.to(param.dtype))
        optimizer.step()


def assert_same(found, expected):
    torch.testing.assert_close(found.detach().contiguous(), expected.detach(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("gradients", ["contiguous", "channels_last", "transposed"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_a_weight_or_its_gradient_changes_nothing(case, layout, gradients):
    one, other = start("contiguous"), start(layout)
    strides = other.stride()
    train(case([one]), one, 0, STEPS)
    train(case([other]), other, 0, STEPS, gradients)
    assert other.stride() == strides
    assert_same(other, one)
    assert_same(other.grad, one.grad)


@pytest.mark.parametrize(("saved", "loaded"), [("contiguous", each) for each in LAYOUTS])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_checkpoint_of_another_layout_goes_on(case, saved, loaded, swapped):
    if swapped:
        saved, loaded = loaded, saved
    one = start(saved)
    optimizer = case([one])
    train(optimizer, one, 0, STEPS)
    other = nn.Parameter(start(loaded).detach().copy_(one.detach()))
    resumed = case([other])
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for value in resumed.state[other].values():
        if value.shape == other.shape and loaded != "strided":
            assert value.stride() == other.stride()
    train(optimizer, one, STEPS, 2 * STEPS)
    train(resumed, other, STEPS, 2 * STEPS)
    assert_same(other, one.contiguous())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_weight_may_change_its_layout_in_mid_run(case, layout):
    """As ``module.to(memory_format=...)`` does."""
    one, other = start("contiguous"), start("contiguous")
    still, moved = case([one]), case([other])
    for optimizer, param in ((still, one), (moved, other)):
        train(optimizer, param, 0, STEPS)
    other.data = LAYOUTS[layout](other.data)
    for optimizer, param in ((still, one), (moved, other)):
        train(optimizer, param, STEPS, 2 * STEPS)
    assert_same(other, one)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [
        (SGD, torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}),
        (Adam, torch.optim.Adam, {"weight_decay": 0.1}),
        (AdamW, torch.optim.AdamW, {"weight_decay": 0.1, "amsgrad": True}),
    ],
)
def test_a_contiguous_checkpoint_of_torchs_own_loop(ours, theirs, settings, layout):
    one = start("contiguous")
    before = theirs([one], foreach=False, **settings)
    train(before, one, 0, STEPS)
    other = nn.Parameter(start(layout).detach().copy_(one.detach()))
    after = ours([other])
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    train(before, one, STEPS, 2 * STEPS)
    train(after, other, STEPS, 2 * STEPS)
    assert_same(other, one)


def test_a_gradient_that_differs_where_a_dimension_is_1_is_no_copy():
    weight = torch.zeros(6, 1, 3, 3).contiguous(memory_format=torch.channels_last)
    gradient = torch.ones(6, 1, 3, 3).as_strided((6, 1, 3, 3), (9, 1, 3, 1))
    same = laid_out(weight, gradient)
    assert same.stride() == weight.stride() != gradient.stride()
    assert same.data_ptr() == gradient.data_ptr()


def test_contiguous_float32_takes_the_fused_kernels():
    """The bits that published records have."""
    one, other = start("contiguous", torch.float32), start("contiguous", torch.float32)
    train(AdamW([one], weight_decay=0.1), one, 0, STEPS)
    train(torch.optim.AdamW([other], weight_decay=0.1, fused=True), other, 0, STEPS)
    assert torch.equal(one, other)


def test_holes_between_numbers_stay_what_they_are():
    memory = torch.full((4, 6), 7.0)
    weight = nn.Parameter(memory[:, ::2])
    optimizer = AdamWSpam([weight], spam=Spam.stable_mode())
    weight.grad = torch.ones(4, 3)
    optimizer.step()
    assert (memory[:, 1::2] == 7).all()
    assert (memory[:, ::2] < 7).all()
