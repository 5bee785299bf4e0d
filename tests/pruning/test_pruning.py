"""The pruning contract: exactly k, monotone or returning, nothing revived, nothing hidden."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from adamwprune.optimizers import SGD, AdamW, AdamWPrune, AdamWSpam, Spam
from adamwprune.pruning import ContractViolation, Magnitude, Movement, Pruner, Schedule, State
from adamwprune.pruning import _selection as selection
from adamwprune.pruning._schedule import count
from adamwprune.pruning.state import CRITERIA

# -- schedule --------------------------------------------------------------------------------


def test_cubic_schedule_is_zhu_and_guptas():
    schedule = Schedule(target=0.8, warmup=100, interval=50, ramp_end=1100)
    assert schedule.sparsity(100) == 0.0
    assert schedule.sparsity(600) == pytest.approx(0.8 * 0.875), "half the ramp: 87.5% of it"
    assert schedule.sparsity(350) == pytest.approx(0.8 * (1 - 0.75**3))
    assert schedule.sparsity(1100) == schedule.sparsity(5000) == 0.8


def test_linear_schedule():
    schedule = Schedule(target=0.8, warmup=0, interval=50, ramp_end=1000, shape="linear")
    assert [schedule.sparsity(t) for t in (0, 250, 500, 1000)] == pytest.approx([0, 0.2, 0.4, 0.8])


def test_updates_are_due_along_the_ramp_and_at_its_end():
    schedule = Schedule(target=0.9, warmup=100, interval=50, ramp_end=944)
    due = [t for t in range(1, 1181) if schedule.is_due(t)]
    assert due == [*range(150, 944, 50), 944]


@pytest.mark.parametrize(
    "bad",
    [
        {"target": 1.1},
        {"target": -0.1},
        {"warmup": 1000},
        {"interval": 0},
        {"shape": "quartic"},
    ],
)
def test_contradictory_schedules_are_refused(bad):
    good = {"target": 0.5, "warmup": 0, "interval": 10, "ramp_end": 1000}
    with pytest.raises(ValueError, match="Invalid"):
        Schedule(**{**good, **bad})


@pytest.mark.parametrize(
    ("sparsity", "numel", "k"),
    [
        (0.5, 61_470, 30_735),
        (0.7, 61_470, 43_029),
        (0.9, 61_470, 55_323),
        (0.15, 10, 2),  # 1.5 + 1/2, although 0.15 is less than 3/20 in binary
        (0.0, 10, 0),
        (1.0, 10, 10),
    ],
)
def test_k_is_rounded_half_up(sparsity, numel, k):
    assert count(sparsity, numel) == k


# -- selection ---------------------------------------------------------------------------------

few_values = st.lists(
    st.lists(st.sampled_from([-2.0, 0.0, 1.0, 1.0, 3.0, -math.inf]), min_size=1, max_size=9),
    min_size=1,
    max_size=4,
)


@given(few_values, st.data())
def test_lowest_is_the_brute_force_choice(values, data):
    flat = [x for layer in values for x in layer]
    k = data.draw(st.integers(0, len(flat)))
    masks = selection.lowest([torch.tensor(layer) for layer in values], k)
    chosen = [bool(x) for mask in masks for x in mask]
    expected = set(sorted(range(len(flat)), key=lambda i: (flat[i], i))[:k])
    assert {i for i, x in enumerate(chosen) if x} == expected


def test_scores_that_are_nan_are_an_error():
    with pytest.raises(ValueError, match="1 of 3 scores are NaN"):
        selection.lowest([torch.tensor([1.0, math.nan, 2.0])], 1)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.data())
def test_apportion_is_exact_and_never_below_the_least(numels, data):
    least = [data.draw(st.integers(0, n)) for n in numels]
    k = data.draw(st.integers(sum(least), sum(numels)))
    parts = selection.apportion(k, numels, least)
    assert sum(parts) == k
    for part, numel, low in zip(parts, numels, least, strict=True):
        assert low <= part <= numel
        if not any(least):
            assert abs(part - k * numel / sum(numels)) < 1


def test_an_impossible_split_is_refused():
    with pytest.raises(ValueError, match="cannot split"):
        selection.apportion(3, [2, 2], [2, 2])


# -- scores ------------------------------------------------------------------------------------


def test_state_criteria_literally():
    w = torch.tensor([2.0, -3.0])
    m = torch.tensor([0.5, 0.25])
    v = torch.tensor([4.0, 16.0])
    assert CRITERIA["precond"](w, m, v).tolist() == [8.0, 36.0]
    assert CRITERIA["fisher"](w, m, v).tolist() == [16.0, 144.0]
    assert CRITERIA["taylor"](w, m, v).tolist() == [1.0, 0.75]
    assert CRITERIA["movement"](w, m, v).tolist() == [-1.0, 0.75]
    assert CRITERIA["hybrid"](w, m, v).tolist() == pytest.approx([1.0, 0.5625])
    assert (v.tolist(), w.tolist()) == ([4.0, 16.0], [2.0, -3.0]), "inputs stay what they were"


def test_an_unknown_criterion_is_refused():
    with pytest.raises(ValueError, match="Invalid criterion: best"):
        State("best")


# -- the pruner in a loop ------------------------------------------------------------------------


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    )


def train(model, optimizer, steps, each=lambda step: None):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(64, 1, 8, 8, generator=generator)
    labels = torch.randint(0, 10, (64,), generator=generator)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        each(step)


SCHEDULE = Schedule(target=0.9, warmup=5, interval=4, ramp_end=50)
METHODS = {
    "magnitude": Magnitude,
    "movement": Movement,
    **{f"state-{name}": (lambda name=name: State(name)) for name in CRITERIA},
}
ADAMS = {
    "torch.AdamW": lambda p: torch.optim.AdamW(p, 1e-2),
    "AdamW": lambda p: AdamW(p, 1e-2),
    "AdamWPrune": lambda p: AdamWPrune(p, 1e-2),
    "SPAM": lambda p: AdamWSpam(p, 1e-2, spam=Spam(theta=50, interval=30, warmup_steps=5)),
}
OPTIMIZERS = {
    **ADAMS,
    "SGD": lambda p: SGD(p, 0.1),
    "torch.SGD": lambda p: torch.optim.SGD(p, 0.1, 0.9),
}


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_exactly_k_zeros_at_every_step(optimizer, method, scope):
    if method.startswith("state") and "SGD" in optimizer:
        pytest.skip("SGD has no states to prune by")
    model = network()
    built = OPTIMIZERS[optimizer](model.parameters())
    pruner = Pruner(model, METHODS[method](), SCHEDULE, scope).attach(built)
    pruned: set[tuple[str, int]] = set()

    def check(step):
        zeros = {
            (name, int(i))
            for name, w in pruner.weights.items()
            for i in (w.flatten() == 0).nonzero()
        }
        assert len(zeros) == pruner.k, f"step {step}"
        if method != "movement":
            assert pruned <= zeros, "a pruned weight came back"
            pruned.update(zeros)
            _assert_states_are_zero(built, pruner)

    train(model, built, 70, check)
    assert pruner.k == count(0.9, pruner.numel) == pruner.zeros()
    assert [u["step"] for u in pruner.updates][-1] == 50
    assert (pruner.returned > 0) == (method == "movement")
    if scope == "layer":
        for layer in pruner.layers():
            assert abs(layer["zeros"] - 0.9 * layer["numel"]) <= 1


def _assert_states_are_zero(optimizer, pruner):
    for weight in pruner.weights.values():
        for state in optimizer.state[weight].values():
            if isinstance(state, torch.Tensor) and state.shape == weight.shape:
                assert not state[weight == 0].any()


@pytest.mark.parametrize("method", [m for m in METHODS if m != "movement"])
@pytest.mark.parametrize("optimizer", ADAMS)
def test_an_implied_mask_is_the_bool_mask_without_its_bytes(optimizer, method):
    results = {}
    for storage in ("bool", "implied"):
        model = network()
        built = ADAMS[optimizer](model.parameters())
        pruner = Pruner(model, METHODS[method](), SCHEDULE, storage=storage).attach(built)
        train(model, built, 70)
        results[storage] = (model, pruner)
    for a, b in zip(
        results["bool"][0].parameters(), results["implied"][0].parameters(), strict=True
    ):
        assert torch.equal(a, b)
    assert results["implied"][1].buffers() == {}
    assert [t.numel() for t in results["bool"][1].buffers()["masks"]] == [36, 1440]


def test_movement_is_the_papers_straight_through_sum():
    """Against W and S kept by hand: W' = W ⊙ M, S −= dL/dW' · W, W −= lr · dL/dW' ⊙ M."""
    torch.manual_seed(0)
    layer, lr = nn.Linear(6, 4, bias=False), 0.1
    full, scores = layer.weight.detach().clone(), torch.zeros(4, 6)
    mask, returned = torch.ones(4, 6), 0
    optimizer = torch.optim.SGD(layer.parameters(), lr)
    schedule = Schedule(target=0.5, warmup=0, interval=1, ramp_end=20, shape="linear")
    pruner = Pruner(layer, Movement(), schedule).attach(optimizer)
    for step in range(1, 31):
        generator = torch.Generator().manual_seed(step)
        inputs, targets = (
            torch.randn(5, 6, generator=generator),
            torch.randn(5, 4, generator=generator),
        )
        optimizer.zero_grad()
        (layer(inputs) - targets).square().sum().backward()
        optimizer.step()

        effective = (full * mask).requires_grad_()
        (inputs @ effective.T - targets).square().sum().backward()
        scores -= effective.grad * full
        full -= lr * effective.grad * mask
        if step <= 20:
            k = count(schedule.sparsity(step), 24)
            lowest = scores.flatten().argsort(stable=True)[:k]
            new = torch.ones(24).index_fill(0, lowest, 0).view(4, 6)
            returned += int((new > mask).sum())
            mask = new
        torch.testing.assert_close(layer.weight, full * mask)
    assert pruner.returned == returned > 0
    assert pruner.zeros() == 12


def test_sparsity_zero_and_one():
    for target, zeros in ((0.0, 0), (1.0, 1476)):
        model = network()
        optimizer = AdamW(model.parameters())
        pruner = Pruner(
            model, Magnitude(), Schedule(target=target, warmup=0, interval=5, ramp_end=10)
        ).attach(optimizer)
        train(model, optimizer, 15)
        assert pruner.zeros() == zeros


def test_a_layer_of_one_weight_and_equal_scores():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 8, bias=False))
    for weight in model.parameters():
        nn.init.ones_(weight)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    pruner = Pruner(model, Magnitude(), Schedule(target=0.4, warmup=0, interval=1, ramp_end=1))
    pruner.attach(optimizer)
    model(torch.ones(2, 1)).sum().backward()
    optimizer.step()
    assert pruner.zeros() == 4
    assert model[0].weight.item() == 0, "among equals the first go"
    assert model[1].weight.flatten().tolist() == [0, 0, 0, 1, 1, 1, 1, 1]


# -- planted violations --------------------------------------------------------------------------


def test_a_stale_momentum_is_caught():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    Pruner(model, Magnitude(), SCHEDULE, storage="implied").attach(optimizer)
    train(model, optimizer, 20)
    weight = model[4].weight
    optimizer.state[weight]["exp_avg"][weight == 0] = 1.0
    with pytest.raises(ContractViolation):
        train(model, optimizer, 20)


def test_a_forgotten_mask_is_caught():
    model = network()
    optimizer = AdamW(model.parameters(), 1e-2)
    pruner = Pruner(model, Magnitude(), SCHEDULE).attach(optimizer)
    train(model, optimizer, 60)
    with torch.no_grad():
        model[4].weight.add_(1e-3)
    with pytest.raises(ContractViolation, match=r"after step 60: \d+ of 1476 weights are zero"):
        pruner.verify()


def test_scores_that_become_nan_stop_the_run():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    Pruner(model, State("precond"), SCHEDULE).attach(optimizer)
    train(model, optimizer, 7)
    optimizer.state[model[4].weight]["exp_avg_sq"].fill_(math.nan)
    with pytest.raises(ValueError, match="scores are NaN"):
        train(model, optimizer, 10)


# -- around ------------------------------------------------------------------------------------


def test_updates_wait_for_the_states_to_settle_after_a_reset():
    model = network()
    optimizer = AdamWSpam(model.parameters(), spam=Spam(interval=100))
    schedule = Schedule(target=0.5, warmup=0, interval=52, ramp_end=330)
    pruner = Pruner(model, Magnitude(), schedule).attach(optimizer)
    train(model, optimizer, 340)
    # A reset is before steps 101, 201, 301. Due at 52, 104, 156, 208, 260, 312 and, forced, 330.
    assert [u["step"] for u in pruner.updates] == [52, 120, 156, 220, 260, 320, 330]


def test_an_update_due_just_before_a_reset_is_not_deferred():
    model = network()
    optimizer = AdamWSpam(model.parameters(), spam=Spam(interval=50))
    schedule = Schedule(target=0.5, warmup=0, interval=25, ramp_end=160)
    pruner = Pruner(model, Magnitude(), schedule).attach(optimizer)
    train(model, optimizer, 160)
    assert [u["step"] for u in pruner.updates] == [25, 50, 75, 100, 125, 150, 160]


@pytest.mark.parametrize("method", METHODS)
def test_state_dict_round_trip_in_mid_run(method):
    def build(model):
        optimizer = AdamWPrune(model.parameters(), 1e-2)
        return optimizer, Pruner(model, METHODS[method](), SCHEDULE).attach(optimizer)

    model = network()
    optimizer, pruner = build(model)
    train(model, optimizer, 30)
    twin = copy.deepcopy(model)
    twin_optimizer, twin_pruner = build(twin)
    twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    twin_pruner.load_state_dict(copy.deepcopy(pruner.state_dict()))
    train(model, optimizer, 30)
    train(twin, twin_optimizer, 30)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)
    assert pruner.updates == twin_pruner.updates


def test_the_model_stays_a_plain_module():
    model, plain = network(), network()
    optimizer = AdamWPrune(model.parameters())
    Pruner(model, State(), SCHEDULE, storage="implied").attach(optimizer)
    train(model, optimizer, 60)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert not model[0]._forward_pre_hooks
    copy.deepcopy(model)


def test_what_cannot_be_pruned_is_refused():
    model = network()
    with pytest.raises(ValueError, match="no convolution and no linear layer"):
        Pruner(nn.BatchNorm2d(3), Magnitude(), SCHEDULE)
    with pytest.raises(ValueError, match="weights stay pruned"):
        Pruner(model, Movement(), SCHEDULE, storage="implied")
    with pytest.raises(ValueError, match="Adam family"):
        Pruner(model, Magnitude(), SCHEDULE, storage="implied").attach(SGD(model.parameters()))
    with pytest.raises(ValueError, match="pruning by state needs"):
        Pruner(model, State(), SCHEDULE).attach(SGD(model.parameters()))
    with pytest.raises(ValueError, match="does not train all weights"):
        Pruner(model, Magnitude(), SCHEDULE).attach(SGD(model[4].parameters()))
    with pytest.raises(ValueError, match="Invalid scope"):
        Pruner(model, Magnitude(), SCHEDULE, scope="channel")
    with pytest.raises(ValueError, match="Invalid storage"):
        Pruner(model, Magnitude(), SCHEDULE, storage="paper")


def test_a_pruner_is_attached_once_and_takes_no_closure():
    model = network()
    optimizer = AdamW(model.parameters())
    pruner = Pruner(model, Magnitude(), SCHEDULE).attach(optimizer)
    with pytest.raises(ValueError, match="attached already"):
        pruner.attach(optimizer)
    with pytest.raises(RuntimeError, match="takes no closure"):
        optimizer.step(lambda: 1.0)


def test_frozen_layers_are_left_alone_and_tied_weights_counted_once():
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "c": nn.Linear(4, 4)})
    model["b"].weight = model["a"].weight
    model["c"].weight.requires_grad_(False)
    assert list(Pruner(model, Magnitude(), SCHEDULE).weights) == ["a.weight"]


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1), st.integers(1, 7), st.sampled_from(["global", "layer"]))
def test_any_target_is_reached_exactly(target, interval, scope):
    model = network()
    optimizer = AdamWPrune(model.parameters(), 1e-2)
    schedule = Schedule(target=target, warmup=3, interval=interval, ramp_end=15)
    pruner = Pruner(model, State(), schedule, scope, "implied").attach(optimizer)
    train(model, optimizer, 18)
    assert pruner.zeros() == count(target, 1476)
