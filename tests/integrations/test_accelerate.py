"""Accelerate: an optimizer in its wrapper, accumulation, clipping and saved states."""

from __future__ import annotations

import pytest
import torch
from torch import nn

accelerate = pytest.importorskip("accelerate")

from adamwprune.optimizers import AdamWPrune  # noqa: E402
from adamwprune.pruning import Movement, Pruner, Schedule, State  # noqa: E402

pytestmark = pytest.mark.slow  # the packages take seconds to import
SCHEDULE = Schedule(target=0.5, warmup=2, interval=2, ramp_end=9)


@pytest.fixture(autouse=True)
def fresh():
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def prepared(method, after: bool):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4))
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    optimizer = AdamWPrune(model.parameters(), 1e-2)
    pruner = Pruner(model, method(), SCHEDULE)
    if not after:
        pruner.attach(optimizer)
    model, optimizer = accelerator.prepare(model, optimizer)
    if after:
        pruner.attach(optimizer)  # the wrapper
    return accelerator, model, optimizer, pruner


def train(accelerator, model, optimizer, steps, first=0):
    for number in range(2 * first, 2 * (first + steps)):
        generator = torch.Generator().manual_seed(number)
        with accelerator.accumulate(model):
            loss = model(torch.randn(8, 16, generator=generator)).square().mean()
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("method", [State, Movement])
def test_accelerate_prunes_and_resumes_to_the_bit(tmp_path, method, after):
    accelerator, model, optimizer, pruner = prepared(method, after)
    train(accelerator, model, optimizer, 6)
    accelerator.save_state(str(tmp_path / "at"))
    train(accelerator, model, optimizer, 6, 6)
    pruner.verify()
    assert (pruner.steps, pruner.k) == (12, 120)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerator, again, optimizer, resumed = prepared(method, after)
    accelerator.load_state(str(tmp_path / "at"))
    train(accelerator, again, optimizer, 6, 6)
    resumed.verify()
    for mine, theirs in zip(again.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
