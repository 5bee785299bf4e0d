"""Packed states: the numbers of a run whose masks are bool, in less memory."""

from __future__ import annotations

import copy
import math
import pickle
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from adamwprune.optimizers import SGD, Adam, AdamW
from adamwprune.pruning import (
    Magnitude,
    Movement,
    NotANumber,
    Pruner,
    Schedule,
    State,
)
from adamwprune.pruning.live import LANES, Live
from adamwprune.pruning.select.parts import Part
from tests.pruning.networks import MONOTONE, RAMP

STATES = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")


def network(layout=torch.contiguous_format):
    """Sizes that do not divide by what a kernel takes at once."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 20, 3, padding=1), nn.ReLU(), nn.Conv2d(20, 31, 3, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(31 * 9, 150), nn.ReLU(), nn.Linear(150, 10)),
    )
    return model.to(memory_format=layout)


class Run:
    """A network in training; steps go on from where they were."""

    def __init__(self, storage, score, optimizer, schedule=RAMP, *, scope="global", layout=None):
        self.layout = layout or torch.contiguous_format
        self.model = network(self.layout)
        self.optimizer = optimizer(self.model.parameters())
        self.pruner = Pruner(self.model, score(), schedule, scope, storage)
        self.pruner.attach(self.optimizer)

    def steps(self, first, last):
        for step in range(first, last + 1):
            generator = torch.Generator().manual_seed(step)
            images = torch.randn(16, 3, 8, 8, generator=generator)
            labels = torch.randint(10, (16,), generator=generator)
            self.optimizer.zero_grad()
            found = self.model(images.to(memory_format=self.layout))
            nn.functional.cross_entropy(found, labels).backward()
            self.optimizer.step()
        return self

    def weights(self):
        return [param.detach() for param in self.model.parameters()]

    def masks(self):
        p = self.pruner
        return [p.masks.mask(name, p.states(name)) for name in p.weights]

    def bytes_of_states(self):
        tensors = (v for s in self.optimizer.state.values() for k, v in s.items() if k in STATES)
        return sum(tensor.nbytes for tensor in tensors)


def assert_same(one, other):
    for mine, theirs in zip(one.weights(), other.weights(), strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(one.masks(), other.masks(), strict=True):
        assert torch.equal(mine, theirs)
    mine, theirs = one.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"]
    assert {n: set(s) for n, s in mine.items()} == {n: set(s) for n, s in theirs.items()}
    for number, states in mine.items():
        for name, value in states.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(theirs[number][name])), name


OPTIMIZERS = {
    "adamw": partial(AdamW, lr=1e-3),
    "amsgrad": partial(AdamW, lr=1e-3, amsgrad=True),
    "adam-decay": partial(Adam, lr=1e-3, weight_decay=0.1),
    "sgd": partial(SGD, lr=0.05, momentum=0.9),
    "torch-adamw": partial(torch.optim.AdamW, lr=1e-3),
    "torch-fused": partial(torch.optim.AdamW, lr=1e-3, fused=True),
    "torch-foreach": partial(torch.optim.Adam, lr=1e-3, foreach=True, weight_decay=0.1),
    "torch-sgd": partial(torch.optim.SGD, lr=0.05, momentum=0.9),
    "torch-nesterov": partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
}


# -- the same numbers ------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_every_optimizer_has_the_bits_of_a_bool_mask(name, layout):
    score = Magnitude if "sgd" in name or "nesterov" in name else State
    runs = [
        Run(storage, score, OPTIMIZERS[name], layout=layout).steps(1, 40)
        for storage in ("bool", "packed")
    ]
    assert_same(*runs)
    runs[1].pruner.verify()
    assert runs[1].bytes_of_states() < 0.13 * runs[0].bytes_of_states()


@pytest.mark.parametrize("name", MONOTONE)
@pytest.mark.parametrize("scope", ["global", "layer", "erk"])
def test_every_method_has_the_bits_of_a_bool_mask(name, scope):
    score, schedule = MONOTONE[name]
    one, other = (
        Run(storage, score, OPTIMIZERS["adamw"], schedule, scope=scope).steps(1, 40)
        for storage in ("bool", "packed")
    )
    assert_same(one, other)
    assert one.pruner.record() == other.pruner.record()


def test_two_of_four_too():
    schedule = Schedule(0.5, 5, 5, 30)
    one, other = (
        Run(storage, Magnitude, OPTIMIZERS["adamw"], schedule, scope="2-4").steps(1, 40)
        for storage in ("bool", "packed")
    )
    assert_same(one, other)
    assert 0 < other.bytes_of_states() < one.bytes_of_states(), "where inputs divide by 4"


def small(storage, dtype=torch.float32, *, schedule=RAMP, steps=40, **options):
    """Two layers of sizes that no kernel likes, after so many steps; the pruner too."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(37, 53), nn.Tanh(), nn.Linear(53, 11)).to(dtype)
    optimizer = AdamW(model.parameters(), **options)
    pruner = Pruner(model, Magnitude(), schedule, storage=storage).attach(optimizer)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 37, generator=generator).to(dtype)).square().sum().backward()
        optimizer.step()
    return [param.detach() for param in model.parameters()], pruner


def test_a_norm_over_all_weights_rounds_otherwise_and_no_more():
    """Over 1,000 steps, clipped in each: to 1e-6 of the largest weight, while a mask stays."""
    fixed = Schedule.constant(0.9, interval=2000, end=2000)
    clipped = {"lr": 1e-4, "max_grad_norm": 0.5, "schedule": fixed, "steps": 1000}
    (one, first), (other, second) = (small(storage, **clipped) for storage in ("bool", "packed"))
    for mine, theirs in zip(one, other, strict=True):
        assert (mine - theirs).abs().max() <= 1e-6 * mine.abs().max()
    for name in first.weights:
        assert torch.equal(first.masks.mask(name, {}), second.masks.mask(name, {}))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_number_formats(dtype):
    one, other = (small(storage, dtype, lr=1e-2)[0] for storage in ("bool", "packed"))
    assert all(map(torch.equal, one, other))


# -- saved and loaded ------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["bool", "packed"])
@pytest.mark.parametrize("stopped", [3, 12, 35])
def test_a_resumed_run_has_the_bits_of_one_that_was_not(first, stopped):
    """Also where the masks were bool until then: a checkpoint has them, and whole states."""
    whole = Run("packed", State, OPTIMIZERS["amsgrad"]).steps(1, 40)
    before = Run("packed", State, OPTIMIZERS["amsgrad"]).steps(1, stopped)
    after = Run("packed", State, OPTIMIZERS["amsgrad"])
    after.model.load_state_dict(before.model.state_dict())
    after.optimizer.load_state_dict(copy.deepcopy(before.optimizer.state_dict()))
    held = before.bytes_of_states()
    after.steps(stopped + 1, 40)
    assert_same(whole, after)
    assert before.bytes_of_states() == held, "saving unpacks a copy"
    assert after.bytes_of_states() == whole.bytes_of_states()


def test_a_packed_checkpoint_is_a_dense_optimizers_and_the_other_way_round():
    run = Run("packed", State, OPTIMIZERS["torch-adamw"]).steps(1, 35)
    dense = network()
    dense.load_state_dict(run.model.state_dict())
    plain = torch.optim.AdamW(dense.parameters(), lr=1e-3)
    plain.load_state_dict(copy.deepcopy(run.optimizer.state_dict()))
    for weight, param in zip(dense.parameters(), run.model.parameters(), strict=True):
        assert plain.state[weight]["exp_avg"].shape == weight.shape == param.shape
    # And back: it has the pruner's state with it, which goes on under one of the same settings.
    again = copy.copy(run)
    again.model, again.optimizer = dense, plain
    again.pruner = Pruner(dense, State(), RAMP, storage="packed").attach(plain)
    assert_same(run.steps(36, 40), again.steps(36, 40))
    again.pruner.verify()
    assert again.bytes_of_states() == run.bytes_of_states()


def test_detaching_leaves_whole_states():
    run, other = (Run(s, State, OPTIMIZERS["adamw"]).steps(1, 35) for s in ("packed", "bool"))
    run.pruner.detach()
    other.pruner.detach()
    assert run.bytes_of_states() == other.bytes_of_states()
    assert_same(run.steps(36, 40), other.steps(36, 40))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_has_whole_states(copied):
    """The copy of an optimizer has no pruner."""
    run, other = (Run(s, State, OPTIMIZERS["adamw"]).steps(1, 35) for s in ("packed", "bool"))
    held = run.bytes_of_states()
    for each in (run, other):
        each.model, each.optimizer = copied((each.model, each.optimizer))
    assert held < run.bytes_of_states() == other.bytes_of_states()
    run.steps(36, 40)
    other.steps(36, 40)
    assert all(map(torch.equal, run.weights(), other.weights()))


@pytest.mark.parametrize("name", ["amsgrad", "torch-fused", "torch-sgd"])
@pytest.mark.parametrize("stopped", [3, 35])
def test_a_copy_of_all_three_prunes_on(name, stopped):
    run = Run("packed", Magnitude, OPTIMIZERS[name]).steps(1, stopped)
    copied = copy.deepcopy(run)
    assert_same(run.steps(stopped + 1, 40), copied.steps(stopped + 1, 40))
    copied.pruner.verify()
    assert copied.bytes_of_states() == run.bytes_of_states()


def test_a_distributed_checkpoint_goes_on():
    run = Run("packed", State, OPTIMIZERS["adamw"]).steps(1, 35)
    saved = copy.deepcopy(get_optimizer_state_dict(run.model, run.optimizer))
    other = Run("packed", State, OPTIMIZERS["adamw"])
    other.model.load_state_dict(run.model.state_dict())
    set_optimizer_state_dict(other.model, other.optimizer, saved)
    assert_same(run.steps(36, 40), other.steps(36, 40))


def test_clipping_before_the_step_counts_what_is_trained():
    norms = []
    for storage in ("bool", "packed"):
        run = Run(storage, State, OPTIMIZERS["adamw"]).steps(1, 35)
        run.optimizer.zero_grad()
        run.model(torch.ones(2, 3, 8, 8)).sum().backward()
        norms.append(run.pruner.clip_grad_norm_(0.1).item())
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_a_layer_that_is_used_later_and_one_of_no_weights():
    first, empty, later = nn.Linear(16, 16), nn.Linear(0, 4), nn.Linear(16, 16)
    model = nn.ModuleList([first, empty, later])
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = Schedule(0.9, warmup=1, interval=1, ramp_end=4)
    pruner = Pruner(model, Magnitude(), schedule, storage="packed").attach(optimizer)
    for step in range(12):
        optimizer.zero_grad()
        found = first(torch.randn(3, 16))
        (later(found) if step > 6 else found).sum().backward()
        optimizer.step()
    pruner.verify()
    kept = [optimizer.state[layer.weight]["exp_avg"].shape for layer in (first, later)]
    assert all(shape[0] == 1 and shape[1] < 256 for shape in kept)


def test_a_closure_and_a_grad_scaler():
    schedule = Schedule(0.9, warmup=1, interval=1, ramp_end=4)
    for with_closure in (True, False):
        model, scaler = nn.Linear(32, 32), torch.amp.GradScaler("cpu")
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        pruner = Pruner(model, Magnitude(), schedule, storage="packed").attach(optimizer)

        def loss(model=model, optimizer=optimizer):
            optimizer.zero_grad()
            return model(torch.ones(3, 32)).square().sum()

        def closure(loss=loss):
            found = loss()
            found.backward()
            return found

        for _ in range(8):
            if with_closure:
                optimizer.step(closure)
            else:
                scaler.scale(loss()).backward()
                scaler.step(optimizer)
                scaler.update()
        pruner.verify()


def test_a_gradient_that_is_nan_is_named():
    run = Run("packed", State, OPTIMIZERS["adamw"]).steps(1, 20)
    for param in run.model.parameters():
        param.grad = torch.full_like(param, math.nan)
    run.optimizer.step()
    with pytest.raises(NotANumber, match=r"0\.weight: \d+ of 540 weights are NaN"):
        run.steps(21, 26)


def test_two_pruners_share_an_optimizer():
    models = [network(), network()]
    optimizer = AdamW([p for model in models for p in model.parameters()], lr=1e-3)
    pruners = [Pruner(m, State(), RAMP, storage="packed").attach(optimizer) for m in models]
    for step in range(1, 33):
        images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        sum(model(images).square().mean() for model in models).backward()
        optimizer.step()
    for mine, theirs in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(mine, theirs)
    pruners[0].detach()
    pruners[1].verify()
    twin = copy.deepcopy(optimizer)
    assert {v.shape for s in twin.state.values() for k, v in s.items() if k in STATES} == {
        p.shape for p in models[0].parameters()
    }


def test_a_step_that_raises_leaves_weights_in_the_groups(monkeypatch):
    run = Run("packed", State, OPTIMIZERS["torch-adamw"]).steps(1, 35)
    before = [group["params"][:] for group in run.optimizer.param_groups]

    def fail(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(type(run.optimizer), "_init_group", fail)
        with pytest.raises(MemoryError):
            run.steps(36, 36)
    run.optimizer.state_dict()
    for group, params in zip(run.optimizer.param_groups, before, strict=True):
        assert all(one is other for one, other in zip(group["params"], params, strict=True))
    run.steps(36, 40)
    run.pruner.verify()


# -- bytes -----------------------------------------------------------------------------------


def bytes_a_weight(target, optimizer):
    """Weight, gradient, states and index, a prunable weight of a layer of a million."""
    model = nn.Linear(1000, 1000, bias=False)
    optimizer = optimizer(model.parameters())
    schedule = Schedule(target, warmup=0, interval=1, ramp_end=2)
    pruner = Pruner(model, Magnitude(), schedule, storage="packed").attach(optimizer)
    for _ in range(3):
        model(torch.randn(2, 1000)).square().sum().backward()
        gradient = model.weight.grad.nbytes
        optimizer.step()
    states = sum(v.nbytes for k, v in optimizer.state[model.weight].items() if k in STATES)
    index = sum(tensor.nbytes for tensor in pruner.buffers()["masks"])
    return (model.weight.nbytes + gradient + states + index) / 1e6


@pytest.mark.parametrize(
    ("name", "at_90", "at_95"),
    [("adamw", 9.2, 8.6), ("amsgrad", 9.6, 8.8), ("sgd", 8.8, 8.4)],
)
def test_bytes_a_prunable_weight(name, at_90, at_95):
    assert bytes_a_weight(0.9, OPTIMIZERS[name]) == pytest.approx(at_90, abs=1e-3)
    assert bytes_a_weight(0.95, OPTIMIZERS[name]) == pytest.approx(at_95, abs=1e-3)


def test_a_layer_that_is_more_than_half_live_has_bits_and_whole_states():
    assert bytes_a_weight(0.4, OPTIMIZERS["adamw"]) == pytest.approx(16 + 1 / 8, abs=1e-3)
    assert bytes_a_weight(0.5, OPTIMIZERS["adamw"]) == pytest.approx(8 + 4 + 2, abs=1e-3)


# -- the index -------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=70),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_gathering_is_undone_by_expanding(pruned, dtype):
    mask = torch.tensor(pruned)
    weight = torch.arange(1, 1 + mask.numel()).to(dtype)
    live = Live(weight, mask)
    vector = live.gather(weight)
    assert vector.shape == live.shape != weight.shape
    assert vector.count_nonzero() == (~mask).sum()
    assert torch.equal(live.expand(vector), weight.masked_fill(mask, 0))
    assert torch.equal(live.mask(), mask)
    middle = Part(mask.numel() // 3, mask.numel())
    assert torch.equal(live.mask_part(middle), mask[middle.start :])
    lanes = LANES // weight.element_size()
    rest = mask.numel() % lanes
    in_rest = (~mask[mask.numel() - rest :]).sum() if rest else 0
    assert (vector.numel() - in_rest) % lanes == 0, "the rest of one is that of the other"


def test_the_index_follows_the_memory_of_a_channels_last_weight():
    weight = torch.randn(5, 4, 3, 3).to(memory_format=torch.channels_last)
    mask = torch.rand_like(weight) < 0.7
    live = Live(weight, mask)
    stored = weight.permute(0, 2, 3, 1).reshape(-1)
    assert torch.equal(stored[live.index.long()], live.gather(weight)[live.gather(weight) != 0])
    assert torch.equal(live.mask(), mask)
    assert live.expand(live.gather(weight)).stride() == weight.stride()


# -- what is refused -------------------------------------------------------------------------


def test_a_method_whose_pruned_weights_return_is_refused():
    with pytest.raises(ValueError, match="return with their values and states"):
        Run("packed", Movement, OPTIMIZERS["adamw"])


def test_an_optimizer_that_looks_beyond_a_number_is_refused():
    with pytest.raises(ValueError, match="Adafactor is not known to"):
        Run("packed", Magnitude, torch.optim.Adafactor)


def test_a_second_pruner_is_refused():
    run = Run("packed", State, OPTIMIZERS["adamw"])
    with pytest.raises(ValueError, match=r"0\.weight is another pruner's"):
        Pruner(run.model, Magnitude(), RAMP, storage="packed").attach(run.optimizer)


def test_a_weight_with_gaps_is_refused():
    model = nn.Linear(8, 8)
    model.weight = nn.Parameter(torch.randn(8, 16)[:, ::2])
    optimizer = AdamW(model.parameters())
    with pytest.raises(ValueError, match="weight has gaps in memory"):
        Pruner(model, Magnitude(), RAMP, storage="packed").attach(optimizer)


def test_a_checkpoint_of_another_sparsity_is_refused():
    run = Run("packed", State, OPTIMIZERS["adamw"]).steps(1, 12)
    other = Run("packed", State, OPTIMIZERS["adamw"], Schedule(0.8, 5, 5, 30))
    with pytest.raises(ValueError, match=r"target.*0\.9.*0\.8"):
        other.optimizer.load_state_dict(run.optimizer.state_dict())
    assert not math.isnan(other.steps(1, 3).weights()[0].sum().item())
