"""Spike handling of gradients out of the ordinary: norms that overflow, complex numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adamwprune.optimizers import SGD, AdamW, AdamWSpam, Spam


@pytest.mark.parametrize("size", [1e25, float("inf"), float("nan")])
def test_an_overflow_of_the_norm_hides_no_later_spike(size):
    """It is a spike itself once ten norms are known, and never one of those looked back on."""
    found = []
    param = nn.Parameter(torch.zeros(100))
    optimizer = AdamWSpam([param])
    optimizer.on_spike = lambda spike: found.append(bool(spike))
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 161):
        param.grad = 0.01 * torch.randn(100, generator=generator)
        if step in (5, 31):
            param.grad = torch.full((100,), size)
        if step in (21, 51, 91, 121, 141, 156):
            param.grad *= 1e4
        optimizer.step()
    assert [step for step, spike in enumerate(found, 1) if spike] == [21, 31, 51, 91, 121, 141, 156]
    assert optimizer._window.count == 158
    assert optimizer._window.norms.isfinite().all()


MODES = {
    "plain": Spam(),
    "zscore": Spam.zscore_mode(),
    "paper": Spam(theta=3.0, interval=25, warmup_steps=6),
    "stable": Spam(interval=25, gammas=(0.7, 0.9, 0.999)),
}


@pytest.mark.parametrize("amsgrad", [True, False])
@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
@pytest.mark.parametrize("mode", MODES)
def test_complex_weights_are_pairs_of_real_ones(mode, max_grad_norm, amsgrad):
    numbers = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    real, pair = nn.Parameter(numbers), nn.Parameter(torch.view_as_complex(numbers.clone()))
    settings = {"spam": MODES[mode], "max_grad_norm": max_grad_norm, "amsgrad": amsgrad}
    optimizers = AdamW([real], **settings), AdamW([pair], **settings)
    for step in range(60):
        gradient = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(step)).double()
        gradient *= 40 if step % 17 == 16 else 1
        real.grad, pair.grad = gradient, torch.view_as_complex(gradient.clone())
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(torch.view_as_real(pair.detach()), real.detach(), rtol=1e-9, atol=0)
    torch.testing.assert_close(torch.view_as_real(pair.grad), real.grad, rtol=1e-9, atol=0)


def test_sgd_takes_complex_weights():
    numbers = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    real, pair = nn.Parameter(numbers), nn.Parameter(torch.view_as_complex(numbers.clone()))
    optimizers = SGD([real], max_grad_norm=1.0), SGD([pair], max_grad_norm=1.0)
    for step in range(20):
        real.grad = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(step)).double()
        pair.grad = torch.view_as_complex(real.grad.clone())
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(torch.view_as_real(pair.detach()), real.detach(), rtol=1e-9, atol=0)


def test_lazily_conjugated_gradients_are_taken():
    weight = nn.Parameter(torch.ones(3, dtype=torch.complex64))
    weight.grad = torch.tensor([1 + 1j, 2 - 1j, 3j]).conj()
    AdamW([weight], spam=Spam.stable_mode()).step()
    assert weight.isfinite().all()
