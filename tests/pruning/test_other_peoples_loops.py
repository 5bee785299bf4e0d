"""Loops that do more than step: subclasses, weights set by hand, optimizers in turn, failures."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from adamwprune.optimizers import SGD, AdamW, AdamWPrune
from adamwprune.pruning import (
    ContractViolation,
    Magnitude,
    Movement,
    MovementSeed,
    Pruner,
    Schedule,
    State,
)
from adamwprune.pruning.prunable import prunable

SCHEDULE = Schedule(target=0.75, warmup=2, interval=3, ramp_end=11)


def model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 4))


def attached(score, build=torch.optim.AdamW, schedule=SCHEDULE, **settings):
    network = model()
    optimizer = build(network.parameters(), lr=1e-2)
    return network, optimizer, Pruner(network, score, schedule, **settings).attach(optimizer)


def backward(network, number):
    generator = torch.Generator().manual_seed(number)
    network.zero_grad()
    network(torch.randn(4, 8, generator=generator)).square().mean().backward()


def train(network, optimizer, first, last):
    for number in range(first, last):
        backward(network, number)
        optimizer.step()


def live(pruner):
    """The weights that are not pruned, layer by layer."""
    masks = (pruner.masks.mask(name, {}) for name in pruner.weights)
    pairs = zip(pruner.weights.values(), masks, strict=True)
    return [weight.detach()[~mask].clone() for weight, mask in pairs]


# -- a step within a step --------------------------------------------------------------------------


@pytest.mark.parametrize("parent", [torch.optim.AdamW, torch.optim.SGD, AdamWPrune])
@pytest.mark.parametrize("method", [Magnitude, Movement])
def test_a_step_that_calls_its_parents_is_one_step(parent, method):
    class Own(parent):
        fails = False

        def step(self, closure=None):
            if self.fails:
                raise MemoryError
            return super().step(closure)

    parent(model().parameters(), lr=1e-2)  # torch hooks a class when it is first used
    network, optimizer, pruner = attached(method(), parent)
    again, own, theirs = attached(method(), Own)
    train(network, optimizer, 0, 14)
    train(again, own, 0, 7)
    own.fails = method is Magnitude  # a step that raises is none, and the next one is
    if own.fails:
        with pytest.raises(MemoryError):
            train(again, own, 7, 8)
    own.fails = False
    train(again, own, 7, 14)
    theirs.verify()
    assert theirs.updates == pruner.updates
    assert all(map(torch.equal, network.parameters(), again.parameters()))


def test_pruned_states_stay_zero_under_an_optimizer_that_moves_them():
    class Centralised(torch.optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self, closure=None):
            for param in self.param_groups[0]["params"]:
                average = self.state[param].setdefault("exp_avg", torch.zeros_like(param))
                average.lerp_(param.grad - param.grad.mean(), 0.1)
                param.sub_(average, alpha=self.param_groups[0]["lr"])

    network, optimizer, pruner = attached(Magnitude(), Centralised)
    train(network, optimizer, 0, 14)
    pruner.verify()
    assert pruner.k == 108


# -- weights that are set between steps ------------------------------------------------------------


def test_what_is_set_by_hand_is_kept_by_a_returning_method():
    network, optimizer, pruner = attached(Movement(), torch.optim.SGD)
    train(network, optimizer, 0, 6)
    kept = {name: full.clone() for name, full in pruner.full.items()}
    with torch.no_grad():
        for weight in pruner.weights.values():
            weight.clamp_(-0.05, 0.05)
    before = live(pruner)
    optimizer.param_groups[0]["lr"] = 0.0
    train(network, optimizer, 6, 7)
    assert all(map(torch.equal, live(pruner), before))
    for name, full in pruner.full.items():  # what is pruned keeps what it was
        mask = pruner.masks.mask(name, {})
        assert torch.equal(full[mask], kept[name][mask])


def test_weights_loaded_before_the_first_step_are_those_that_training_begins_with():
    scores = []
    for seed, loaded in ((0, 5), (5, None)):
        network = model(seed)
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        pruner = Pruner(network, MovementSeed(), SCHEDULE).attach(optimizer)
        if loaded is not None:
            network.load_state_dict(model(loaded).state_dict())
        train(network, optimizer, 0, 7)
        scores.append([mask.clone() for mask in pruner.masks.tensors()])
    assert all(map(torch.equal, *scores))


# -- one optimizer after another -------------------------------------------------------------------


@pytest.mark.parametrize("method", [Magnitude, Movement, State])
def test_weights_and_states_that_others_moved_are_pruned_again(method):
    network, other, pruner = attached(method())
    pruner.detach()
    train(network, other, 0, 3)  # its states are not zero where the pruner will prune
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    pruner.attach(optimizer)
    train(network, optimizer, 0, 12)
    masks = [mask.clone() for mask in pruner.masks.tensors()]
    pruner.detach()
    train(network, other, 12, 15)
    before = live(pruner)
    pruner.attach(other)
    pruner.verify()
    assert all(map(torch.equal, live(pruner), before))
    train(network, other, 15, 18)
    pruner.verify()
    assert all(map(torch.equal, pruner.masks.tensors(), masks))


def test_models_of_one_optimizer_may_have_weights_of_the_same_names():
    def both():
        networks = [model(0), model(1)]
        params = [param for network in networks for param in network.parameters()]
        optimizer = AdamW(params, 1e-2)
        schedules = (SCHEDULE, Schedule(target=0.5, warmup=2, interval=3, ramp_end=11))
        pairs = zip(networks, schedules, strict=True)
        return networks, optimizer, [Pruner(n, Magnitude(), s).attach(optimizer) for n, s in pairs]

    def run(networks, optimizer, first, last):
        for number in range(first, last):
            for network in networks:
                backward(network, number)
            optimizer.step()

    networks, optimizer, pruners = both()
    run(networks, optimizer, 0, 8)
    saved = copy.deepcopy(optimizer.state_dict())
    again, resumed, theirs = both()
    for new, old in zip(again, networks, strict=True):
        new.load_state_dict(old.state_dict())
    resumed.load_state_dict(saved)
    assert [pruner.k for pruner in theirs] == [pruner.k for pruner in pruners]
    run(again, resumed, 8, 14)
    for pruner, k in zip(theirs, (108, 72), strict=True):
        pruner.verify()
        assert pruner.k == k


# -- refusals that leave everything as it was ------------------------------------------------------


def test_a_copy_of_the_optimizer_alone_has_no_state_of_the_pruner():
    network, optimizer, _ = attached(Magnitude())
    train(network, optimizer, 0, 4)
    with pytest.raises(ValueError, match="no state of this pruner: it was saved without one"):
        optimizer.load_state_dict(copy.deepcopy(optimizer).state_dict())


def test_a_pruner_that_is_refused_is_not_attached():
    network, optimizer, _ = attached(Magnitude())
    train(network, optimizer, 0, 4)
    again = model()
    resumed = torch.optim.AdamW(again.parameters(), 1e-2)
    resumed.load_state_dict(optimizer.state_dict())
    other = Pruner(again, Magnitude(), Schedule(target=0.5, warmup=1, interval=1, ramp_end=4))
    with pytest.raises(ValueError, match="another pruner's"):
        other.attach(resumed)
    train(again, resumed, 4, 6)
    assert (other.optimizer, other.steps) == (None, 0)
    with torch.no_grad():
        again[0].weight[1:] = 0
    sparse = Pruner(again, Magnitude(), Schedule.constant(0.5, 1, 4))
    with pytest.raises(ValueError, match="88 weights are zero already"):
        sparse.attach(torch.optim.SGD(again.parameters(), 0.1))
    assert sparse.optimizer is None


def test_zeros_that_were_refused_once_are_refused_again():
    network, optimizer, _ = attached(Magnitude(), schedule=Schedule(0.5, 1, 1, 4))
    with torch.no_grad():
        network[0].weight[1:] = 0
    for number in range(2):
        with pytest.raises(ValueError, match="88 weights are zero already"):
            train(network, optimizer, number, number + 1)


def test_a_checkpoint_that_the_optimizer_refuses_is_not_the_pruners_either():
    network, optimizer, _ = attached(Magnitude(), AdamWPrune)
    train(network, optimizer, 0, 6)
    saved = copy.deepcopy(optimizer.state_dict())
    del saved["state"][0]["exp_avg"]
    _, other, pruner = attached(Magnitude(), AdamWPrune)
    with pytest.raises(ValueError, match="parameter 0 has no exp_avg"):
        other.load_state_dict(saved)
    assert (pruner.steps, pruner.k, pruner.updates) == (0, 0, [])


def test_a_difference_is_told_without_what_is_the_same():
    network = nn.Sequential(*[nn.Linear(4, 4) for _ in range(20)])
    state = Pruner(network, Magnitude(), SCHEDULE).state_dict()
    other = Pruner(network, Magnitude(), SCHEDULE, exclude=["3.weight"])
    with pytest.raises(ValueError, match=r"weights is \{'3.weight': \[4, 4\]\} there and \{\} he"):
        other.load_state_dict(state)


def test_a_sparse_gradient_is_refused_by_name():
    network = nn.Sequential(nn.Embedding(10, 4, sparse=True), nn.Linear(4, 4))
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    Pruner(network, Magnitude(), SCHEDULE, weights=["*.weight"]).attach(optimizer)
    network(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(ValueError, match=r"the gradient of 0\.weight is sparse"):
        optimizer.step()


def test_weights_that_are_nan_are_called_so():
    network, optimizer, _ = attached(Magnitude(), AdamWPrune)
    train(network, optimizer, 0, 6)
    backward(network, 6)
    network[0].bias.grad.fill_(torch.nan)  # the norm, by which all gradients are scaled
    optimizer.step()
    with pytest.raises(ContractViolation, match=r"pruned weights of 0\.weight are NaN"):
        train(network, optimizer, 7, 9)


@pytest.mark.parametrize("scope", ["global", "layer", "erk"])
def test_zeros_without_moments_beyond_a_floor_are_named(scope):
    settings = {"scope": scope, "storage": "implied", "floor": 10}
    network, optimizer, _ = attached(Magnitude(), AdamWPrune, **settings)
    train(network, optimizer, 0, 8)
    weight = network[0].weight
    with torch.no_grad():
        for tensor in (weight, *optimizer.state[weight].values()):
            if tensor.shape == weight.shape:
                tensor[1:].zero_()
    with pytest.raises(ContractViolation, match=r"0\.weight became zero .* 10 are to be kept"):
        train(network, optimizer, 8, 12)


# -- clipping, names and shapes --------------------------------------------------------------------


def test_clipping_takes_what_torchs_takes():
    network, _, pruner = attached(Magnitude(), SGD)
    assert pruner.clip_grad_norm_(1.0) == 0  # there are no gradients yet
    backward(network, 0)
    norm = nn.utils.clip_grad_norm_(network.parameters(), 1e9, "inf")
    assert pruner.clip_grad_norm_(1e9, "inf") == norm


def test_activation_checkpoints_change_no_name():
    network = model()
    network[0] = checkpoint_wrapper(network[0])
    assert list(prunable(network)) == ["0.weight", "2.weight"]


def test_a_name_with_brackets_is_no_pattern():
    network = nn.ModuleDict({"a[0]": nn.Linear(4, 4), "a0": nn.Linear(4, 4)})
    assert list(prunable(network, ["a[0].weight"])) == ["a[0].weight"]
    assert list(prunable(network, ["a[0-9].weight"])) == ["a0.weight"]


def test_fours_are_inputs_of_one_group_of_a_transposed_convolution():
    network = nn.ModuleList(
        [nn.ConvTranspose2d(8, 8, 3, groups=4), nn.ConvTranspose2d(8, 6, 3, groups=2)]
    )
    schedule = Schedule(target=0.5, warmup=0, interval=1, ramp_end=2)
    pruner = Pruner(network, Magnitude(), schedule, scope="2-4")
    assert pruner.scope.shapes == {"1.weight": (6, 4, 3, 3)}  # the other reads two a group
