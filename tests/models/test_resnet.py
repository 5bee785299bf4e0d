"""Residual networks: sizes as published, torchvision's function and names, option A by hand."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from adamwprune import models
from adamwprune.base.kinds import Images
from adamwprune.models._resnet import CifarResNet, PaddedShortcut

CIFAR, IMAGENET = Images(3, 32, 10), Images(3, 224, 1000)


def built(name: str, kind: Images) -> nn.Module:
    return models.build({"MODEL": name, "MODEL_WIDTH": 1.0}, kind).module


@pytest.mark.parametrize(
    ("name", "kind", "parameters"),
    [
        ("resnet8", CIFAR, 75_290),
        ("resnet20", CIFAR, 269_722),  # the paper: 0.27 million
        ("resnet32", CIFAR, 464_154),  # 0.46
        ("resnet56", CIFAR, 853_018),  # 0.85
        ("resnet18", CIFAR, 11_173_962),
        ("resnet50", CIFAR, 23_520_842),
        ("resnet18", IMAGENET, 11_689_512),  # torchvision's documentation
        ("resnet50", IMAGENET, 25_557_032),
    ],
)
def test_parameters_are_as_many_as_published(name, kind, parameters):
    with torch.device("meta"):
        network = built(name, kind)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    layers = [
        key
        for key, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and "downsample" not in key
    ]
    assert f"resnet{len(layers)}" == name


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvisions_weights_load_and_mean_the_same_function(name):
    torch.manual_seed(0)
    published = getattr(torchvision.models, name)(num_classes=7)
    for norm in published.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
    ours = built(name, Images(3, 96, 7))
    ours.load_state_dict(published.state_dict())
    published.double(), ours.double()
    images = torch.randn(2, 3, 96, 96, dtype=torch.float64)
    for training in (False, True):
        found, expected = ours.train(training)(images), published.train(training)(images)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    for logits in (found, expected):
        logits.square().sum().backward()
    gradients = [dict(each.named_parameters()) for each in (ours, published)]
    for key, parameter in gradients[1].items():
        torch.testing.assert_close(gradients[0][key].grad, parameter.grad, rtol=1e-8, atol=1e-8)


def test_the_stem_keeps_the_resolution_of_small_images_only():
    for size, expected in ((32, 32), (64, 64), (65, 17), (224, 56)):
        with torch.device("meta"):
            network = built("resnet18", Images(3, size, 10))
            images = torch.zeros(1, 3, size, size)
            stem = network.maxpool(network.bn1(network.conv1(images)))
        assert stem.shape == (1, 64, expected, expected)


def test_option_a_takes_every_second_pixel_and_adds_channels_of_zeros():
    image = torch.arange(2 * 16.0).view(1, 2, 4, 4)
    found = PaddedShortcut(2, 5, stride=2)(image)
    assert found[0, :2].tolist() == [[[0, 2], [8, 10]], [[16, 18], [24, 26]]]
    assert found.shape == (1, 5, 2, 2)
    assert not found[0, 2:].any()
    assert torch.equal(PaddedShortcut(2, 2, stride=1)(image), image)


def test_a_block_of_option_a_is_its_formula():
    torch.manual_seed(0)
    block = CifarResNet(CIFAR, 1).double().layer2[0].eval()
    x = torch.randn(2, 16, 6, 6, dtype=torch.float64)

    def convolved(x, conv, norm, stride):
        y = nn.functional.conv2d(x, conv.weight, stride=stride, padding=1)
        return y / (1 + norm.eps) ** 0.5  # fresh statistics: mean 0, variance 1, weight 1, bias 0

    y = convolved(x, block.conv1, block.bn1, 2).clamp(min=0)
    y = convolved(y, block.conv2, block.bn2, 1)
    y[:, :16] += x[:, :, ::2, ::2]
    torch.testing.assert_close(block(x), y.clamp(min=0), rtol=1e-12, atol=1e-12)


def test_convolutions_start_with_the_variance_of_he():
    torch.manual_seed(0)
    conv = built("resnet20", CIFAR).layer3[1].conv1
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert conv.weight.mean().item() == pytest.approx(0, abs=0.001)


def test_width_scales_the_channels_and_leaves_one_at_least():
    narrow = CifarResNet(CIFAR, 1, width=0.5)
    assert [each.out_channels for each in narrow.modules() if isinstance(each, nn.Conv2d)] == [
        *(8, 8, 8),
        *(16, 16),
        *(32, 32),
    ]
    values = {"MODEL": "resnet18", "MODEL_WIDTH": 0.25}
    assert models.build(values, CIFAR).module.fc.in_features == 128
    assert CifarResNet(CIFAR, 1, width=0.001).fc.in_features == 1
    assert narrow(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("name", ["resnet8", "resnet18"])
def test_in_channels_last_it_is_the_same_function(name):
    torch.manual_seed(0)
    network = built(name, Images(3, 16, 5)).double()
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    expected = network(images)
    strided = network.to(memory_format=torch.channels_last)
    found = strided(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    found.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in strided.parameters())
