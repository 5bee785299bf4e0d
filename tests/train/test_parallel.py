"""A run on several ranks is the run of one, but for rounding."""

from __future__ import annotations

import contextlib

import pytest
import torch
import torch.distributed as dist
from torch import nn

from adamwprune.base.errors import UserError
from adamwprune.train.loop import Training
from adamwprune.train.parallel import Parallel
from tests.support.ranks import in_ranks
from tests.support.runs import specs

pytestmark = pytest.mark.slow


class Stop(Exception):
    pass


class Until:
    """Stops a training after so many steps."""

    def __init__(self, step):
        self.step = step

    def stepped(self, training):
        if training.step == self.step:
            raise Stop

    def evaluated(self, training, entry):
        pass


def trained(ranks, rank, spec, folder, steps, state=None):
    """Weights, history and sums after so many steps."""
    group = dist.group.WORLD if ranks > 1 else None
    training = Training(spec, folder, "cpu", group=group)
    if state is not None:
        training.load_state_dict(state)
    with contextlib.suppress(Stop):
        training.train(Until(steps))
    return {
        "weights": {n: p.detach() for n, p in training.model.state_dict().items()},
        "history": [{k: v for k, v in e.items() if k != "seconds"} for e in training.history],
        "sums": training.sums.state_dict(),
        "state": training.state_dict() if rank == 0 and training.step < spec.total_steps else None,
        "pruning": training.pruner.record(),
    }


STEPS = 6
NETWORKS = {
    "lenet5": {"EVALUATION_INTERVAL": "3"},
    "uneven": {"BATCH_SIZE": "30"},  # four shares of 8, 8, 7 and 7
    "accumulated": {"ACCUMULATION": "2"},
    "resnet8": {"MODEL": "resnet8"},
}


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_run_on_ranks_is_that_of_one_but_for_rounding(tmp_path, ranks):
    """Batch normalisation over all ranks, shares of any size, parts of batches, evaluation."""
    for name, words in NETWORKS.items():
        (spec,) = specs(**{"OPTIMIZER": "sgd", "LR": "0.01", "PRUNING_METHOD": "none", **words})
        alone = trained(1, 0, spec, tmp_path, STEPS)
        found = in_ranks(trained, ranks, tmp_path / name, spec, tmp_path, STEPS)
        for key, value in alone["weights"].items():
            limit = 1e-3 if name == "resnet8" else 1e-5  # so far moves it another thread
            assert torch.allclose(value, found[0]["weights"][key], atol=limit, rtol=1e-4), key
        for each in found[1:]:
            assert all(
                torch.equal(value, found[0]["weights"][key])
                for key, value in each["weights"].items()
            ), name
            assert torch.equal(each["sums"]["totals"], found[0]["sums"]["totals"])
            assert each["history"] == found[0]["history"]
        assert alone["sums"]["examples"] == found[0]["sums"]["examples"]
        for one, other in zip(alone["history"], found[0]["history"], strict=True):
            assert one == pytest.approx(other, rel=1e-4, abs=1e-4), name


def test_it_goes_on_to_the_same_bits_and_on_other_ranks_with_exactly_k(tmp_path):
    words = {"PRUNING_WARMUP": "4", "PRUNING_INTERVAL": "2", "PRUNING_RAMP_END": "1"}
    (spec,) = specs(
        OPTIMIZER="adamw", PRUNING_METHOD="state", STEPS="20", EVALUATION_INTERVAL="10", **words
    )
    total = spec.total_steps
    trained(1, 0, spec, tmp_path, 1)  # its data are loaded here, before processes are forked
    whole = in_ranks(trained, 4, tmp_path / "whole", spec, tmp_path, total + 1)
    state = in_ranks(trained, 4, tmp_path / "half", spec, tmp_path, total // 2)[0]["state"]
    again = in_ranks(trained, 4, tmp_path / "on", spec, tmp_path, total + 1, state)
    for key, value in whole[0]["weights"].items():
        assert torch.equal(value, again[0]["weights"][key]), key
    assert whole[0]["history"] == again[0]["history"]
    other = trained(1, 0, spec, tmp_path, total + 1, state)
    assert other["pruning"]["k"] == other["pruning"]["zeros"] == whole[0]["pruning"]["k"]


def few(ranks, rank):
    with pytest.raises(UserError, match=r"RANKS=2: of 1 examples, .* not every rank would get one"):
        Parallel(dist.group.WORLD).share(torch.zeros(1, 2))


def test_a_batch_without_an_example_for_each_rank_is_refused(tmp_path):
    in_ranks(few, 2, tmp_path / "few")


def normalised(ranks, rank, inputs, momentum):
    """What a layer gives and gets on this rank, of a loss that weighs each output differently."""
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(3, momentum=momentum, dtype=torch.float64)
    nn.init.normal_(layer.weight)
    if ranks > 1:
        layer = Parallel(dist.group.WORLD).prepared(layer, torch.device("cpu"))
    mine = inputs.tensor_split(ranks)[rank].clone().requires_grad_()
    factors = torch.arange(inputs.numel()).view_as(inputs).sin().tensor_split(ranks)[rank]
    out = layer(mine)
    (out * factors).sum().backward()
    return {
        "out": out.detach(),
        "input": mine.grad,
        "weight": layer.weight.grad,
        "bias": layer.bias.grad,
        **{name: buffer.detach() for name, buffer in layer.named_buffers()},
    }


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_normalisation_over_ranks_is_torch_s_over_the_whole(tmp_path, momentum):
    """In float64, forward and backward, for shares of 3 and 2 examples."""
    torch.manual_seed(1)
    inputs = torch.randn(5, 3, 4, 2, dtype=torch.float64) * 3 + 2
    found = in_ranks(normalised, 2, tmp_path / "two", inputs, momentum)
    expected = normalised(1, 0, inputs, momentum)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert all(torch.allclose(each[name], expected[name], rtol=1e-12) for each in found)
    for name in ("out", "input"):
        both = torch.cat([each[name] for each in found])
        assert torch.allclose(both, expected[name], rtol=1e-9, atol=1e-12)
    for name in ("weight", "bias"):
        assert torch.allclose(sum(each[name] for each in found), expected[name], rtol=1e-9)


def in_bf16(ranks, rank):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    images = torch.randn(21, 3, 18, 18).tensor_split(ranks)[rank]
    if ranks > 1:
        module = Parallel(dist.group.WORLD).prepared(module, torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        out = module(images)
    out.float().square().mean().backward()
    return {"out": out.detach(), **{n: b.detach() for n, b in module.named_buffers()}}


def test_batch_normalisation_of_bfloat16_is_computed_in_float32(tmp_path):
    """As torch's own: 21 x 256 numbers are not counted in bfloat16."""
    found, expected = in_ranks(in_bf16, 2, tmp_path / "two"), in_bf16(1, 0)
    out = torch.cat([each["out"] for each in found])
    assert out.dtype == expected["out"].dtype == torch.bfloat16
    assert torch.allclose(out.float(), expected["out"].float(), atol=0.02)
    for name in ("1.running_mean", "1.running_var"):
        assert all(torch.allclose(each[name], expected[name], rtol=1e-5) for each in found)


def compiled_unevenly(ranks, rank, spec, folder):
    training = Training(spec, folder, "cpu", group=dist.group.WORLD)
    return training.not_compiled


def test_where_the_shares_of_a_batch_differ_no_rank_compiles(tmp_path):
    """Ranks that compile for other shapes ran collective operations that the rest did not."""
    (spec,) = specs(BATCH_SIZE="33", LENET5_FUSED="n", TORCH_COMPILE="y")
    told = in_ranks(compiled_unevenly, 2, tmp_path / "two", spec, tmp_path)
    assert told == ["the ranks' shares of a batch differ"] * 2
