"""Scores that ask for what their layers read: the norms, the hooks, and what is refused."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from adamwprune.optimizers import AdamW
from adamwprune.pruning import Magnitude, Pruner, Schedule
from adamwprune.pruning.select.parts import Part, whole
from adamwprune.train.graphs import EAGER_STEPS, StepGraphs
from adamwprune.train.measure import ledger
from tests.pruning.networks import network, train
from tests.pruning.wanda import Wanda

SCHEDULE = Schedule(target=0.5, warmup=0, interval=3, ramp_end=9)


def attached(model, score=None):
    score = score or Wanda()
    pruner = Pruner(model, score, SCHEDULE).attach(AdamW(model.parameters()))
    return pruner, score


def scores_of(score, layer):
    return score.score(layer.weight, {}, whole(layer.weight)).view(layer.weight.shape)


def test_a_linear_layers_scores_literally():
    """[batch, inputs] and [batch, positions, inputs], over two forward passes."""
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0], [0.5, 0.0]]))
    _, score = attached(layer)
    layer(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    layer(torch.tensor([[[0.0, 1.0], [4.0, 1.0]]]))  # ‖(3, 0, 0, 4)‖ = 5, ‖(0, 1, 1, 1)‖ = √3
    expected = torch.tensor([[5.0, 2 * 3**0.5], [2.5, 0.0]])
    torch.testing.assert_close(scores_of(score, layer), expected)
    part = Part(1, 4, 2)
    assert torch.equal(score.score(layer.weight, {}, part), part.of(scores_of(score, layer)))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolutions_scores_are_by_channel(groups):
    layer = nn.Conv2d(4, 6, 3, groups=groups)
    _, score = attached(layer)
    images = torch.randn(5, 4, 7, 8)
    layer(images)
    layer(images[0])  # without a batch
    both = torch.cat([images, images[:1]])
    norms = both.square().sum((0, 2, 3)).sqrt()
    expected = torch.empty_like(layer.weight)
    for output in range(6):
        first = output // (6 // groups) * (4 // groups)
        for channel in range(4 // groups):
            size = layer.weight[output, channel].detach().abs()
            expected[output, channel] = size * norms[first + channel]
    torch.testing.assert_close(scores_of(score, layer), expected.detach())


def test_tied_layers_add_up():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    with torch.no_grad():
        model[0].weight.copy_(2 * torch.eye(3) + 1e-9)
    _, score = attached(model)
    model(torch.ones(1, 3))  # 1 into the first, 2 into the second
    assert scores_of(score, model[0]).diagonal().tolist() == pytest.approx(3 * [2 * 5**0.5])


def test_only_training_is_seen_and_only_while_attached():
    model = network()
    images = torch.randn(2, 1, 8, 8)
    pruner, score = attached(model)
    model.eval()(images)
    assert score.buffers() == {"input_norms": []}
    model.train()(images)
    kept = [norms.clone() for norms in score.buffers()["input_norms"]]
    assert [norms.numel() for norms in kept] == [1, 144]
    copy.deepcopy(model)(images)
    pickle.loads(pickle.dumps(model))(images)
    pruner.detach()
    model(images)
    assert not model[0]._forward_pre_hooks
    assert all(map(torch.equal, kept, score.buffers()["input_norms"])), "copies are not observed"
    pruner.attach(AdamW(model.parameters()))
    model(images)
    assert not any(map(torch.equal, kept, score.buffers()["input_norms"]))


def test_a_score_that_does_not_ask_has_no_hooks():
    model = network()
    attached(model, Magnitude())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_detached_pruner_prunes_no_more():
    model = network()
    optimizer = AdamW(model.parameters(), 1e-2)
    pruner = Pruner(model, Magnitude(), SCHEDULE).attach(optimizer)
    train(model, optimizer, 10)
    assert pruner.zeros() == 738
    pruner.detach()
    train(model, optimizer, 5)
    assert pruner.steps == 10
    assert pruner.zeros() < 100, "the weights train again"


def test_the_norms_are_counted_and_declared():
    model = network()
    optimizer = AdamW(model.parameters())
    pruner = Pruner(model, Wanda(), SCHEDULE, storage="implied").attach(optimizer)
    train(model, optimizer, 5)
    found = ledger.account(model, optimizer, pruner)["pruner"]
    shapes = [tuple(weight.shape) for weight in pruner.weights.values()]
    assert found == pruner.score.expected_bytes(shapes) == {"input_norms": 4 * (1 + 144)}


def test_a_graphs_replay_adds_to_the_norms_in_place():
    """Kernels write where they wrote when they were captured."""
    model = network()
    pruner, score = attached(model)
    batches = torch.randn(6, 2, 1, 8, 8)
    addresses = []

    class Recorder:
        def record(self, work):
            work()
            return work

    def work(batch):
        model(batches[batch[0]])
        addresses.append([norms.data_ptr() for norms in score.buffers()["input_norms"]])

    graphs = StepGraphs(work, Recorder())
    replayed = [graphs(torch.tensor([number]), pruner.step_kind() or "step") for number in range(6)]
    assert sum(replayed) == 6 - EAGER_STEPS - 1
    assert all(each == addresses[0] for each in addresses)
    expected = batches.square().sum().sqrt()
    torch.testing.assert_close(score.buffers()["input_norms"][0].sqrt()[0], expected)


def test_what_cannot_be_observed_is_refused():
    transposed = nn.Sequential(nn.ConvTranspose2d(2, 3, 3), nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"linear layers or convolutions, not 0\.weight"):
        attached(transposed)
    unused = nn.ModuleList([nn.Linear(2, 2)])
    pruner, _ = attached(unused)
    unused[0].weight.grad = torch.ones(2, 2)
    pruner.optimizer.step()
    pruner.optimizer.step()
    with pytest.raises(RuntimeError, match=r"no input of the layer of shape \(2, 2\) was seen"):
        pruner.optimizer.step()
