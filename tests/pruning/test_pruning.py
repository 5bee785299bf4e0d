"""The pruning contract: exactly k, monotone or returning, nothing revived, nothing hidden."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from adamwprune.base.sparsity import count
from adamwprune.optimizers import SGD, AdamW, AdamWPrune, AdamWSpam, Spam
from adamwprune.pruning import (
    ContractViolation,
    Magnitude,
    Movement,
    MovementSeed,
    Pruner,
    Random,
    Schedule,
    State,
)
from adamwprune.pruning.methods.state import CRITERIA
from adamwprune.pruning.scope import SCOPES, Global
from adamwprune.pruning.select.parts import Part, whole
from adamwprune.pruning.select.selection import cut
from adamwprune.pruning.select.weight_bins import histogram
from adamwprune.pruning.storage import STORAGES
from tests.members.language.optimizers.lion import Lion
from tests.pruning.methods import METHODS
from tests.pruning.networks import network, train
from tests.support.pairwise import cases

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


def test_a_ramp_from_an_initial_sparsity_is_zhu_and_guptas():
    """Their equation 1: s_t = s_f + (s_i − s_f)·(1 − (t − t₀)/(n·Δt))³."""
    schedule = Schedule(target=0.9, warmup=100, interval=50, ramp_end=1100, initial=0.5)
    assert schedule.sparsity(0) == schedule.sparsity(100) == 0.5
    for t in (150, 350, 600, 1050):
        assert schedule.sparsity(t) == pytest.approx(0.9 - 0.4 * (1 - (t - 100) / 1000) ** 3)
    assert schedule.sparsity(1100) == 0.9
    linear = Schedule(0.8, warmup=0, interval=50, ramp_end=1000, shape="linear", initial=0.4)
    assert [linear.sparsity(t) for t in (0, 500, 1000)] == pytest.approx([0.4, 0.6, 0.8])


@pytest.mark.parametrize("method", METHODS)
def test_a_ramp_starts_sparse_with_what_can_be_said_of_untrained_weights(method):
    model, score = network(), METHODS[method]()
    optimizer = AdamWPrune(model.parameters(), 1e-2)
    schedule = Schedule(target=0.9, warmup=5, interval=5, ramp_end=30, initial=0.5)
    if not score.starts_sparse:
        with pytest.raises(ValueError, match="an initial sparsity needs a method that scores"):
            Pruner(model, score, schedule)
        return
    weights = torch.cat([p.detach().flatten() for p in (model[0].weight, model[4].weight)])
    pruner = Pruner(model, score, schedule).attach(optimizer)
    found = torch.cat([p.detach().flatten() for p in (model[0].weight, model[4].weight)])
    assert (found == 0).sum() == pruner.k == 738, "before the first step"
    if method == "magnitude" or method.startswith("state"):
        assert weights[found == 0].abs().max() <= weights[found != 0].abs().min()
    sparsities = []
    train(model, optimizer, 35, lambda step: sparsities.append(pruner.k / 1476))
    pruner.verify()
    assert sparsities[3] == 0.5 < sparsities[9] < sparsities[19] < sparsities[34]
    assert pruner.k == count(0.9, 1476)
    assert [update["step"] for update in pruner.updates] == [0, *range(10, 31, 5)]


def test_updates_are_due_along_the_ramp_and_at_its_end():
    schedule = Schedule(target=0.9, warmup=100, interval=50, ramp_end=944)
    due = [t for t in range(1, 1181) if schedule.is_due(t)]
    assert due == [*range(150, 944, 50), 944]


def test_one_shot_is_one_update_to_the_whole_target():
    schedule = Schedule.one_shot(0.8, step=100)
    assert [t for t in range(1, 500) if schedule.is_due(t)] == [100]
    assert [schedule.sparsity(t) for t in (1, 99, 100, 101, 500)] == [0, 0, 0.8, 0.8, 0.8]
    for step in (0, -1):
        with pytest.raises(ValueError, match="Invalid warmup"):
            Schedule.one_shot(0.8, step)


@pytest.mark.parametrize(
    "bad",
    [
        {"target": 1.1},
        {"target": -0.1},
        {"warmup": 1000},
        {"interval": 0},
        {"shape": "quartic"},
        {"initial": 0.6},
        {"initial": -0.1},
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
    assert count(sparsity, numel) == count(np.float64(sparsity), numel) == k


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


def test_movement_seed_literally():
    """W·(W − W⁰): up and away, towards zero, through zero, not at all; and W⁰ is kept."""
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0, -1.0, 3.0]]))
    score = MovementSeed()
    score.begin([layer.weight])
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.5, 0.5, 0.5, 3.0]]))
    found = score.score(layer.weight, {}, whole(layer.weight))
    assert found.tolist() == [0.75, -0.75, 0.75, 0.0]
    assert [t.tolist() for t in score.buffers()["initial_weights"]] == [[[1.0, 2.0, -1.0, 3.0]]]


def test_random_scores_are_a_function_of_seed_and_index():
    a, b = torch.zeros(200, 300), torch.zeros(300, 20)

    def scores(seed, *weights):
        score = Random(seed)
        score.begin(list(weights))
        assert score.buffers() == {}
        return torch.cat([score.score(weight, {}, whole(weight)) for weight in weights])

    found = scores(0, a, b)
    assert torch.equal(found, scores(0, torch.ones(66_000, 1))), "what is in the weights is nothing"
    assert ((found >= 0) & (found < 1)).all()
    # 66,000 even numbers: mean 1/2 ± 0.0011, deviation √(1/12), and hardly any two are equal.
    assert found.mean().item() == pytest.approx(0.5, abs=0.005)
    assert found.std().item() == pytest.approx(12**-0.5, abs=0.005)
    assert len(found.unique()) > 65_500
    for other in (scores(1, a, b), scores(2**32 - 1, a, b), found.roll(1), found.roll(300)):
        assert abs(torch.corrcoef(torch.stack([found, other]))[0, 1]) < 0.02
    first = [16_577_895, 649_803, 4_429_660]  # by Python's integers
    assert (found[:3] * 2**24).tolist() == first
    with pytest.raises(ValueError, match="Invalid seed: -1"):
        Random(-1)


# -- the pruner in a loop ------------------------------------------------------------------------


SCHEDULE = Schedule(target=0.9, warmup=5, interval=4, ramp_end=50)
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
    "Lion": lambda p: Lion(p, 1e-2),
}


WITH_STATES = [storage for storage in STORAGES if storage != "packed"]  # of pruned weights


def stays_pruned(method):
    score = METHODS[method]()
    return not (score.returns or score.regrows)


def goes_with(method, storage):
    """Whether a method's masks can be stored so."""
    if storage == "implied":
        return stays_pruned(method)
    return storage != "packed" or not METHODS[method]().returns


def goes(optimizer, method, scope):
    score = METHODS[method]()
    if score.reads_states and optimizer not in ADAMS:
        return False
    return not (score.regrows and scope == "2-4")  # growing breaks the fours


@pytest.mark.parametrize(
    ("optimizer", "method", "scope"), cases(OPTIMIZERS, METHODS, SCOPES, fits=goes)
)
def test_exactly_k_zeros_at_every_step(optimizer, method, scope):
    score, model = METHODS[method](), network()
    built = OPTIMIZERS[optimizer](model.parameters())
    schedule = replace(SCHEDULE, target=0.5 if scope == "2-4" else 0.9)
    pruner = Pruner(model, score, schedule, scope).attach(built)
    pruned: set[tuple[str, int]] = set()

    def check(step):
        zeros = {
            (name, i)
            for name, w in pruner.weights.items()
            for i in (w.flatten() == 0).nonzero().flatten().tolist()
        }
        if score.regrows:  # what was grown is zero at first, and no zero of these
            masked = {
                (name, i)
                for name in pruner.weights
                for i in pruner.masks.mask(name, {}).flatten().nonzero().flatten().tolist()
            }
            assert masked <= zeros
            assert len(zeros) - pruner.k <= pruner.returned
            zeros = masked
        assert len(zeros) == pruner.k, f"step {step}"
        if not (score.returns or score.regrows):
            assert pruned <= zeros, "a pruned weight came back"
            pruned.update(zeros)
            _assert_states_are_zero(built, pruner)

    train(model, built, 70, check)
    assert pruner.k == pruner.zeros() == (720 if scope == "2-4" else count(0.9, pruner.numel))
    pruner.verify()
    assert [u["step"] for u in pruner.updates][-1] == 50
    assert (pruner.returned > 0) == (score.returns or score.regrows)
    zeros = [layer["zeros"] for layer in pruner.layers()]
    if scope != "global":
        # erk keeps 148 in proportion to 1 + 4 + 3 + 3 and 144 + 10; 2:4 leaves rows of 9 alone.
        assert zeros == {"layer": [32, 1296], "erk": [26, 1302], "2-4": [0, 720]}[scope]
    if scope == "2-4":
        assert ((model[4].weight == 0).view(-1, 4).sum(1) == 2).all()
    assert sum(layer["returned"] for layer in pruner.layers()) == pruner.returned


def _assert_states_are_zero(optimizer, pruner):
    for weight in pruner.weights.values():
        for state in optimizer.state[weight].values():
            if isinstance(state, torch.Tensor) and state.shape == weight.shape:
                assert not state[weight == 0].any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("optimizer", ADAMS)
def test_every_storage_gives_the_same_bits(optimizer, method):
    results = {}
    for storage in filter(partial(goes_with, method), STORAGES):
        model = network()
        built = ADAMS[optimizer](model.parameters())
        pruner = Pruner(model, METHODS[method](), SCHEDULE, storage=storage).attach(built)
        train(model, built, 70)
        results[storage] = (model, pruner)
    for storage, (model, _) in results.items():
        # A norm over packed gradients is a sum in another order; these two clip by it.
        rounds = storage == "packed" and optimizer in ("AdamWPrune", "SPAM")
        same = partial(torch.allclose, rtol=1e-3, atol=1e-5) if rounds else torch.equal
        kept = dict(results["bool"][0].named_parameters())
        if rounds:  # before a batch norm: its gradient is nothing but rounding
            del kept["0.bias"]
        for name, weight in kept.items():
            assert same(weight, model.get_parameter(name)), name
    sizes = {
        storage: sorted(t.numel() for t in pruner.buffers().get("masks", []))
        for storage, (_, pruner) in results.items()
    }
    expected = {"bool": [36, 1440], "bits": [5, 180], "implied": []}
    if "packed" in results:
        live = {layer["numel"]: layer["numel"] - layer["zeros"] for layer in pruner.layers()}
        sizes_packed = [n if 2 * n <= numel else -(-numel // 8) for numel, n in live.items()]
        expected["packed"] = sorted(sizes_packed)
    assert sizes == {storage: expected[storage] for storage in results}


def test_movement_is_the_papers_straight_through_sum():
    """Against W and S kept by hand: W' = W ⊙ M, S −= α · dL/dW' · W, W −= α · dL/dW' ⊙ M."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 4, bias=False)
    full, scores = layer.weight.detach().clone(), torch.zeros(4, 6)
    mask, returned = torch.ones(4, 6), 0
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    schedule = Schedule(target=0.5, warmup=0, interval=1, ramp_end=20, shape="linear")
    pruner = Pruner(layer, Movement(), schedule).attach(optimizer)
    for step in range(1, 31):
        # W's learning rate, and that of S.
        optimizer.param_groups[0]["lr"] = lr = 0.1 * (1 - step / 40)
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
        scores -= lr * effective.grad * full
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


@pytest.mark.parametrize("kind", [AdamW, torch.optim.AdamW])
def test_the_scores_of_a_group_follow_its_own_learning_rate(kind):
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    groups = [{"params": [model[0].weight], "lr": 0.5}, {"params": [model[1].weight]}]
    optimizer, movement = kind(groups, lr=0.25), Movement()
    Pruner(model, movement, SCHEDULE).attach(optimizer)
    before = [layer.weight.detach().clone() for layer in model]
    for layer in model:
        layer.weight.grad = torch.full_like(layer.weight, 2.0)
    optimizer.step()
    scores = movement.buffers()["scores"]
    for score, weight, lr in zip(scores, before, (0.5, 0.25), strict=True):
        torch.testing.assert_close(score, -lr * 2 * weight)


@pytest.mark.parametrize("numel", [0, 1, 3 * 2**18 + 1, 2**25])
def test_a_histogram_counts_every_weight_however_many_share_a_bin(numel):
    weight = torch.full((numel,), 0.015)
    weight[: numel // 3] = 0
    weight[-1:] = -7.0
    expected = [0] * 100
    if numel:
        expected[0] = 1  # what lies beyond
        expected[51] = numel - numel // 3 - 1
    assert histogram([weight] if numel else []) == (expected if numel else [])


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


def test_a_one_shot_prunes_once_and_holds():
    model = network()
    optimizer = AdamW(model.parameters(), 1e-2)
    pruner = Pruner(model, Magnitude(), Schedule.one_shot(0.9, step=20)).attach(optimizer)
    zeros = []
    train(model, optimizer, 40, lambda step: zeros.append(pruner.zeros()))
    assert zeros == [0] * 19 + [1328] * 21
    made = {"step": 20, "target": 0.9, "zeros": 1328, "returned": 0, "changed": 1328}
    assert pruner.updates == [made]


def test_what_returns_is_counted_by_layer():
    """Against the masks before and after each step."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    pruner = Pruner(model, Movement(), SCHEDULE, scope="layer", storage="bits").attach(optimizer)
    masks = {name: torch.zeros(w.shape, dtype=torch.bool) for name, w in pruner.weights.items()}
    returned = dict.fromkeys(masks, 0)

    def each(step):
        for name, weight in pruner.weights.items():
            returned[name] += int((masks[name] & (weight != 0)).sum())
            masks[name] = weight == 0

    train(model, optimizer, 70, each)
    assert {layer["name"]: layer["returned"] for layer in pruner.layers()} == returned
    assert all(returned.values())


def test_a_record_says_what_was_requested_and_what_is_there():
    model = network()
    optimizer = AdamWPrune(model.parameters(), 1e-2)
    pruner = Pruner(model, State(), SCHEDULE, "layer", "implied").attach(optimizer)
    train(model, optimizer, 60)
    record = json.loads(json.dumps(pruner.record()))
    updates, bins = record.pop("updates"), record.pop("histogram")
    pruned = [
        next((u["zeros"] for u in reversed(updates) if u["step"] < s), 0) for s in range(1, 61)
    ]
    assert record.pop("mean_density") == pytest.approx(1 - sum(pruned) / 60 / 1476)
    assert record == {
        "requested": 0.9,
        "k": 1328,
        "zeros": 1328,
        "prunable": 1476,
        "parameters": 1498,
        "left_out": [
            {"name": "0.bias", "reason": "a bias or vector"},
            {"name": "1.weight", "reason": "normalisation"},
            {"name": "1.bias", "reason": "normalisation"},
            {"name": "4.bias", "reason": "a bias or vector"},
        ],
        "layers": [
            {
                "name": "0.weight",
                "numel": 36,
                "zeros": 32,
                "density": pytest.approx(4 / 36),
                "returned": 0,
            },
            {
                "name": "4.weight",
                "numel": 1440,
                "zeros": 1296,
                "density": pytest.approx(0.1),
                "returned": 0,
            },
        ],
        "returned": 0,
    }
    last = {"step": 50, "target": 0.9, "zeros": 1328, "returned": 0}
    assert updates[-1] == {**last, "changed": 1328 - updates[-2]["zeros"]}
    assert (bins["low"], bins["high"]) == (-0.5, 0.5)
    assert (sum(bins["before"]), sum(bins["after"])) == (1476, 1476 - 1328)


# -- planted violations --------------------------------------------------------------------------


def pruned(optimizer, method=Magnitude, steps=20, **settings):
    """A network after so many steps of its ramp of 50, its optimizer and its pruner."""
    model = network()
    built = optimizer(model.parameters())
    pruner = Pruner(model, method(), SCHEDULE, **settings).attach(built)
    train(model, built, steps)
    return model, built, pruner


@pytest.mark.parametrize("storage", WITH_STATES)
@pytest.mark.parametrize("state", ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"])
def test_a_stale_momentum_is_caught(state, storage):
    """At the next update, and before it by whoever asks: it revives weights in between."""
    model, optimizer, pruner = pruned(lambda p: AdamWPrune(p, 1e-2), storage=storage)
    weight = model[4].weight
    optimizer.state[weight][state][weight == 0] = 1.0
    with pytest.raises(
        ContractViolation, match=r"weights are pruned, not|moments of pruned weights of 4"
    ):
        pruner.verify()
    with pytest.raises(ContractViolation, match="after step 21"):
        train(model, optimizer, 20)


@pytest.mark.parametrize("storage", WITH_STATES)
def test_stale_moments_that_cancel_out_are_caught(storage):
    model, optimizer, pruner = pruned(lambda p: AdamWPrune(p, 1e-2), storage=storage)
    weight = model[4].weight
    places = (weight == 0).nonzero()[:2]
    for place, value in zip(places, (1.0, -1.0), strict=True):
        optimizer.state[weight]["exp_avg"][tuple(place)] = value
    found = r"2 moments of pruned weights of 4\.weight"
    if storage == "implied":  # where they are live weights that are zero
        found = f"{pruner.k - 2} of 1476 weights are pruned, not {pruner.k}"
    with pytest.raises(ContractViolation, match=found):
        pruner.verify()


def test_a_stale_momentum_of_sgd_is_caught():
    model, optimizer, pruner = pruned(lambda p: SGD(p, 0.1))
    weight = model[4].weight
    optimizer.state[weight]["momentum_buffer"][weight == 0] = 1.0
    with pytest.raises(ContractViolation, match=r"\d+ moments of pruned weights of 4\.weight"):
        pruner.verify()
    with pytest.raises(ContractViolation, match="after step 21"):
        train(model, optimizer, 20)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_forgotten_mask_is_caught(storage):
    model, _, pruner = pruned(lambda p: AdamW(p, 1e-2), steps=60, storage=storage)
    pruner.verify()
    with torch.no_grad():
        model[4].weight.add_(1e-3)
    with pytest.raises(ContractViolation, match=r"after step 60: \d+ .*weights"):
        pruner.verify()


@pytest.mark.parametrize("storage", ["bool", "bits"])
@pytest.mark.parametrize("method", [Magnitude, Movement])
def test_another_weight_at_zero_in_place_of_a_pruned_one_is_caught(method, storage):
    """The number of zeros is right, but they are not the ones that were pruned."""
    model, _, pruner = pruned(lambda p: AdamW(p, 1e-2), method, steps=60, storage=storage)
    flat = model[4].weight.detach().view(-1)
    dead, alive = (flat == 0).nonzero()[0], (flat != 0).nonzero()[0]
    flat[dead], flat[alive] = flat[alive].clone(), 0.0
    with pytest.raises(ContractViolation, match=r"1 pruned weights of 4\.weight are not zero"):
        pruner.verify()


def test_a_weight_that_is_revived_is_caught_before_it_is_pruned_again():
    """By the update of step 21, which would find it lowest of all and prune it again."""
    model, optimizer, pruner = pruned(lambda p: AdamW(p, 1e-2), steps=18)
    with torch.no_grad():
        model[4].weight[model[4].weight == 0] = 1e-9
    with pytest.raises(ContractViolation, match="after step 21"):
        train(model, optimizer, 10)
    assert pruner.updates[-1]["step"] == 17


def test_a_weight_revived_and_zeroed_between_two_updates_is_caught_by_its_moments():
    """Nobody was there to see it; what the gradient left in the optimizer tells."""
    model, optimizer, _ = pruned(lambda p: torch.optim.AdamW(p, 1e-2), steps=18)
    weight = model[4].weight
    dead = weight == 0
    revived = []

    def disturb(*arguments):
        weight.grad.add_(1e-3)

    def zero(*arguments):
        revived.append(int((weight[dead] != 0).sum()))
        weight.data.masked_fill_(dead, 0)

    optimizer.register_step_pre_hook(disturb)
    # Before the pruner's own, which finds the zeros it expects.
    optimizer.register_step_post_hook(zero)
    optimizer._optimizer_step_post_hooks.move_to_end(
        next(iter(optimizer._optimizer_step_post_hooks))
    )
    with pytest.raises(ContractViolation, match=r"after step 21: \d+ moments of pruned weights"):
        train(model, optimizer, 10)
    assert revived == [int(dead.sum())] * 3


@pytest.mark.parametrize("wrong", [1329, 1400])
def test_a_wrong_k_is_caught(wrong, monkeypatch):
    """Zeros and masks agree on it, and it is not what the target means."""
    monkeypatch.setattr(Global, "k", lambda self, s: wrong if s == 0.9 else count(s, 1476))
    model = network()
    optimizer = AdamW(model.parameters())
    pruner = Pruner(model, Magnitude(), SCHEDULE).attach(optimizer)
    pruner.scope.target_k = 1328
    train(model, optimizer, 60)
    assert pruner.zeros() == wrong
    with pytest.raises(ContractViolation, match=f"{wrong} of 1476 weights were pruned, not 1328"):
        pruner.verify()


def test_an_update_that_chooses_another_number_is_caught(monkeypatch):
    wrong = lambda self, scores, k, pruned: [cut(scores, scores.sizes, k - 1)]  # noqa: E731
    monkeypatch.setattr(Global, "choose", wrong)
    model = network()
    optimizer = AdamW(model.parameters())
    Pruner(model, Magnitude(), SCHEDULE).attach(optimizer)
    with pytest.raises(ContractViolation, match=r"after step 9: .* weights are pruned, not"):
        train(model, optimizer, 20)


def test_a_run_that_never_reached_its_target_is_caught():
    """A one-shot waits for the states to settle; here training ends before they have."""
    model = network()
    optimizer = AdamWSpam(model.parameters(), spam=Spam(interval=30))
    pruner = Pruner(model, Magnitude(), Schedule.one_shot(0.9, step=35)).attach(optimizer)
    train(model, optimizer, 45)
    with pytest.raises(ContractViolation, match="0 of 1476 weights were pruned, not 1328"):
        pruner.verify()
    train(model, optimizer, 5)
    pruner.verify()
    assert [update["step"] for update in pruner.updates] == [49]


def test_scores_that_are_nan_stop_the_run_and_are_told_from_weights():
    class Broken(Magnitude):
        def score(self, weight, state, part):
            return super().score(weight, state, part).log_().sub_(math.inf).add_(math.inf)

    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    Pruner(model, Broken(), SCHEDULE).attach(optimizer)
    with pytest.raises(ValueError, match=r"weight: \d+ of \d+ scores are NaN"):
        train(model, optimizer, 10)


def test_states_that_become_nan_stop_the_run():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    Pruner(model, State("precond"), SCHEDULE).attach(optimizer)
    train(model, optimizer, 8)
    optimizer.state[model[4].weight]["exp_avg_sq"].fill_(math.nan)
    with pytest.raises(ValueError, match=r"4\.weight: 1440 of 1440 weights are NaN"):
        train(model, optimizer, 10)


# -- around ------------------------------------------------------------------------------------


def test_updates_wait_for_the_states_to_settle_after_a_reset():
    model = network()
    optimizer = AdamWSpam(model.parameters(), spam=Spam(interval=100))
    schedule = Schedule(target=0.5, warmup=0, interval=52, ramp_end=330)
    pruner = Pruner(model, Magnitude(), schedule).attach(optimizer)
    train(model, optimizer, 340)
    # Steps 100, 200, 300 begin with a reset. Due at 52, 104, 156, 208, 260, 312 and, forced, 330.
    assert [u["step"] for u in pruner.updates] == [52, 119, 156, 219, 260, 319, 330]


def test_an_update_due_just_before_a_reset_is_not_deferred():
    model = network()
    optimizer = AdamWSpam(model.parameters(), spam=Spam(interval=50))
    schedule = Schedule(target=0.5, warmup=0, interval=49, ramp_end=170)
    pruner = Pruner(model, Magnitude(), schedule).attach(optimizer)
    train(model, optimizer, 170)
    assert [u["step"] for u in pruner.updates] == [49, 98, 147, 170]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("method", METHODS)
def test_state_dict_round_trip_in_mid_run(method, storage):
    if not goes_with(method, storage):
        pytest.skip("what returns is not stored so")

    def build(model):
        optimizer = AdamWPrune(model.parameters(), 1e-2)
        pruner = Pruner(model, METHODS[method](), SCHEDULE, "erk", storage, floor=5)
        return optimizer, pruner.attach(optimizer)

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
    assert pruner.record() == twin_pruner.record()


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
    with pytest.raises(
        ValueError, match=r"no weight to prune: 0 of 6 .* left out as normalisation: weight, bias"
    ):
        Pruner(nn.BatchNorm2d(3), Magnitude(), SCHEDULE)
    with pytest.raises(ValueError, match="weights stay pruned"):
        Pruner(model, Movement(), SCHEDULE, storage="implied")
    with pytest.raises(ValueError, match="Adam family"):
        Pruner(model, Magnitude(), SCHEDULE, storage="implied").attach(SGD(model.parameters()))
    with pytest.raises(ValueError, match="pruning weights by state needs"):
        Pruner(model, State(), SCHEDULE).attach(SGD(model.parameters()))
    with pytest.raises(
        ValueError, match=r"the weight 0\.weight is not one that the optimizer trains"
    ):
        Pruner(model, Magnitude(), SCHEDULE).attach(SGD(model[4].parameters()))
    with pytest.raises(ValueError, match="Invalid scope"):
        Pruner(model, Magnitude(), SCHEDULE, scope="channel")
    with pytest.raises(ValueError, match="Invalid storage"):
        Pruner(model, Magnitude(), SCHEDULE, storage="paper")


def test_a_pruner_is_attached_once():
    model = network()
    optimizer = AdamW(model.parameters())
    pruner = Pruner(model, Magnitude(), SCHEDULE).attach(optimizer)
    with pytest.raises(ValueError, match="attached already"):
        pruner.attach(optimizer)


def test_frozen_layers_are_left_alone_and_tied_weights_counted_once():
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "c": nn.Linear(4, 4)})
    model["b"].weight = model["a"].weight
    model["c"].weight.requires_grad_(False)
    assert list(Pruner(model, Magnitude(), SCHEDULE).weights) == ["a.weight"]


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0, 1),
    st.integers(1, 7),
    st.sampled_from(["global", "layer", "erk"]),
    st.sampled_from([*STORAGES]),
    st.integers(0, 40),
)
def test_any_target_is_reached_exactly_or_refused(target, interval, scope, storage, floor):
    model = network()
    optimizer = AdamWPrune(model.parameters(), 1e-2)
    schedule = Schedule(target=target, warmup=3, interval=interval, ramp_end=15)
    k = count(target, 1476)
    room = max(0, 36 - floor) + 1440 - floor
    if k > room:
        with pytest.raises(ValueError, match=f"Invalid floor: .* at most {room} of 1476"):
            Pruner(model, State(), schedule, scope, storage, floor)
        return
    pruner = Pruner(model, State(), schedule, scope, storage, floor).attach(optimizer)
    train(model, optimizer, 18)
    pruner.verify()
    assert pruner.zeros() == k
    assert all(x["numel"] - x["zeros"] >= min(floor, x["numel"]) for x in pruner.layers())


@pytest.mark.parametrize("criterion", ["precond", "fisher", "taylor", "movement", "hybrid"])
def test_a_score_in_bfloat16_is_that_of_its_numbers_in_float32(criterion):
    """With v near 1e-9, as gradients clipped to norm 1 over 100 million weights leave it."""
    torch.manual_seed(0)
    weight = torch.randn(1000).bfloat16()
    state = {"exp_avg": torch.randn(1000).mul(1e-5).bfloat16(),
             "exp_avg_sq": torch.rand(1000).mul(1e-9).bfloat16()}  # fmt: skip
    wide = {name: values.float() for name, values in state.items()}
    found = State(criterion).score(weight, state, Part(0, 1000))
    assert torch.equal(found, State(criterion).score(weight.float(), wide, Part(0, 1000)))
    if criterion == "precond":  # ranks as |w|·v^¼, without an ε that would swamp v
        expected = weight.double().abs() * state["exp_avg_sq"].double() ** 0.25
        torch.testing.assert_close(found.double(), expected**2, rtol=1e-6, atol=0.0)
