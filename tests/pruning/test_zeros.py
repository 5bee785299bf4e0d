"""Weights that are zero without being pruned, and zeros that a model has already."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from adamwprune.optimizers import SGD, AdamW, AdamWPrune, Spam
from adamwprune.pruning import (
    ContractViolation,
    Magnitude,
    Movement,
    MovementSeed,
    Pruner,
    Random,
    RigL,
    Schedule,
    Score,
    Set,
    State,
)
from adamwprune.pruning.storage import STORAGES

SCHEDULE = Schedule(target=0.75, warmup=2, interval=3, ramp_end=14)
MONOTONE = {"magnitude": Magnitude, "movement-seed": MovementSeed, "random": Random,
            "state": State, "signed": lambda: State("movement")}  # fmt: skip
METHODS = {**MONOTONE, "movement": Movement, "set": Set, "rigl": RigL}


class Heads(nn.Module):
    """A body, a projection that starts at zero beside it, and heads of which one is used a step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(8, 12)
        self.projection = nn.Linear(8, 12)
        self.heads = nn.ModuleList([nn.Linear(12, 4) for _ in range(3)])
        nn.init.zeros_(self.projection.weight)

    def forward(self, inputs: torch.Tensor, head: int) -> torch.Tensor:
        logits: torch.Tensor = self.heads[head](
            (self.body(inputs) + self.projection(inputs)).tanh()
        )
        return logits


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int, *which: int) -> None:
    generator = torch.Generator().manual_seed(number)
    inputs = torch.randn(16, 8, generator=generator)
    labels = torch.randint(0, 4, (16,), generator=generator)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(inputs, *which), labels).backward()
    optimizer.step()


def fits(method: str, storage: str) -> bool:
    if storage == "packed":
        return not METHODS[method]().returns
    return storage != "implied" or method in MONOTONE


ALL = [(m, s) for m in METHODS for s in STORAGES if fits(m, s)]


@pytest.mark.parametrize(("method", "storage"), ALL)
def test_layers_without_a_gradient_and_zero_initialised_ones(method, storage):
    """Head 0 in even steps, head 1 in the others, head 2 never; the projection is live."""
    model = Heads()
    optimizer = AdamWPrune(model.parameters(), 1e-2)
    pruner = Pruner(model, METHODS[method](), SCHEDULE, storage=storage).attach(optimizer)
    for number in range(20):
        before = copy.deepcopy(pruner.score.state_dict(list(pruner.weights.values())))
        kept = {name: full.clone() for name, full in pruner.full.items()}
        step(model, optimizer, number, number % 2)
        idle = {"heads.2.weight", f"heads.{1 - number % 2}.weight"}
        for index, name in enumerate(pruner.weights):
            if name in idle and name in kept:
                assert torch.equal(pruner.full[name], kept[name])
            if name in idle and before.get("scores") and before["scores"][index] is not None:
                after = pruner.score.state_dict(list(pruner.weights.values()))["scores"][index]
                assert torch.equal(after, before["scores"][index])
        if number == 1:
            assert (model.projection.weight != 0).all(), "it is trained"
    pruner.verify()
    assert pruner.k == 252  # 0.75 of 96 + 96 + 3 · 48


@pytest.mark.parametrize(("method", "storage"), ALL)
def test_weights_at_zero_without_a_gradient_go_first(method, storage):
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4), nn.Linear(2, 20))
    model.forward = lambda inputs: model[2](model[1](model[0](inputs)))
    nn.init.zeros_(model[3].weight)  # an unused layer that is wholly zero
    optimizer = AdamWPrune(model.parameters(), 1e-2)
    schedule = Schedule(target=0.5, warmup=3, interval=1, ramp_end=8, shape="linear")
    pruner = Pruner(model, METHODS[method](), schedule, storage=storage).attach(optimizer)
    for number in range(10):
        step(model, optimizer, number)
        if method not in ("set", "rigl") and pruner.k >= 40:
            mask = pruner.masks.mask("3.weight", pruner.states("3.weight"))
            assert mask.all(), "40 weights of that layer are first"
    pruner.verify()
    assert pruner.k == 68


class Planted(Score):
    """Prunes by index, so that a reference knows what is pruned."""

    def score(self, weight, state, part):
        return torch.arange(part.start, part.stop, part.step).float()


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["sgd", "momentum", "adamw", "beta1", "spam", "torch"]),
    st.sampled_from([*STORAGES]),
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 95)), max_size=12),
)
def test_a_live_weight_at_zero_trains_on(optimizer, storage, plants):
    """As in a loop that masks by hand: no step is missed, and no update takes it for pruned."""
    build = {
        "sgd": lambda p: SGD(p, 0.1, momentum=0.0),
        "momentum": lambda p: SGD(p, 0.1),
        "adamw": lambda p: AdamW(p, 1e-2),
        "beta1": lambda p: AdamW(p, 1e-2, betas=(0.0, 0.99)),
        "spam": lambda p: AdamWPrune(p, 1e-2, spam=Spam(interval=4)),
        "torch": lambda p: torch.optim.AdamW(p, 1e-2, fused=True),
    }[optimizer]
    if storage == "implied" and optimizer in ("sgd", "momentum"):
        storage = "bits"
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12, bias=False))
    by_hand = copy.deepcopy(model)
    mine, theirs = build(model.parameters()), build(by_hand.parameters())
    pruner = Pruner(model, Planted(), SCHEDULE, storage=storage, zeros="live").attach(mine)
    weight, reference = model[0].weight, by_hand[0].weight
    pruned = torch.zeros(96, dtype=torch.bool)
    for number in range(16):
        for at, index in plants:
            if at == number and not pruned[index]:
                with torch.no_grad():
                    weight.view(-1)[index] = reference.view(-1)[index] = 0.0
        generator = torch.Generator().manual_seed(number)
        gradient = torch.randn(12, 8, generator=generator)
        weight.grad, reference.grad = gradient.clone(), gradient.clone()
        reference.grad.view(-1)[pruned] = 0
        mine.step()
        theirs.step()
        pruned = torch.arange(96) < pruner.k
        for tensor in (reference, *theirs.state[reference].values()):
            if isinstance(tensor, torch.Tensor) and tensor.shape == reference.shape:
                tensor.detach().view(-1)[pruned] = 0
        assert torch.equal(weight, reference)
    pruner.verify()
    assert pruner.k == 72
    assert torch.equal(pruner.masks.mask("0.weight", pruner.states("0.weight")).view(-1), pruned)


# -- a model that is sparse already ----------------------------------------------------------------


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


@pytest.mark.parametrize("how", ["new", "detached"])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("method", MONOTONE)
def test_a_second_phase_keeps_the_zeros_of_the_first(method, storage, how, caplog):
    """With a new optimizer, by a second pruner or by the first one."""
    model = chain()
    first = AdamWPrune(model.parameters(), 1e-2)
    half = Schedule(target=0.5, warmup=2, interval=2, ramp_end=8)
    pruner = Pruner(model, METHODS[method](), half, storage=storage).attach(first)
    for number in range(10):
        step(model, first, number)
    zeros = {name: weight == 0 for name, weight in pruner.weights.items()}
    assert sum(int(mask.sum()) for mask in zeros.values()) == 96
    pruner.detach()
    second = AdamWPrune(model.parameters(), 1e-2)
    if how == "new":
        pruner = Pruner(model, METHODS[method](), SCHEDULE, storage=storage)
    pruner.attach(second)
    for number in range(20):
        step(model, second, number)
        for name, mask in zeros.items():
            assert (pruner.weights[name][mask] == 0).all()
    pruner.verify()
    assert pruner.k == (144 if how == "new" else 96)
    if how == "new":
        assert "96 of 192 weights are zero already and count as pruned" in caplog.text


@pytest.mark.parametrize("storage", STORAGES)
def test_zeros_may_be_trained_instead(storage):
    model = chain()
    with torch.no_grad():
        model[0].weight[:, :2] = 0
    optimizer = AdamWPrune(model.parameters(), 1e-2)
    pruner = Pruner(model, Random(3), SCHEDULE, storage=storage, zeros="live").attach(optimizer)
    step(model, optimizer, 0)
    assert pruner.k == 0
    assert (model[0].weight != 0).all()
    with pytest.raises(ValueError, match="Invalid zeros: none"):
        Pruner(model, Random(3), SCHEDULE, zeros="none")


def test_zeros_that_are_there_by_chance_are_live():
    """bfloat16 has one in 256 where weights are initialised by it."""
    model = chain().bfloat16()
    with torch.no_grad():
        model[0].weight[3, 3] = 0
    optimizer = AdamW(model.parameters(), 1e-2)
    pruner = Pruner(model, Magnitude(), SCHEDULE, storage="implied").attach(optimizer)
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert pruner.k == 0
    assert model[0].weight[3, 3] != 0


def test_zeros_that_cannot_stay_are_refused():
    def first_step(model: nn.Module, schedule: Schedule, **named: object) -> None:
        optimizer = AdamW(model.parameters())
        Pruner(model, Magnitude(), schedule, **named).attach(optimizer)
        step(model, optimizer, 0)

    def sparse(rows: slice, columns: slice) -> nn.Module:
        model = chain()
        with torch.no_grad():
            model[0].weight[rows, columns] = 0
        return model

    everything = slice(None)
    with pytest.raises(ValueError, match="64 weights are zero already, more than the 58"):
        first_step(sparse(everything, slice(4)), Schedule(0.3, 2, 2, 8))
    with pytest.raises(ValueError, match=r"zeros of 0\.weight cannot stay: 120 of 128 are zero"):
        first_step(sparse(slice(15), everything), SCHEDULE, floor=10)
    with pytest.raises(ValueError, match=r"2:4 allows 2 zeros of 4, and it has 3"):
        first_step(sparse(everything, slice(3)), Schedule(0.5, 2, 2, 8), scope="2-4")
    first_step(sparse(everything, slice(2)), Schedule(0.5, 2, 2, 8), scope="2-4")


def test_a_dead_network_is_no_violation_and_a_revived_weight_is_one():
    model = chain()
    optimizer = AdamW(model.parameters(), 1e-2)
    pruner = Pruner(model, Magnitude(), SCHEDULE).attach(optimizer)
    for number in range(20):
        step(model, optimizer, number)
    with torch.no_grad():
        live = (model[0].weight != 0).nonzero()[0]
        model[0].weight[tuple(live)] = 0
    pruner.verify()
    assert pruner.zeros() == pruner.k + 1
    with torch.no_grad():
        model[0].weight[model[0].weight == 0] = 1e-30
    with pytest.raises(ContractViolation, match=r"pruned weights of 0\.weight are not zero"):
        pruner.verify()
