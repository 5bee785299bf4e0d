"""Data-parallel training in anybody's loop: the same masks on every rank, and the run of one."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from adamwprune.optimizers import AdamW
from adamwprune.pruning import Magnitude, Movement, MovementSeed, Pruner, Schedule
from adamwprune.pruning.ranks import RanksDiffer, digest, ranks_of
from adamwprune.pruning.score import Score
from adamwprune.pruning.select.parts import Part
from tests.pruning.networks import MONOTONE, RAMP
from tests.pruning.wanda import Wanda
from tests.support.ranks import in_ranks

pytestmark = pytest.mark.slow

METHODS = {
    **MONOTONE,
    "movement": (Movement, RAMP),
    "movement-seed": (MovementSeed, RAMP),
    "wanda": (Wanda, RAMP),
}
STORAGES = {"state": ("bool", "packed", "implied")}
STEPS = 34
BATCH = 12


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 40), nn.ReLU(),
        nn.Linear(40, 10),
    )  # fmt: skip


def trained(method, storage, ranks, rank, *, first=0, until=STEPS, state=None):
    """A network after these steps on batches of which each rank has its share."""
    score, schedule = METHODS[method]
    plain = network()
    model = DistributedDataParallel(plain) if ranks > 1 else plain
    optimizer = AdamW(plain.parameters(), lr=1e-3)
    pruner = Pruner(model, score(), schedule, storage=storage).attach(optimizer)
    if state is not None:
        plain.load_state_dict(state["model"])
        optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # or it trains on in these
    for step in range(first, until):
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(BATCH, 1, 8, 8, generator=generator)
        labels = torch.randint(10, (BATCH,), generator=generator)
        images, labels = images.chunk(ranks)[rank], labels.chunk(ranks)[rank]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    if until == STEPS:
        pruner.verify()
    return plain, pruner


def cases():
    return [(method, storage) for method in METHODS for storage in STORAGES.get(method, ("bool",))]


def every_method(ranks, rank):
    found = {}
    for method, storage in cases():
        model, pruner = trained(method, storage, ranks, rank)
        weights = {n: p.detach() for n, p in model.named_parameters()}
        found[method, storage] = (weights, pruner.k, pruner.zeros())
    return found


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_train_the_run_of_one(tmp_path, ranks):
    """Each method: the same weights to the bit on all ranks, to rounding those of one process."""
    alone = every_method(1, 0)
    found = in_ranks(every_method, ranks, tmp_path)
    for case in cases():
        weights, k, zeros = found[0][case]
        for other, _, _ in (each[case] for each in found[1:]):
            assert all(torch.equal(weights[n], other[n]) for n in weights), case
        expected, wanted, _ = alone[case]
        assert k == wanted
        assert zeros >= k
        same = sum(int(((weights[n] == 0) == (expected[n] == 0)).sum()) for n in weights)
        numel = sum(each.numel() for each in weights.values())
        assert same >= 0.999 * numel, case  # scores that are equal but for rounding
        apart = max(float((weights[n] - expected[n]).abs().max()) for n in weights)
        assert apart < 5e-3 if same < numel else apart < 1e-4, (case, apart)


def apart(ranks, rank, sharing):
    """The ranks forget to average their gradients."""
    model = network()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    pruner = Pruner(model, Magnitude(), RAMP, group=dist.group.WORLD).attach(optimizer)
    for step in range(STEPS):
        torch.manual_seed(step if sharing else 100 * rank + step)
        nn.functional.cross_entropy(
            model(torch.randn(4, 1, 8, 8)), torch.randint(10, (4,))
        ).backward()
        try:
            optimizer.step()
        except RanksDiffer as error:
            return step + 1, str(error)
    return len(pruner.updates), ""


def test_ranks_that_are_not_equal_say_so_at_the_first_update(tmp_path):
    found = in_ranks(apart, 2, tmp_path / "apart", False)
    assert found[0] == found[1]
    step, told = found[0]
    assert step == RAMP.warmup + RAMP.interval
    assert told.startswith("after step 10: the masks of 0.weight differ between rank 0 and rank 1;")
    assert in_ranks(apart, 2, tmp_path / "equal", True) == [(5, ""), (5, "")]


def unequal(ranks, rank, kind):
    model = DistributedDataParallel(network())
    optimizer = AdamW(model.parameters(), lr=1e-3)
    schedule = Schedule(0.5, 5, 5 + (rank if kind == "interval" else 0), 20)
    left = ["0.weight"] if kind == "weights" and rank else []
    with pytest.raises(ValueError, match="rank 1 has another pruner than rank 0") as error:
        Pruner(model, Magnitude(), schedule, exclude=left).attach(optimizer)
    return str(error.value)


def test_ranks_that_would_wait_for_each_other_for_ever_are_refused(tmp_path):
    """Updates at other steps, or digests of other layers, are collective calls that do not fit."""
    found = in_ranks(unequal, 2, tmp_path / "interval", "interval")
    assert found == 2 * [
        "rank 1 has another pruner than rank 0: schedule is {'interval': 6} there and "
        "{'interval': 5} on rank 0"
    ]
    one, other = in_ranks(unequal, 2, tmp_path / "weights", "weights")
    assert one == other
    assert "weights is {} there and {'0.weight': [6, 1, 3, 3]} on rank 0" in one


@example(530, "mask")  # the first of all weights
@given(st.integers(0, 2**31), st.sampled_from(["weight", "swap", "mask"]))
def test_a_digest_tells_any_two_layers_apart(seed, change):
    generator = torch.Generator().manual_seed(seed)
    rows = int(torch.randint(1, 40, (), generator=generator))
    layer = nn.Linear(7, rows, bias=False)
    pruner = Pruner(layer, Magnitude(), RAMP)
    weight = layer.weight.data.copy_(torch.randn(rows, 7, generator=generator))
    pruner.k = 1
    before = digest(pruner, "weight")
    assert torch.equal(before, digest(pruner, "weight"))
    at, other = (int(i) for i in torch.randperm(weight.numel(), generator=generator)[:2])
    flat, bits = weight.view(-1), weight.view(-1).view(torch.int32)
    if change == "weight":
        bits[at] ^= 1  # the last bit of one number
    elif change == "swap":
        flat[[at, other]] = flat[[other, at]]
    else:
        pruner.masks.put("weight", Part(at, at + 1), torch.tensor([True]))
    after = digest(pruner, "weight")
    assert (before != after).tolist() == [change == "mask", change != "mask"]


def test_a_score_that_cannot_add_up_what_ranks_read_is_refused():
    class Reads(Score):
        def observe_input(self, weight, layer, given):
            pass

    with pytest.raises(ValueError, match=r"Reads observes inputs, .* it needs sums_over_examples"):
        ranks_of(network(), object(), Reads())


def stopped_and_resumed(ranks, rank, of_before):
    """Half of a run, and the other half from its checkpoint, on as many or other ranks."""
    found = {}
    for method in ("state", "wanda", "movement"):
        model, pruner = trained(method, "bool", ranks, rank, until=12)
        if of_before is None:
            whole, _ = trained(method, "bool", ranks, rank)
            state = {"model": model.state_dict(), "optimizer": pruner.optimizer.state_dict()}
        else:
            whole, state = None, of_before[method][1]
        again, pruner = trained(method, "bool", ranks, rank, state=state, first=12)
        found[method] = ({n: p.detach() for n, p in again.named_parameters()}, state, pruner.k)
        if whole is not None:
            assert all(
                torch.equal(one, other)
                for one, other in zip(whole.parameters(), again.parameters(), strict=True)
            ), method
    return found


def test_a_checkpoint_goes_on_on_as_many_ranks_to_the_bit_and_on_others_to_rounding(tmp_path):
    two = in_ranks(stopped_and_resumed, 2, tmp_path / "two", None)[0]
    four = in_ranks(stopped_and_resumed, 4, tmp_path / "four", two)
    for method, (weights, _, k) in two.items():
        for each in four:
            found, _, other = each[method]
            assert other == k
            for name, weight in weights.items():
                close = torch.isclose(found[name], weight, atol=1e-4)
                assert float(close.float().mean()) > 0.995, (method, name)
