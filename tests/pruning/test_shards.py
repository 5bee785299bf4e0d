"""Weights of which each rank holds rows (FSDP2): the masks are those of one process."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from adamwprune.optimizers import AdamW
from adamwprune.pruning import Magnitude, Movement, NotANumber, Pruner, Random, Schedule, State
from tests.pruning.networks import RAMP
from tests.support.ranks import in_ranks

pytestmark = pytest.mark.slow

OPTIMIZERS = {
    "ours": lambda params: AdamW(params, lr=1e-3, max_grad_norm=1.0),
    "torch": lambda params: torch.optim.AdamW(params, lr=1e-3),
    "fused": lambda params: torch.optim.AdamW(params, lr=1e-3, fused=True),
}
CASES = {
    "state": (State, "ours", "global", {}),
    "torch": (State, "torch", "global", {}),
    "fused": (Magnitude, "fused", "global", {}),
    "layer": (Magnitude, "ours", "layer", {}),
    "erk": (State, "torch", "erk", {}),
    "floor": (Magnitude, "torch", "global", {"floor": 15}),
}


def network():
    """Rows that do not divide by four, and fewer rows in the last layer than there are ranks."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(16, 21), nn.ReLU(), nn.Linear(21, 10), nn.ReLU(), nn.Linear(10, 3)
    )


def sharded(model, ranks):
    if ranks > 1:
        mesh = init_device_mesh("cpu", (ranks,))
        for layer in model:
            if isinstance(layer, nn.Linear):
                fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    return model


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def steps(model, optimizer, ranks, rank, first, last):
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(8, 16, generator=generator).chunk(ranks)[rank]
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()


def made(case, ranks):
    score, optimizer, scope, options = CASES[case]
    model = sharded(network(), ranks)
    optimizer = OPTIMIZERS[optimizer](model.parameters())
    pruner = Pruner(model, score(), RAMP, scope, "implied", **options).attach(optimizer)
    return model, optimizer, pruner


def every_case(ranks, rank):
    found = {}
    for case in CASES:
        model, optimizer, pruner = made(case, ranks)
        steps(model, optimizer, ranks, rank, 0, 34)
        pruner.verify()
        weights = {n: whole(p).detach().clone() for n, p in model.named_parameters()}
        found[case] = (weights, pruner.k, pruner.zeros(), pruner.layers(), pruner.record())
    return found


@pytest.mark.parametrize("ranks", [2, 4])
def test_sharded_weights_are_pruned_as_whole_ones(tmp_path, ranks):
    alone = every_case(1, 0)
    found = in_ranks(every_case, ranks, tmp_path / "sharded")
    for case in CASES:
        expected, k, zeros, layers, record = alone[case]
        for weights, *counts in (each[case] for each in found):
            assert counts[:2] == [k, zeros], case
            assert counts[2] == layers, case
            assert counts[3]["updates"] == record["updates"], case
            assert sum(counts[3]["histogram"]["after"]) == sum(record["histogram"]["after"])
            for name, weight in weights.items():
                assert torch.equal(weight == 0, expected[name] == 0), (case, name)
                assert torch.allclose(weight, expected[name], atol=1e-5), (case, name)


def equal_scores(ranks, rank):
    """Weights of four values in each layer, pruned once by magnitude without having moved."""
    model = network()
    with torch.no_grad():
        for number, param in enumerate(model.parameters()):
            generator = torch.Generator().manual_seed(number)
            size = torch.randint(1, 3, param.shape, generator=generator) / 10
            param.copy_(size * (1 - 2 * torch.randint(2, param.shape, generator=generator)))
    model = sharded(model, ranks)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    pruner = Pruner(model, Magnitude(), Schedule.one_shot(0.3, 2), storage="implied")
    pruner.attach(optimizer)
    steps(model, optimizer, ranks, rank, 0, 3)
    pruner.verify()
    return {name: whole(param).detach() == 0 for name, param in model.named_parameters()}


def test_of_equal_scores_the_first_rows_are_pruned_on_whichever_rank(tmp_path):
    alone = equal_scores(1, 0)
    assert 0 < sum(int(mask.sum()) for mask in alone.values()) == round(0.3 * 576)
    for found in in_ranks(equal_scores, 4, tmp_path / "ties"):
        assert all(torch.equal(found[name], mask) for name, mask in alone.items())


def interrupted(ranks, rank):
    """Half of a run, its checkpoint (distributed and whole), and the other half from the former."""
    model, optimizer, pruner = made("state", ranks)
    steps(model, optimizer, ranks, rank, 0, 12)
    states = get_model_state_dict(model), get_optimizer_state_dict(model, optimizer)
    states = copy.deepcopy(states)  # or both runs would train in the same tensors
    as_one = StateDictOptions(full_state_dict=True, cpu_offload=True)
    full = (
        get_model_state_dict(model, options=as_one),
        get_optimizer_state_dict(model, optimizer, options=as_one),
    )
    other, again, resumed = made("state", ranks)
    set_model_state_dict(other, states[0])
    set_optimizer_state_dict(other, again, states[1])
    steps(model, optimizer, ranks, rank, 12, 34)
    steps(other, again, ranks, rank, 12, 34)
    assert all(
        torch.equal(whole(one), whole(two))
        for one, two in zip(model.parameters(), other.parameters(), strict=True)
    )
    assert resumed.updates == pruner.updates
    return full, pruner.updates


def test_a_checkpoint_goes_on_to_the_same_bits_and_on_one_process(tmp_path):
    (full, updates), *_ = in_ranks(interrupted, 2, tmp_path / "half")
    model, optimizer, pruner = made("state", 1)
    set_model_state_dict(model, full[0])
    set_optimizer_state_dict(model, optimizer, full[1])
    steps(model, optimizer, 1, 0, 12, 34)
    pruner.verify()
    assert pruner.updates == updates


def not_a_number(ranks, rank):
    model, optimizer, _ = made("torch", ranks)
    steps(model, optimizer, ranks, rank, 0, 8)
    if rank == 1:
        with torch.no_grad():
            model[0].weight.to_local()[0] = torch.nan
    with pytest.raises(NotANumber) as error:
        steps(model, optimizer, ranks, rank, 8, 34)
    return str(error.value)


def test_a_nan_on_one_rank_stops_all_of_them(tmp_path):
    found = in_ranks(not_a_number, 2, tmp_path / "nan")
    assert all("are NaN" in each for each in found)


def refused(ranks, rank):
    told = {}
    for name, score, options in (
        ("mask", Magnitude(), {"storage": "bool"}),
        ("movement", Movement(), {"storage": "bool"}),
        ("random", Random(), {"storage": "implied"}),
        ("2-4", Magnitude(), {"storage": "implied", "scope": "2-4"}),
    ):
        schedule = Schedule(0.5, 5, 5, 20)
        with pytest.raises(ValueError, match="sharded weights") as error:
            Pruner(sharded(network(), ranks), score, schedule, **options)
        told[name] = str(error.value)
    half = network()
    fully_shard(half[0], mesh=init_device_mesh("cpu", (ranks,)))
    with pytest.raises(ValueError, match=r"2\.weight is whole on each rank") as error:
        Pruner(half, Magnitude(), RAMP, storage="implied")
    return told


def test_what_needs_more_than_counts_is_refused(tmp_path):
    told, _ = in_ranks(refused, 2, tmp_path / "refused")
    assert (
        told["mask"]
        == told["movement"]
        == ("sharded weights need implied masks: storage='implied'")
    )
    assert told["random"].endswith("by weights and states alone, not Random")


def without_rows(ranks, rank, outputs):
    """The one prunable weight has fewer rows than there are ranks."""
    torch.manual_seed(0)
    model = nn.Linear(64, outputs)
    if ranks > 1:
        fully_shard(model, mesh=init_device_mesh("cpu", (ranks,)))
    optimizer = AdamW(model.parameters(), lr=1e-3)
    pruner = Pruner(model, Magnitude(), RAMP, storage="implied").attach(optimizer)
    for step in range(34):
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(8, 64, generator=generator).chunk(ranks)[rank]
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
    pruner.verify()
    found = pruner.record()
    return found["k"], found["zeros"], found["histogram"]


def test_a_rank_may_hold_no_weight_at_all(tmp_path):
    alone = without_rows(1, 0, 1)
    for found in in_ranks(without_rows, 2, tmp_path / "none", 1):
        assert found == alone


def zeroed(ranks, rank):
    """A rank's weights of one layer become zero with their states: more than its floor allows."""
    model = sharded(network(), ranks)
    optimizer = AdamW(model.parameters(), lr=1e-3)
    schedule = Schedule(0.5, 5, 5, 20)
    Pruner(model, Magnitude(), schedule, storage="implied", floor=100).attach(optimizer)
    steps(model, optimizer, ranks, rank, 0, 12)
    weight = model[0].weight
    if rank == 0:
        with torch.no_grad():
            for tensor in (weight, *optimizer.state[weight].values()):
                if hasattr(tensor, "to_local") and tensor.shape == weight.shape:
                    tensor.to_local().zero_()
    with pytest.raises(RuntimeError) as error:
        steps(model, optimizer, ranks, rank, 12, 34)
    return str(error.value)


def test_zeros_beyond_a_floor_are_counted_over_all_ranks(tmp_path):
    found = in_ranks(zeroed, 2, tmp_path / "zeroed")
    assert found[0] == found[1]
    assert "of 336 are zero, and 100 are to be kept" in found[0]
