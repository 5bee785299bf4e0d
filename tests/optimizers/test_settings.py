"""Settings as torch has them: ``maximize``, and a learning rate and betas that are tensors."""

from __future__ import annotations

import pytest
import torch

from adamwprune.optimizers import SGD, AdamW
from tests.optimizers.conftest import CASES, OURS_AND_TORCHS, backward, network, same_bits, train


@pytest.fixture(params=sorted(CASES))
def case(request):
    """Builds an optimizer over parameters."""
    return CASES[request.param]


# -- maximize --------------------------------------------------------------------------------


@pytest.mark.parametrize(("ours", "theirs", "settings"), OURS_AND_TORCHS)
def test_maximize_climbs_as_torch_does(ours, theirs, settings):
    a, b = network(torch.float32), network(torch.float32)
    train(a, ours(a.parameters(), maximize=True, **settings), 30)
    train(b, theirs(b.parameters(), maximize=True, fused=True, **settings), 30)
    assert same_bits(a, b)


def test_maximize_is_minimising_the_negative(case):
    """In a group of its own and from a state dict, in every mode, clipping included."""
    a, b, c = network(), network(), network()
    if "maximize" not in case(a.parameters()).defaults:
        pytest.skip("takes no maximize")
    down = case(a.parameters())
    up = case([{"params": list(b.parameters()), "maximize": True}])
    loaded = case(c.parameters())
    loaded.load_state_dict(up.state_dict())
    for number in range(40):
        backward(a, number)
        down.step()
        for model, optimizer in ((b, up), (c, loaded)):
            backward(model, number)
            for param in model.parameters():
                param.grad.neg_()
            optimizer.step()
    assert same_bits(a, b)
    assert same_bits(a, c)


# -- settings that are tensors ---------------------------------------------------------------


def told(build):
    try:
        build()
    except Exception as error:  # noqa: BLE001
        return type(error), str(error)
    return None


BETAS = [
    (0.9, torch.tensor(0.99)),
    (torch.tensor(0.9), 0.99),
    (0, 0.99),
    (torch.tensor(1.0), torch.tensor(0.99)),
    (torch.tensor([0.9, 0.8]), torch.tensor(0.99)),
]


@pytest.mark.parametrize("betas", BETAS)
def test_betas_are_refused_as_torch_does(betas):
    theirs = told(lambda: torch.optim.AdamW(network().parameters(), betas=betas))
    assert theirs is not None
    assert told(lambda: AdamW(network().parameters(), betas=betas)) == theirs


@pytest.mark.parametrize("lr", [torch.tensor([0.1, 0.2]), torch.tensor(-0.1)])
@pytest.mark.parametrize(("ours", "theirs", "settings"), OURS_AND_TORCHS)
def test_rates_are_refused_as_torch_does(ours, theirs, settings, lr):
    expected = told(lambda: theirs(network().parameters(), **{**settings, "lr": lr}))
    assert expected is not None
    assert told(lambda: ours(network().parameters(), **{**settings, "lr": lr})) == expected


@pytest.mark.parametrize("capturable", [None, True])
def test_tensors_as_settings_are_torchs_numbers(capturable):
    rate, betas = torch.tensor(2**-7), (torch.tensor([0.875]), torch.tensor(0.9375))
    a, b = network(torch.float32), network(torch.float32)
    ours = AdamW(a.parameters(), rate.clone(), betas)
    theirs = torch.optim.AdamW(b.parameters(), rate.clone(), betas, weight_decay=1e-4, fused=True)
    ours.capturable = capturable
    for optimizer, model in ((ours, a), (theirs, b)):
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for number in range(10):
            train(model, optimizer, 1, first=number)
            schedule.step()
    assert isinstance(ours.param_groups[0]["lr"], torch.Tensor)
    assert same_bits(a, b)
    assert hash(ours.step_kind()) is not None


def test_sgd_takes_a_tensor_as_its_rate():
    a, b = network(torch.float32), network(torch.float32)
    train(a, SGD(a.parameters(), torch.tensor(2**-7)), 10)
    train(b, SGD(b.parameters(), 2**-7), 10)
    assert same_bits(a, b)
