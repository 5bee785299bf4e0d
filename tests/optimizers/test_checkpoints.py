"""State dicts: of torch's own optimizers, old and new, and through torch.distributed.checkpoint."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from adamwprune.optimizers import SGD, AdamW, AdamWPrune
from tests.optimizers.conftest import (
    CASES,
    OURS_AND_TORCHS,
    assert_close,
    network,
    same_bits,
    train,
)


@pytest.fixture(params=sorted(CASES))
def case(request):
    """Builds an optimizer over parameters."""
    return CASES[request.param]


# -- through torch.distributed.checkpoint ----------------------------------------------------


def in_memory(options, model, optimizer, twin, restored, folder):
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=options))
    set_optimizer_state_dict(twin, restored, saved, options=options)


def on_disk(options, model, optimizer, twin, restored, folder):
    dcp.save(get_optimizer_state_dict(model, optimizer, options=options), checkpoint_id=folder)
    loaded = get_optimizer_state_dict(twin, restored, options=options)
    dcp.load(loaded, checkpoint_id=folder)
    set_optimizer_state_dict(twin, restored, loaded, options=options)


WAYS = {
    "plain": StateDictOptions(),
    "flat": StateDictOptions(flatten_optimizer_state_dict=True),
    "full": StateDictOptions(full_state_dict=True, cpu_offload=True),
}


@pytest.mark.filterwarnings("ignore")  # torch's own, of a process without a group
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("through", [in_memory, on_disk])
@pytest.mark.parametrize(
    "name", ["sgd", "adamwprune", "adamwspam-clip", "adamwspam-stable", "lion"]
)
@pytest.mark.slow
def test_a_distributed_checkpoint_keeps_all(name, through, way, tmp_path):
    """Steps, windows and counters too: after 20 of 60 steps, before a reset and a spike."""

    def build(model):
        return CASES[name]([{"params": list(model[n].parameters())} for n in (0, 2)])

    model, twin = network(torch.float32), network(torch.float32)
    optimizer, restored = build(model), build(twin)
    train(model, optimizer, 20)
    twin.load_state_dict(model.state_dict())
    through(WAYS[way], model, optimizer, twin, restored, tmp_path)
    assert restored.steps == optimizer.steps == 20
    train(model, optimizer, 40, first=20)
    train(twin, restored, 40, first=20)
    assert same_bits(model, twin)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda state: state])
def test_nothing_is_shared_with_a_plain_state_dict_but_states(copied):
    model = network()
    optimizer = AdamWPrune(model.parameters())
    train(model, optimizer, 20)
    twin = network()
    restored = AdamWPrune(twin.parameters())
    restored.load_state_dict(copied(optimizer.state_dict()))
    train(twin, restored, 3, first=20)
    assert (optimizer.steps, restored.steps) == (20, 23)
    assert (optimizer._window.count, restored._window.count) == (20, 23)


def test_groups_may_be_replaced(case):
    """As tools for fine-tuning do; counting begins anew."""
    model = network()
    optimizer = case(model.parameters())
    train(model, optimizer, 12)
    optimizer.param_groups.clear()
    optimizer.state.clear()
    optimizer.add_param_group({"params": list(model[2].parameters())})
    train(model, optimizer, 3, first=12)
    assert optimizer.steps == 3


# -- of torch's own, of any age --------------------------------------------------------------


def step_is_a_float(saved):
    for state in saved["state"].values():
        if "step" in state:
            state["step"] = float(state["step"])


def step_is_an_int(saved):
    for state in saved["state"].values():
        if "step" in state:
            state["step"] = int(state["step"])


def without(*names):
    def forget(saved):
        for group in saved["param_groups"]:
            for name in names:
                group.pop(name, None)

    return forget


OLD = {
    "as it is": lambda saved: None,
    "step is a float": step_is_a_float,
    "step is an int": step_is_an_int,
    "no decoupled_weight_decay": without("decoupled_weight_decay"),
    "no maximize": without("maximize", "foreach", "capturable", "differentiable", "fused"),
    "no nesterov": without("nesterov"),
}


@pytest.mark.parametrize("age", OLD)
@pytest.mark.parametrize(("ours", "theirs", "settings"), OURS_AND_TORCHS)
@pytest.mark.parametrize("fused", [True, False])
def test_torchs_checkpoints_go_on_to_the_same_numbers(ours, theirs, settings, age, fused):
    a, b = network(torch.float32), network(torch.float32)
    before = theirs(a.parameters(), fused=fused, **settings)
    train(a, before, 20)
    b.load_state_dict(a.state_dict())
    saved = copy.deepcopy(before.state_dict())
    OLD[age](saved)
    after = ours(b.parameters())
    after.load_state_dict(saved)
    train(a, before, 20, first=20)
    train(b, after, 20, first=20)
    assert same_bits(a, b) if fused else assert_close(a, b, 1e-4) is None
    assert after.steps == (20 if ours is SGD else 40)  # torch's SGD counts none


def test_an_old_checkpoint_without_amsgrad_has_none():
    model = network()
    optimizer = AdamWPrune(model.parameters())
    saved = torch.optim.AdamW(model.parameters()).state_dict()
    without("amsgrad")(saved)
    optimizer.load_state_dict(saved)
    train(model, optimizer, 1)
    assert "max_exp_avg_sq" not in optimizer.state[model[0].weight]


def test_torchs_nesterov_and_dampening_are_taken_over():
    for settings in ({"nesterov": True}, {"dampening": 0.5}):
        a, b = network(torch.float32), network(torch.float32)
        before = torch.optim.SGD(a.parameters(), 0.01, 0.9, fused=True, **settings)
        train(a, before, 10)
        b.load_state_dict(a.state_dict())
        after = SGD(b.parameters())
        after.load_state_dict(copy.deepcopy(before.state_dict()))
        train(a, before, 10, first=10)
        train(b, after, 10, first=10)
        assert same_bits(a, b)


def test_a_checkpoint_of_ours_loads_in_torchs():
    a, b = network(torch.float32), network(torch.float32)
    before = AdamW(a.parameters())
    train(a, before, 20)
    b.load_state_dict(a.state_dict())
    after = torch.optim.AdamW(b.parameters(), fused=True)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    after.param_groups[0]["fused"] = True
    train(a, before, 20, first=20)
    train(b, after, 20, first=20)
    assert same_bits(a, b)


FOREIGN = [
    (AdamW, torch.optim.SGD, "AdamW cannot .*: parameter group 0 has no betas and eps"),
    (AdamW, torch.optim.Adamax, "parameter 0 has no exp_avg_sq, but step, exp_avg and exp_inf"),
    (AdamW, torch.optim.Adagrad, "parameter group 0 has no betas"),
    (SGD, torch.optim.AdamW, "SGD cannot .*: parameter group 0 has no momentum and dampening"),
    (SGD, torch.optim.RMSprop, "parameter group 0 has no dampening"),
]


@pytest.mark.parametrize(("ours", "theirs", "told"), FOREIGN)
def test_another_optimizers_checkpoint_is_refused_by_what_is_missing(ours, theirs, told):
    model = network()
    other = theirs(model.parameters())
    train(model, other, 2)
    optimizer = ours(model.parameters())
    train(model, optimizer, 2)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=told):
        optimizer.load_state_dict(other.state_dict())
    assert str(optimizer.state_dict()) == str(before), "a refusal changes nothing"


def test_states_of_another_shape_are_refused():
    model, wider = network(), nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)).double()
    before = AdamW(wider.parameters())
    train(wider, before, 2)
    told = r"parameter 0 has shape \[8, 6\], its exp_avg \[9, 6\]"
    with pytest.raises(ValueError, match=told):
        AdamW(model.parameters()).load_state_dict(before.state_dict())
