"""SET and RigL: what is dropped and what grows, and exactly k where grown weights are zero."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from adamwprune.base.sparsity import count, part_of
from adamwprune.optimizers import SGD, AdamW, AdamWPrune, AdamWSpam, Spam
from adamwprune.pruning import (
    ContractViolation,
    Magnitude,
    Movement,
    MovementSeed,
    Pruner,
    Random,
    RigL,
    Schedule,
    Set,
    State,
    contract,
)
from adamwprune.pruning.scope import SCOPES
from adamwprune.pruning.select.parts import whole
from adamwprune.train.measure import ledger
from tests.pruning.conftest import WAYS
from tests.pruning.networks import network, train
from tests.support.pairwise import cases

CONSTANT = Schedule.constant(0.9, interval=4, end=50)
CUBIC = Schedule(target=0.9, warmup=5, interval=4, ramp_end=50)
METHODS = {"set": Set, "rigl": RigL}
GROWING_SCOPES = [name for name in SCOPES if name != "2-4"]


# -- by hand -----------------------------------------------------------------------------------


def layer_of(values):
    layer = nn.Linear(len(values), 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([values]))
    return layer


def step_with(layer, optimizer, gradient):
    layer.weight.grad = torch.tensor([gradient])
    optimizer.step()
    return [round(value, 6) for value in layer.weight.flatten().tolist()]


VALUES = [0.8, -0.7, 0.6, 0.5, -0.4, 0.3, -0.2, 0.1]


def test_rigl_by_hand_along_a_ramp():
    """What is dropped and grown at once keeps its value: here all three that are grown."""
    layer = layer_of(VALUES)
    optimizer = SGD(layer.parameters(), 0.0)
    schedule = Schedule(target=0.5, warmup=0, interval=1, ramp_end=2, shape="linear")
    pruner = Pruner(layer, RigL(fraction=1.0), schedule).attach(optimizer)
    # k = 2; f = 1/2 · (1 + cos(π/2)) = 1/2 of the 6 that are left: 5 are dropped, 3 grown.
    found = step_with(layer, optimizer, [9.0, 9.0, 9.0, 1.0, 5.0, 2.0, -4.0, 3.0])
    assert found == [0.8, -0.7, 0.6, 0, -0.4, 0, -0.2, 0.1]
    # k = 4 at the end, where f = 0: two more of the smallest go, and none is grown.
    found = step_with(layer, optimizer, [0.0] * 3 + [9.0] * 5)
    assert found == [0.8, -0.7, 0.6, 0, -0.4, 0, 0, 0]
    assert [(u["zeros"], u["returned"]) for u in pruner.updates] == [(2, 0), (4, 0)]
    pruner.verify()


class FromTheLeft:
    """Keeps the first weights where the sparsity is constant from the start."""

    def initial(self, weight, state, part):
        return -torch.arange(part.start, part.stop, part.step).float()


class LeftRigL(FromTheLeft, RigL):
    pass


def test_rigl_by_hand_at_a_constant_sparsity():
    layer = layer_of(VALUES)
    optimizer = SGD(layer.parameters(), 0.5, momentum=0.5)
    schedule = Schedule.constant(0.5, interval=1, end=3)
    pruner = Pruner(layer, LeftRigL(fraction=1.0), schedule).attach(optimizer)
    assert layer.weight.flatten().tolist() == pytest.approx([0.8, -0.7, 0.6, 0.5] + 4 * [0])
    # f = 1/2 · (1 + cos(π/3)) = 3/4 of the 4 in use: all but the first are dropped, and the three
    # of the largest gradient grown, that of those in use among them: 6 and 5, and 1 again.
    gradient = [0.0, 7e-9, 5e-10, 2e-10, 1e-9, 3e-9, -9e-9, 1e-10]
    assert step_with(layer, optimizer, gradient) == [0.8, -0.7] + 6 * [0]
    masks = pruner.masks.mask("weight", {}).flatten().tolist()
    assert masks == [False, False, True, True, True, False, False, True]
    assert (pruner.k, pruner.zeros(), pruner.returned) == (4, 6, 2)
    moments = optimizer.state[layer.weight]["momentum_buffer"].flatten().tolist()
    assert moments == pytest.approx([0, 7e-9] + 6 * [0], rel=1e-6), "grown ones start at zero"
    pruner.verify()
    # Grown weights learn, pruned ones do not: w = 0 − 0.5 · (±2). f(2) = 1/4 of 4 in use, and the
    # smallest of 0.8, 1.7, 1 and 1 is the first. The largest gradient of the pruned grows: 3.
    found = step_with(layer, optimizer, [0.0, 2.0, 0.5, 3.0, 1.0, 2.0, -2.0, 1.0])
    assert found == [0, -1.7, 0, 0, 0, -1.0, 1.0, 0]
    assert not pruner.masks.mask("weight", {})[0, 3]
    assert (pruner.k, pruner.zeros(), pruner.returned) == (4, 5, 3)
    # It has no gradient in the last step: zero for good, in use, and no violation.
    assert step_with(layer, optimizer, 8 * [0.0])[3] == 0
    pruner.verify()
    record = pruner.record()
    assert (record["k"], record["zeros"], record["returned"]) == (4, 5, 3)
    assert [u["returned"] for u in record["updates"]] == [0, 2, 1, 0]
    assert [u["changed"] for u in record["updates"]] == [4, 4, 2, 0]


def mixed(word):
    for _ in range(2):
        word = ((word ^ (word >> 16)) * 0x45D9F3B) % 2**32
    return word ^ (word >> 16)


def number(index, *words):
    """A weight's number by Python's integers, from its index and the seed (and the step)."""
    found = mixed(index)
    for word in words:
        found = mixed((found + mixed(word ^ 0x9E3779B9)) % 2**32)
    return (found >> 8) / 2**24


def test_what_set_grows_is_a_function_of_seed_step_and_index():
    a, b = torch.zeros(20, 30), torch.zeros(30, 20)

    def drawn(seed, step):
        score = Set(0.3, seed)
        score.begin([a, b])
        return torch.cat([score.growth(each, None, step, whole(each)) for each in (a, b)])

    found = drawn(7, 300)
    assert found.tolist() == [number(index, 7, 300) for index in range(1200)]
    assert (found[:2] * 2**24).tolist() == [3_376_814, 16_694_625]
    assert torch.equal(found, drawn(7, 300))
    for other in (drawn(7, 350), drawn(8, 300), drawn(300, 7)):
        assert abs(torch.corrcoef(torch.stack([found, other]))[0, 1]) < 0.1


def test_the_fraction_of_each_method():
    rigl = RigL(0.3)
    found = [rigl.exchanged(t, last=100) for t in (0, 25, 50, 75, 100, 130)]
    assert found == pytest.approx([0.3, 0.2560660172, 0.15, 0.0439339828, 0, 0])
    assert [Set(0.3).exchanged(t, 100) for t in (0, 99, 100, 130)] == [0.3, 0.3, 0, 0]
    assert [part_of(n, 0.29) for n in (99, 100, 101)] == [28, 29, 29], "in binary 0.29 is less"
    assert part_of(100, np.float64(0.29)) == 29
    for wrong in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match="Invalid fraction"):
            Set(wrong)
    with pytest.raises(ValueError, match="Invalid seed: -1"):
        RigL(0.3, seed=-1)


# -- against a reference -------------------------------------------------------------------------


def reference(groups, fraction):
    """Masks after an update, layer by layer, True = pruned, by sorting lists.

    ``groups``: lists of (mask before, |w|, growth) of layers together, and the k of each list.
    """
    result = []
    for layers, k in groups:
        flat = [
            (layer, place, mask, size, growth)
            for layer, weights in enumerate(layers)
            for place, (mask, size, growth) in enumerate(zip(*weights, strict=True))
        ]
        active = sorted((each for each in flat if not each[2]), key=lambda each: each[3])
        inactive = [each for each in flat if each[2]]
        more = k - len(inactive) + math.floor(fraction * (len(flat) - k) + 1e-9)
        pool = sorted([*inactive, *active[:more]])  # by layer and place
        pruned = {each[:2] for each in sorted(pool, key=lambda each: each[4])[:k]}
        for layer, weights in enumerate(layers):
            result.append([(layer, place) in pruned for place in range(len(weights[0]))])
    return result


SCHEDULES = {"cubic": CUBIC, "constant": CONSTANT}


@pytest.mark.parametrize(
    ("way", "method", "shape", "scope", "storage"),
    cases(WAYS, METHODS, SCHEDULES, GROWING_SCOPES, ["bool", "bits"]),
    indirect=["way"],
)
def test_every_update_is_the_one_of_sorted_lists(way, method, shape, scope, storage):
    schedule, model = SCHEDULES[shape], network()
    # Of few values, so that very many are equal.
    with torch.no_grad():
        for weight in (model[0].weight, model[4].weight):
            weight.copy_(weight.sign() * (1 + (weight * 20).round().abs()) / 16)
    optimizer = AdamWPrune(model.parameters(), 1e-2)
    pruner = Pruner(model, METHODS[method](0.3, 5), schedule, scope, storage)
    returned = []

    def compared(update):
        step = pruner.steps
        fraction = 0.3 if step < 50 else 0.0
        if method == "rigl":
            fraction = 0.15 * (1 + math.cos(math.pi * step / 50))
        if not step:
            fraction = 0.0
        layers, first = [], 0
        for name, weight in pruner.weights.items():
            mask = pruner.masks.mask(name, {}).flatten().tolist()
            indices = range(first, first + weight.numel())
            size = weight.detach().abs().flatten().tolist()
            if not step:
                size = [number(index, 5) for index in indices]
            if method == "set":
                growth = [number(index, 5, step) for index in indices]
            else:
                dense = pruner._gradients.get(name, torch.zeros_like(weight))
                growth = dense.abs().flatten().tolist()
            layers.append((mask, size, growth))
            first += weight.numel()
        k = pruner.scope.k(schedule.sparsity(step))
        if scope == "global":
            groups = [(layers, k)]
        else:
            before = {n: sum(layer[0]) for n, layer in zip(pruner.weights, layers, strict=True)}
            wanted = pruner.scope.parts(k, before)
            groups = [([layer], wanted[n]) for n, layer in zip(before, layers, strict=True)]
        expected = reference(groups, fraction)
        update()
        found = [pruner.masks.mask(name, {}).flatten().tolist() for name in pruner.weights]
        assert found == expected
        was = [mask for layer in layers for mask in layer[0]]
        now = [mask for layer in found for mask in layer]
        returned.append(sum(a and not b for a, b in zip(was, now, strict=True)))

    pruner.around_update = compared
    pruner.attach(optimizer)
    train(model, optimizer, 51)
    pruner.verify()
    assert len(returned) == (14 if schedule is CONSTANT else 12)
    assert [u["returned"] for u in pruner.updates] == returned
    assert sum(returned) > 100


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["set", "rigl"]),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(1, 7),
    st.sampled_from(GROWING_SCOPES),
    st.sampled_from(["bool", "bits"]),
    st.booleans(),
    st.integers(0, 40),
)
def test_any_target_is_masked_exactly(
    method, target, fraction, interval, scope, storage, constant, floor
):
    model = network()
    optimizer = AdamWPrune(model.parameters(), 1e-2)
    schedule = Schedule(target=target, warmup=3, interval=interval, ramp_end=15)
    if constant:
        schedule = Schedule.constant(target, interval, end=15)
    k = count(target, 1476)
    score = METHODS[method](fraction, 1)
    if k > max(0, 36 - floor) + 1440 - floor:
        with pytest.raises(ValueError, match="Invalid floor"):
            Pruner(model, score, schedule, scope, storage, floor)
        return
    pruner = Pruner(model, score, schedule, scope, storage, floor).attach(optimizer)

    def masked(step=0):
        wanted = count(schedule.sparsity(pruner.updates[-1]["step"]), 1476) if pruner.updates else 0
        masks = [pruner.masks.mask(name, {}) for name in pruner.weights]
        assert sum(int(mask.sum()) for mask in masks) == pruner.k == wanted
        for mask, weight in zip(masks, pruner.weights.values(), strict=True):
            assert not weight[mask].any()
            assert not any(
                optimizer.state[weight][s][mask].any()
                for s in optimizer.state[weight]
                if optimizer.state[weight][s].shape == mask.shape
            )
            assert int((~mask).sum()) >= min(floor, mask.numel())

    masked()
    train(model, optimizer, 18, masked)
    pruner.verify()
    assert pruner.k == k <= pruner.zeros() <= k + pruner.returned


@pytest.mark.parametrize("method", METHODS)
def test_sparsity_zero_and_one(method):
    for target, zeros in ((0.0, 0), (1.0, 1476)):
        for schedule in (Schedule(target, 0, 5, 10), Schedule.constant(target, 5, 10)):
            model = network()
            plain = copy.deepcopy(model)
            optimizer, other = SGD(model.parameters(), 0.1), SGD(plain.parameters(), 0.1)
            pruner = Pruner(model, METHODS[method](), schedule).attach(optimizer)
            train(model, optimizer, 15)
            train(plain, other, 15)
            pruner.verify()
            assert (pruner.zeros(), pruner.returned) == (zeros, 0)
            if not target:
                assert torch.equal(model[4].weight, plain[4].weight), "all are grown at once"


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_of_one_weight_and_equal_scores(method):
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 8, bias=False))
    for weight in model.parameters():
        nn.init.ones_(weight)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    schedule = Schedule(target=0.4, warmup=0, interval=1, ramp_end=1)
    pruner = Pruner(model, METHODS[method](), schedule).attach(optimizer)
    model(torch.ones(2, 1)).sum().backward()
    optimizer.step()
    assert pruner.zeros() == 4
    assert model[0].weight.item() == 0, "among equals the first go"
    assert model[1].weight.flatten().tolist() == [0, 0, 0, 1, 1, 1, 1, 1]


def test_of_equal_gradients_those_with_the_higher_index_grow():
    layer = layer_of(VALUES)
    optimizer = SGD(layer.parameters(), 0.0)
    schedule = Schedule.constant(0.5, interval=1, end=3)
    pruner = Pruner(layer, LeftRigL(fraction=0.7), schedule).attach(optimizer)
    # 0.7 · 3/4 of 4 are 2: 2 and 3 are dropped, and of six with the same gradient 6 and 7 grow.
    step_with(layer, optimizer, [1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0])
    masks = pruner.masks.mask("weight", {}).flatten().tolist()
    assert masks == [False, False, True, True, True, True, False, False]


# -- in a loop -----------------------------------------------------------------------------------


def test_a_constant_sparsity_begins_with_one_mask_for_all():
    """Random and regrowing methods start alike; magnitude by the initial weights."""
    masks = {}
    for name, score in {
        "random": Random(5), "set": Set(seed=5), "rigl": RigL(seed=5), "size": Magnitude()
    }.items():  # fmt: skip
        model = network()
        weights = model[4].weight.detach().abs().flatten()
        pruner = Pruner(model, score, CONSTANT, "layer").attach(AdamW(model.parameters()))
        made = {"step": 0, "target": 0.9, "zeros": 1328, "returned": 0, "changed": 1328}
        assert pruner.updates == [made]
        assert [layer["zeros"] for layer in pruner.layers()] == [32, 1296]
        masks[name] = model[4].weight.flatten() == 0
    assert torch.equal(masks["set"], masks["random"])
    assert torch.equal(masks["set"], masks["rigl"])
    assert weights[masks["size"]].max() <= weights[~masks["size"]].min()


@pytest.mark.parametrize("score", [lambda: Random(3), Magnitude], ids=["random", "magnitude"])
@pytest.mark.parametrize("storage", ["bool", "bits", "implied"])
def test_what_stays_pruned_is_static_at_a_constant_sparsity(score, storage):
    model = network()
    optimizer = AdamW(model.parameters(), 1e-2)
    pruner = Pruner(model, score(), CONSTANT, storage=storage).attach(optimizer)
    start = model[4].weight == 0
    train(model, optimizer, 60, lambda step: contract.verify(pruner))
    pruner.verify()
    assert torch.equal(model[4].weight == 0, start)
    assert [u["step"] for u in pruner.updates] == [0, *range(4, 50, 4), 50]


@pytest.mark.parametrize("score", [lambda: Random(3), Magnitude, Set, RigL])
def test_weights_that_start_at_zero_are_no_pruned_ones(score):
    model = network()
    with torch.no_grad():
        model[4].weight[:5] = 0
    optimizer = AdamW(model.parameters(), 1e-2)
    pruner = Pruner(model, score(), Schedule.constant(0.5, 4, 50)).attach(optimizer)
    assert (pruner.k, pruner.zeros()) == (738, 738)
    train(model, optimizer, 20)
    pruner.verify()


@pytest.mark.parametrize("make", [Movement, MovementSeed, State])
def test_what_scores_training_cannot_prune_before_it(make):
    with pytest.raises(ValueError, match="a method that scores untrained weights"):
        Pruner(network(), make(), CONSTANT)


def test_grown_weights_learn_and_pruned_ones_do_not():
    model = network()
    optimizer = AdamWPrune(model.parameters(), 1e-2)
    schedule = Schedule.constant(0.5, interval=4, end=50)  # no feature is without its weights
    pruner = Pruner(model, RigL(0.5), schedule, "layer").attach(optimizer)
    train(model, optimizer, 4)
    weight = model[4].weight
    mask = pruner.masks.mask("4.weight", {})
    grown = ~mask & (weight == 0)
    assert 0 < grown.sum() <= pruner.returned
    for state in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
        assert not optimizer.state[weight][state][grown | mask].any()
    train(model, optimizer, 1)
    assert (weight[grown] != 0).all()
    assert not weight[mask].any()
    assert not weight.grad[mask].any()


def test_what_the_optimizer_is_given_is_masked_in_an_update_too():
    """The dense gradient is the pruner's own: clipping and its norm see the masked one."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1, max_grad_norm=0.01)
    pruner = Pruner(model, RigL(), CONSTANT).attach(optimizer)
    seen = []

    def look(*arguments):
        mask = pruner.masks.mask("4.weight", {})
        seen.append((bool(model[4].weight.grad[mask].any()), len(pruner._gradients)))

    optimizer.register_step_pre_hook(look)
    train(model, optimizer, 9)
    assert seen == [(False, 2 if step in (4, 8) else 0) for step in range(1, 10)]
    assert pruner._gradients == {}


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_bits_and_another_others(method):
    def trained(seed):
        model = network()
        optimizer = AdamW(model.parameters(), 1e-2)
        Pruner(model, METHODS[method](0.3, seed), CONSTANT).attach(optimizer)
        torch.rand(seed + 1)  # a state of torch's own that is not asked
        train(model, optimizer, 60)
        return model[4].weight.detach()

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1) == 0, trained(2) == 0)


@pytest.mark.parametrize("storage", ["bool", "bits"])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_but_the_mask_is_kept(method, storage):
    model = network()
    optimizer = AdamW(model.parameters(), 1e-2)
    pruner = Pruner(model, METHODS[method](), CUBIC, storage=storage).attach(optimizer)
    train(model, optimizer, 9)  # an update's step is the last
    found = ledger.account(model, optimizer, pruner)["pruner"]
    assert found == {"masks": {"bool": 1476, "bits": 5 + 180}[storage]}
    assert pruner.state_dict()["score"] == {}


def test_an_update_that_waits_takes_the_gradient_of_its_own_step():
    model = network()
    optimizer = AdamWSpam(model.parameters(), 1e-2, spam=Spam(interval=30))
    pruner = Pruner(model, RigL(), Schedule.constant(0.9, 25, 90)).attach(optimizer)
    kinds = []
    for step in range(1, 95):
        kinds.append((step, pruner.step_kind()))
        train(model, optimizer, 1)
    # Steps 30, 60 and 90 begin with a reset; 75 is the 16th with its moments, and waits for the
    # 20th. The end of the ramp waits for nothing.
    assert [u["step"] for u in pruner.updates] == [0, 25, 50, 79, 90]
    assert [step for step, kind in kinds if kind is None] == [25, 50, *range(75, 80), 90]


def test_weights_laid_out_otherwise_and_of_other_types():
    for dtype in (torch.bfloat16, torch.float64):
        masks = []
        for layout in (torch.contiguous_format, torch.channels_last):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(64, 3))
            model = model.to(dtype=dtype, memory_format=layout)
            optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
            pruner = Pruner(model, RigL(), CUBIC, storage="bits").attach(optimizer)
            for step in range(50):
                generator = torch.Generator().manual_seed(step)
                for param in model.parameters():
                    gradient = torch.randn(param.shape, generator=generator).to(dtype)
                    param.grad = torch.empty_like(param).copy_(gradient)
                optimizer.step()
            pruner.verify()
            masks.append([pruner.masks.mask(name, {}) for name in pruner.weights])
        assert all(torch.equal(one, other) for one, other in zip(*masks, strict=True))
        assert not model[0].weight.is_contiguous()


# -- what is refused, and planted violations -------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_what_regrowth_does_not_go_with(method):
    model = network()
    with pytest.raises(ValueError, match="weights stay pruned"):
        Pruner(model, METHODS[method](), CUBIC, storage="implied")
    with pytest.raises(ValueError, match="break the fours"):
        Pruner(model, METHODS[method](), Schedule(0.5, 5, 4, 50), scope="2-4")


def trained(steps=30, storage="bool", schedule=CONSTANT, optimizer=AdamW):
    model = network()
    built = optimizer(model.parameters(), 1e-2)
    pruner = Pruner(model, RigL(), schedule, storage=storage).attach(built)
    train(model, built, steps)
    contract.verify(pruner)
    return model, built, pruner


@pytest.mark.parametrize("storage", ["bool", "bits"])
def test_a_pruned_weight_that_is_not_zero_is_caught(storage):
    model, optimizer, pruner = trained(storage=storage)
    mask = pruner.masks.mask("4.weight", {}).clone()
    with torch.no_grad():
        model[4].weight[mask.nonzero()[0][0], mask.nonzero()[0][1]] = 1e-9
    with pytest.raises(ContractViolation, match=r"1 pruned weights of 4\.weight are not zero"):
        pruner.verify()
    with pytest.raises(ContractViolation, match="after step 32"):
        train(model, optimizer, 5)


@pytest.mark.parametrize("state", ["exp_avg", "exp_avg_sq"])
def test_a_stale_momentum_is_caught(state):
    model, optimizer, pruner = trained()
    mask = pruner.masks.mask("4.weight", {})
    optimizer.state[model[4].weight][state][mask] = 1.0
    with pytest.raises(ContractViolation, match=r"\d+ moments of pruned weights of 4\.weight"):
        pruner.verify()


def test_a_mask_of_another_number_is_caught():
    _, _, pruner = trained()
    mask = pruner.masks.stored["4.weight"].view(-1)
    mask[mask.nonzero()[0]] = False
    with pytest.raises(ContractViolation, match="1327 of 1476 weights are pruned, not 1328"):
        pruner.verify()


def test_an_update_that_leaves_another_number_is_caught(monkeypatch):
    scope = SCOPES["global"]
    leave = scope.leave
    monkeypatch.setattr(scope, "leave", lambda self, s, k, pruned: leave(self, s, k - 1, pruned))
    model = network()
    with pytest.raises(
        ContractViolation, match="after step 0: 1327 of 1476 weights are pruned, not 1328"
    ):
        Pruner(model, RigL(), CONSTANT).attach(AdamW(model.parameters()))


def test_gradients_that_become_nan_stop_the_run():
    model, optimizer, _ = trained(steps=31)
    for param in model.parameters():
        param.grad = torch.full_like(param, math.nan)
    with pytest.raises(ValueError, match=r"weight: \d+ of \d+ scores are NaN"):
        optimizer.step()
