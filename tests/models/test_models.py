"""The networks, and the faster ways in which their first layers are computed."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adamwprune import models
from adamwprune.base import registry
from adamwprune.base.errors import UserError
from adamwprune.base.kinds import Images
from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.models import _pooled_conv, _pooled_conv_gpu
from adamwprune.models._pooled_conv import conv_norm_pool, phases_of
from adamwprune.models.lenet5 import FusedLeNet5, LeNet5
from adamwprune.plan import shapes
from adamwprune.plan.matrix import expand
from adamwprune.plan.spec import RunSpec
from adamwprune.pruning import prunable
from adamwprune.train.data import network_for

USUAL = {"MODEL": "lenet5", "MODEL_WIDTH": 1.0, "LENET5_NUMBA": False, "LENET5_TRITON": False}


@pytest.fixture(params=["cpu", "cuda"])
def product(request, monkeypatch):
    """What is computed on this kind of device, on the CPU."""
    monkeypatch.setitem(_pooled_conv.PRODUCTS, "cpu", _pooled_conv.PRODUCTS[request.param])
    return request.param


def layers(channels: int, outputs: int, size: int, **settings) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    torch.manual_seed(channels)
    conv = nn.Conv2d(channels, outputs, size, **settings).double()
    norm = nn.BatchNorm2d(outputs).double()
    nn.init.normal_(norm.weight)  # negative ones too: they turn a maximum into a minimum
    return conv, norm


def plain(images, conv, norm):
    return F.max_pool2d(norm(conv(images)), 2)


def gradients(function, images, conv, norm):
    conv.zero_grad(), norm.zero_grad()
    images = images.clone().requires_grad_()
    out = function(images, conv, norm)
    out.mul(torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    parameters = [*conv.parameters(), *norm.parameters()]
    return [out.detach(), images.grad, *(p.grad.clone() for p in parameters), *norm.buffers()]


@pytest.mark.parametrize(
    ("channels", "outputs", "size", "side", "settings"),
    [
        (1, 6, 5, (32, 32), {}),
        (6, 16, 5, (14, 14), {}),
        (3, 4, 3, (10, 16), {"bias": False}),
        (2, 3, 1, (6, 4), {}),
        # Not by phases: an odd side, an even kernel, padding, stride, groups.
        (1, 2, 3, (11, 10), {}),
        (1, 2, 4, (10, 10), {}),
        (1, 2, 5, (10, 10), {"padding": 2}),
        (1, 2, 3, (10, 10), {"stride": 2}),
        (2, 2, 3, (10, 10), {"groups": 2}),
        (1, 2, 3, (12, 12), {"dilation": 2}),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_by_phases_it_is_the_same_function(
    product, channels, outputs, size, side, settings, training
):
    conv, norm = layers(channels, outputs, size, **settings)
    conv.train(training), norm.train(training)
    images = torch.randn(5, channels, *side, dtype=torch.float64)
    found = gradients(conv_norm_pool, images, conv, norm)
    norm.reset_running_stats()
    expected = gradients(plain, images, conv, norm)
    for one, other in zip(found, expected, strict=True):
        if training:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    if not training:
        norm.reset_running_stats()
        torch.testing.assert_close(conv_norm_pool(images, conv, norm), plain(images, conv, norm))


def test_it_is_computed_by_phases_where_that_is_said(monkeypatch):
    called = []
    monkeypatch.setattr(_pooled_conv, "phases_of", lambda x: called.append(x.shape) or phases_of(x))
    conv_norm_pool(torch.zeros(2, 1, 32, 32), nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6))
    assert (2, 1, 32, 32) in called
    called.clear()
    conv_norm_pool(torch.zeros(2, 1, 31, 32), nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6))
    assert called == []


def test_of_equal_values_the_first_gets_the_gradient_as_in_torch(product):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 3, (4, 3, 8, 8), generator=generator).double().requires_grad_()
    grad = torch.randn(4, 3, 4, 4, generator=generator, dtype=torch.float64)
    conv = nn.Conv2d(3, 3, 1, bias=False).double()
    conv.weight.data = torch.eye(3, dtype=torch.float64).view(3, 3, 1, 1)  # the images themselves
    norm = nn.BatchNorm2d(3).double()
    (expected,) = torch.autograd.grad(plain(images, conv, norm), images, grad)
    (found,) = torch.autograd.grad(conv_norm_pool(images, conv, norm), images, grad)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_a_bias_that_normalisation_takes_away_gets_no_gradient(product):
    conv, norm = layers(1, 6, 5)
    conv_norm_pool(torch.randn(5, 1, 32, 32, dtype=torch.float64), conv, norm).sum().backward()
    assert torch.equal(conv.bias.grad, torch.zeros_like(conv.bias))


def test_evaluated_without_gradients_it_is_the_same_function():
    _pooled_conv._spreading.cache_clear()
    conv, norm = layers(6, 16, 5)
    images = torch.randn(5, 6, 14, 14, dtype=torch.float64)
    plain(images, conv, norm)  # moves the running mean and variance
    norm.eval()
    with torch.inference_mode():
        torch.testing.assert_close(conv_norm_pool(images, conv, norm), plain(images, conv, norm))
    norm.train()
    conv_norm_pool(images, conv, norm).sum().backward()  # what was made before is of use here


def test_blocks_are_pixels_of_a_window_side_by_side():
    images = torch.arange(32.0).view(1, 2, 4, 4)
    blocks = _pooled_conv_gpu.blocks_of(images)
    assert blocks.shape == (1, 2, 2, 8)
    assert blocks[0, 0, 1].tolist() == [2, 3, 6, 7, 18, 19, 22, 23]
    strided = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(_pooled_conv_gpu.blocks_of(strided), blocks)


def test_phases_are_rows_and_columns_taken_in_turn():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert phases_of(image)[0].tolist() == [
        [[0, 2], [8, 10]],
        [[1, 3], [9, 11]],
        [[4, 6], [12, 14]],
        [[5, 7], [13, 15]],
    ]


# These differ from others by numbers only, which tests/models/test_gpt.py holds.
SIZES = ("gpt", "gpt2", "gpt2_medium")
NAMES = [name for name in registry.members("adamwprune.models") if name not in SIZES]


def spec_of(name: str, **settings: str) -> RunSpec:
    """A run of this model, on the first dataset that goes with it."""
    tree = Tree()
    members = tree.families["DATASET"].members
    offered = [member for member, symbol in members.items() if tree.is_visible(symbol)]
    words = {"MODEL": name.replace("_", "-"), "DATASET": " ".join(offered), **settings}
    strict.apply(tree, strict.command_line(tree, words, "test"))
    return expand(tree).specs[0]


# Each starts an interpreter that imports torch: one of them is enough for a fast check.
PLANNED = [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])]


@pytest.mark.parametrize("name", PLANNED)
def test_planning_knows_the_shapes_that_pruning_finds_without_torch(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shapes._SHAPES, "_entries", [])
    spec = spec_of(name)
    with torch.device("meta"):
        network = network_for(spec.settings)
    found = [tuple(w.shape) for w in prunable(network.module, network.prunable).values()]
    assert shapes.prunable_shapes(spec) == found
    monkeypatch.setattr(shapes._SHAPES, "_asked", lambda values: pytest.fail("it was kept"))
    assert shapes.prunable_shapes(RunSpec({**spec.values, "SEED": 9})) == found
    shapes._SHAPES._entries.clear()
    assert shapes.prunable_shapes(spec) == found, "in a file, for other processes"
    (tmp_path / "adamwprune" / "shapes.json").write_text("[{")
    shapes._SHAPES._entries.clear()
    monkeypatch.setattr(shapes._SHAPES, "_asked", lambda values: {"read": {}, "shapes": [[2, 3]]})
    assert shapes.prunable_shapes(spec) == [(2, 3)], "a damaged file is none"


def test_a_model_that_cannot_be_built_is_named_where_it_is_planned(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shapes._SHAPES, "_entries", [])
    with pytest.raises(UserError, match="weights of nothing cannot be counted: KeyError"):
        shapes.prunable_shapes(RunSpec({"MODEL": "nothing", "DATASET": "mnist5k"}))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_a_plain_module_with_a_plain_state(name):
    settings = spec_of(name).settings
    model = network_for(settings)
    example = model.example()
    assert example.is_meta
    inputs = torch.zeros(2, *example.shape[1:], dtype=example.dtype)
    outputs = model.module(inputs)
    assert outputs.shape[0] == 2
    state = model.module.state_dict()
    again = network_for(settings).module
    again.load_state_dict(state)
    again.eval(), model.module.eval()
    assert torch.equal(again(inputs), model.module(inputs))


def test_a_model_is_built_for_the_channels_and_classes_of_its_data():
    values = {**USUAL, "LENET5_FUSED": False}
    model = models.build(values, Images(channels=3, size=28, classes=7))
    assert model.takes == Images(3, 32, 7)
    assert model.example(5).shape == (5, 3, 32, 32)
    assert model.module(torch.zeros(5, 3, 32, 32)).shape == (5, 7)


def test_under_autocast_fused_layers_take_their_statistics_in_float32():
    torch.manual_seed(0)
    plain_one, fused = LeNet5(), FusedLeNet5()
    fused.load_state_dict(plain_one.state_dict())
    images = torch.randn(8, 1, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fused.train()(images), plain_one.train()(images))
    assert torch.equal(fused.norm1.running_var, plain_one.norm1.running_var)


@pytest.mark.parametrize("training", [True, False])
def test_fused_layers_compute_what_the_plain_ones_do(training):
    plain_one, fused = LeNet5().double(), FusedLeNet5().double()
    fused.load_state_dict(plain_one.state_dict())
    plain_one.train(training), fused.train(training)
    images = torch.randn(8, 1, 32, 32, dtype=torch.float64)
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(fused(images), plain_one(images), rtol=1e-9, atol=1e-10)
    fused_values, plain_values = ({**USUAL, "LENET5_FUSED": on} for on in (True, False))
    kind = Images(1, 28, 10)
    assert type(models.build(fused_values, kind).module) is FusedLeNet5
    assert type(models.build(plain_values, kind).module) is LeNet5
    assert spec_of("lenet5")["LENET5_FUSED"] is True
    assert spec_of("lenet5", LENET5_FUSED="n").run_id != spec_of("lenet5").run_id


def test_embeddings_and_a_head_tied_to_one_are_not_prunable():
    network = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 5), nn.Linear(5, 4), nn.Linear(4, 9))
    network[3].weight = network[0].weight
    assert list(prunable(network)) == ["1.weight", "2.weight"]
    assert list(prunable(network, ("2.weight",))) == ["2.weight"]
