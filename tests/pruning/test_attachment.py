"""What is refused when a pruner is attached or loaded, and what its optimizer's state holds."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

from adamwprune.optimizers import SGD, AdamW, AdamWPrune
from adamwprune.pruning import Magnitude, Movement, Pruner, Random, Schedule, State
from adamwprune.pruning.attachment import packed, unpacked

SCHEDULE = Schedule(target=0.5, warmup=1, interval=1, ramp_end=6)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))


def attached(score=None, build=AdamW, **settings):
    network = model()
    optimizer = build(network.parameters(), 1e-2)
    pruner = Pruner(network, score or Magnitude(), SCHEDULE, **settings).attach(optimizer)
    return network, optimizer, pruner


def train(network, optimizer, steps, first=0):
    for number in range(first, first + steps):
        generator = torch.Generator().manual_seed(number)
        optimizer.zero_grad()
        network(torch.randn(4, 8, generator=generator)).square().mean().backward()
        optimizer.step()


# -- the state in an optimizer's ---------------------------------------------------------------


def test_a_checkpoint_of_another_pruner_is_refused_by_what_differs():
    _, optimizer, _ = attached(State())
    saved = optimizer.state_dict()
    for settings, text in (
        ({"score": State("fisher")}, "score is .*'precond'.* there and .*'fisher'.* here"),
        ({"score": Magnitude()}, "score is .*'State'.* there and .*'Magnitude'.* here"),
        ({"score": State(), "scope": "layer"}, "scope is global there and layer here"),
        ({"score": State(), "floor": 3}, "floor is 0 there and 3 here"),
        ({"score": State(), "storage": "bits"}, "storage is bool there and bits here"),
        ({"score": State(), "exclude": ["2.weight"]}, r"weights is .*'2\.weight'"),
    ):
        with pytest.raises(ValueError, match=f"another pruner's of other weights.*{text}"):
            attached(**settings)[1].load_state_dict(saved)
    network = model()
    other = AdamW(network.parameters())
    schedule = Schedule(target=0.5, warmup=1, interval=1, ramp_end=7)
    Pruner(network, State(), schedule).attach(other)
    with pytest.raises(ValueError, match=r"schedule is .*'ramp_end': 6.* there and .*7"):
        other.load_state_dict(saved)


def test_a_checkpoint_without_a_pruner_is_refused_until_it_is_detached():
    network = model()
    plain = AdamW(network.parameters()).state_dict()
    _, optimizer, pruner = attached()
    with pytest.raises(ValueError, match="no state of this pruner: it was saved without one"):
        optimizer.load_state_dict(plain)
    pruner.detach()
    optimizer.load_state_dict(plain)


def test_two_pruners_of_one_optimizer_have_a_state_each():
    def both():
        network = model()
        optimizer = AdamW(network.parameters(), 1e-2)
        names = (["0.weight"], ["2.weight"])
        return (
            network,
            optimizer,
            [
                Pruner(network, Random(seed), SCHEDULE, weights=weights).attach(optimizer)
                for seed, weights in enumerate(names)
            ],
        )

    network, optimizer, pruners = both()
    train(network, optimizer, 4)
    again, resumed, theirs = both()
    again.load_state_dict(network.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # tensors would be shared
    assert [p.k for p in theirs] == [p.k for p in pruners] == [30, 15]
    train(network, optimizer, 4, 4)
    train(again, resumed, 4, 4)
    assert torch.equal(again[0].weight, network[0].weight)
    _, alone, _ = attached(Random(0), weights=["0.weight"])
    alone.load_state_dict(optimizer.state_dict())  # its own; the other's is nobody's
    _, other, _ = attached(Random(1), exclude=["0.weight"])
    other.load_state_dict(optimizer.state_dict())
    _, first, _ = attached(Random(0), weights=["0.weight"])
    with pytest.raises(ValueError, match=r"only pruner of 0\.weight"):
        other.load_state_dict(first.state_dict())


def test_the_state_is_plain_bytes_of_a_power_of_two():
    state = {"k": 3, "updates": [{"step": 1}], "masks": {"w": torch.arange(5).byte()}}
    found = packed(state)
    assert found.dtype == torch.uint8
    assert found.numel().bit_count() == 1
    assert str(unpacked(found)) == str(state)
    network, optimizer, _ = attached(Movement())
    train(network, optimizer, 3)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    attached(Movement())[1].load_state_dict(torch.load(buffer, weights_only=True))


def test_states_that_a_distributed_checkpoint_makes_are_no_step():
    network, optimizer, pruner = attached(build=AdamWPrune)
    before = [weight.clone() for weight in network.parameters()]
    get_optimizer_state_dict(network, optimizer)
    assert pruner.steps == 0
    assert all(map(torch.equal, before, network.parameters()))


# -- what is refused -------------------------------------------------------------------------------


def test_an_optimizer_that_cannot_hold_a_zero_is_refused():
    network = model()

    def attach(optimizer, score=None):
        Pruner(network, score or Magnitude(), SCHEDULE).attach(optimizer)

    with pytest.raises(ValueError, match="LBFGS moves weights several times a step"):
        attach(torch.optim.LBFGS(network.parameters()))
    with pytest.raises(ValueError, match="with eps=0 a step makes a pruned weight 0/0"):
        attach(torch.optim.AdamW(network.parameters(), eps=0.0))
    with pytest.raises(TypeError, match="object is no torch optimizer"):
        attach(object())
    with pytest.raises(ValueError, match="pruning weights by state needs"):
        attach(torch.optim.NAdam(network.parameters()), State())


def test_one_pruner_a_weight_and_one_score_a_pruner():
    score = Magnitude()
    network, optimizer, pruner = attached(score)
    with pytest.raises(ValueError, match=r"weight 0\.weight is another pruner's: detach\(\)"):
        Pruner(network, Magnitude(), SCHEDULE).attach(optimizer)
    with pytest.raises(ValueError, match="score keeps the weights of another pruner"):
        attached(score)
    pruner.detach()
    Pruner(network, score, SCHEDULE).attach(optimizer)


def test_a_closure_that_is_evaluated_twice_is_refused():
    network, _, _ = attached()

    class Twice(torch.optim.AdamW):
        def step(self, closure=None):
            closure()
            return super().step(closure)

    twice = Twice(network.parameters())
    Pruner(network, Magnitude(), SCHEDULE).attach(twice)
    with pytest.raises(RuntimeError, match="Twice evaluates its closure several times a step"):
        twice.step(lambda: 0.0)


# -- optimizers that move pruned weights -----------------------------------------------------------


@pytest.mark.parametrize("build", [torch.optim.Muon, torch.optim.Adamax, torch.optim.Rprop])
def test_pruned_weights_are_zero_after_every_step(build):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 8, bias=False))
    optimizer = build(network.parameters(), 1e-2)
    schedule = Schedule(target=0.5, warmup=1, interval=4, ramp_end=9)
    pruner = Pruner(network, Magnitude(), schedule).attach(optimizer)
    for number in range(14):
        train(network, optimizer, 1, number)
        assert pruner.zeros() == pruner.k
    pruner.verify()
    assert pruner.k == 32


# -- clipping --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [Magnitude, Movement])
def test_the_norm_of_what_is_trained_is_clipped(method):
    network, optimizer, pruner = attached(method(), SGD)
    train(network, optimizer, 7)
    optimizer.zero_grad()
    network(torch.randn(4, 8)).square().mean().backward()
    before = [p.grad.clone() for p in network.parameters()]
    live = [g * (p != 0) for g, p in zip(before, network.parameters(), strict=True)]
    norm = torch.cat([g.flatten() for g in live]).norm()
    torch.testing.assert_close(pruner.clip_grad_norm_(norm.item() / 2), norm)
    for param, gradient in zip(network.parameters(), before, strict=True):
        torch.testing.assert_close(param.grad, gradient / 2, rtol=1e-4, atol=1e-7)
    with pytest.raises(RuntimeError, match="not attached"):
        Pruner(network, Magnitude(), SCHEDULE).clip_grad_norm_(1.0)


@pytest.mark.slow  # the compiler takes seconds to import
@pytest.mark.parametrize("build", [SGD, lambda p, lr: torch.optim.AdamW(p, lr, fused=True)])
def test_a_compiled_step_is_the_same(build):
    network, optimizer, pruner = attached(Movement(), build)
    again, other, _ = attached(Movement(), build)
    compiled = torch.compile(other.step, backend="eager")
    train(network, optimizer, 9)
    for number in range(9):
        generator = torch.Generator().manual_seed(number)
        other.zero_grad()
        again(torch.randn(4, 8, generator=generator)).square().mean().backward()
        compiled()
    pruner.verify()
    assert all(map(torch.equal, network.parameters(), again.parameters()))


def test_what_is_maximised_is_pruned_as_its_negative_minimised():
    found = []
    for sign in (1, -1):
        network = model()
        optimizer = torch.optim.SGD(network.parameters(), 0.1, maximize=sign < 0)
        Pruner(network, Movement(), SCHEDULE).attach(optimizer)
        for number in range(9):
            generator = torch.Generator().manual_seed(number)
            optimizer.zero_grad()
            (sign * network(torch.randn(4, 8, generator=generator)).square().mean()).backward()
            optimizer.step()
        found.append(network)
    assert all(map(torch.equal, *(each.parameters() for each in found)))
