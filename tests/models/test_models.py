"""The networks, and the faster ways in which their first layers are computed."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adamwprune import models
from adamwprune.base import registry
from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.models import _pooled_conv, _pooled_conv_gpu
from adamwprune.models._pooled_conv import conv_norm_pool, phases_of
from adamwprune.plan import feasible
from adamwprune.plan.matrix import expand
from adamwprune.pruning import prunable


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


@pytest.mark.parametrize("name", registry.members("adamwprune.models"))
def test_kconfig_declares_what_of_a_model_can_be_pruned(name):
    tree = Tree()
    strict.apply(tree, strict.command_line(tree, {"MODEL": name}, "test"))
    weights = prunable(models.build(name).module).values()
    assert feasible.shapes(tree.text("PRUNABLE_SHAPES")) == [tuple(w.shape) for w in weights]
    assert not any("PRUNABLE_SHAPES" in spec for spec in expand(tree).specs)


@pytest.mark.parametrize("name", registry.members("adamwprune.models"))
def test_a_model_is_a_plain_module_with_a_plain_state(name):
    model = models.build(name)
    images = torch.zeros(2, 1, model.image_size, model.image_size)
    assert model.module(images).shape == (2, 10)
    state = model.module.state_dict()
    again = models.build(name).module
    again.load_state_dict(state)
    again.eval(), model.module.eval()
    assert torch.equal(again(images), model.module(images))
