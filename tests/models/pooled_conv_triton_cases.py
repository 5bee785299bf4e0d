"""The kernels for a GPU against torch's plain modules: on a GPU, or by Triton's interpreter.

These are no tests of their own file name: Triton decides when it is imported whether it interprets
(TRITON_INTERPRET=1), for a whole process. See ``test_pooled_conv_triton.py``.
"""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

pytest.importorskip("triton")

from adamwprune.models import _pooled_conv_triton, lenet5
from adamwprune.models._pooled_conv_triton import conv_norm_pool
from tests.support.pooled_conv import error, gradients, layers, plain

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"


@pytest.fixture(autouse=True)
def _few_programs_and_exact_products(monkeypatch):
    """The interpreter takes about as long for a program of any size."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    if INTERPRETED:
        monkeypatch.setattr(_pooled_conv_triton, "BLOCK_WEIGHTS", 1024)
        monkeypatch.setattr(_pooled_conv_triton, "CHUNK_TILES", 16)


SHAPES = [
    (3, 1, 6, (32, 32), {}),  # as in LeNet-5, the rows no multiple of a tile
    (4, 6, 16, (14, 14), {}),
    (3, 12, 32, (10, 8), {}),  # twice the width: columns in two tiles
    (5, 3, 5, (8, 12), {"bias": False}),  # odd numbers of channels
    (1, 2, 1, (6, 6), {}),  # a single window
]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("n", "channels", "outputs", "side", "settings"), SHAPES)
def test_it_is_the_function_of_the_plain_modules(n, channels, outputs, side, settings, relu):
    conv, norm = layers(channels, outputs, place=DEVICE, **settings)
    images = torch.randn(n, channels, *side, device=DEVICE) + 1  # a mean unlike zero
    found = gradients(conv_norm_pool, images, conv, norm, relu)
    exact = gradients(plain, images.double(), conv.double(), norm.double(), relu)
    names = ["pooled", "images", "weight", "scale", "shift", "mean", "variance", "batches"]
    for name, found_one, exact_one in zip(names, found, exact, strict=True):
        assert found_one.dtype == (torch.int64 if name == "batches" else torch.float32)
        one, best = found_one.double(), exact_one.double()
        bound = 1e-5 * float(best.abs().max())
        assert torch.allclose(one, best, rtol=1e-5, atol=bound), name


@pytest.mark.parametrize(("channels", "outputs", "side"), [(1, 6, 32), (6, 16, 14)])
def test_it_is_as_exact_as_torch(channels, outputs, side):
    conv, norm = layers(channels, outputs, place=DEVICE)
    images = torch.rand(9, channels, side, side, device=DEVICE)
    found = gradients(conv_norm_pool, images, conv, norm, False)
    torchs = gradients(plain, images, conv, norm, False)
    exact = gradients(plain, images.double(), conv.double(), norm.double(), False)
    bounds = [3e-7, 1e-6, 1e-5, 1e-6, 3e-7, 3e-7, 3e-7]
    for one, other, best, bound in zip(found, torchs, exact, bounds, strict=False):
        assert error(one, best) < max(3 * error(other, best), bound)


def test_many_rows_are_summed_in_several_parts(monkeypatch):
    """Each loop over partial sums takes more than one turn."""
    monkeypatch.setattr(_pooled_conv_triton, "BLOCK_PARTIALS", 16)
    monkeypatch.setattr(_pooled_conv_triton, "BLOCK_ROWS", 16)
    test_it_is_the_function_of_the_plain_modules(9, 2, 4, (16, 16), {}, True)


def test_the_kernel_s_gradient_is_summed_in_several_parts(monkeypatch):
    monkeypatch.setattr(_pooled_conv_triton, "CHUNK_TILES", 512)
    monkeypatch.setattr(_pooled_conv_triton, "BLOCK_CHUNKS", 4)
    monkeypatch.setattr(_pooled_conv_triton, "BLOCK_WEIGHTS", 32)
    test_it_is_the_function_of_the_plain_modules(9, 2, 4, (16, 16), {}, False)


def test_of_equal_values_the_first_gets_the_gradient_as_in_torch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 3, (9, 3, 12, 12), generator=generator).float()
    images = images.to(DEVICE).requires_grad_()
    grad = torch.randn(9, 3, 4, 4, generator=generator).to(DEVICE)
    conv, norm = nn.Conv2d(3, 3, 5, bias=False).to(DEVICE), nn.BatchNorm2d(3).to(DEVICE)
    conv.weight.data.zero_()[range(3), range(3), 2, 2] = 1  # the images themselves
    norm.weight.data[1] = -1
    (expected,) = torch.autograd.grad(plain(images, conv, norm), images, grad)
    (found,) = torch.autograd.grad(conv_norm_pool(images, conv, norm), images, grad)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_bias_that_normalisation_takes_away_gets_no_gradient():
    conv, norm = layers(1, 6, place=DEVICE)
    conv_norm_pool(torch.randn(2, 1, 12, 12, device=DEVICE), conv, norm).sum().backward()
    assert torch.equal(conv.bias.grad, torch.zeros_like(conv.bias))


def test_images_that_take_no_gradient_get_none():
    conv, norm = layers(2, 4, place=DEVICE)
    images = torch.randn(2, 2, 12, 12, device=DEVICE)
    conv_norm_pool(images, conv, norm).sum().backward()
    assert images.grad is None
    assert conv.weight.grad.abs().sum() > 0


def test_a_scale_of_zero_leaves_the_shift_and_gets_its_gradient():
    conv, norm = layers(2, 2, place=DEVICE)
    norm.weight.data.zero_()
    images = torch.randn(4, 2, 12, 12, device=DEVICE)
    found = gradients(conv_norm_pool, images, conv, norm, False)
    expected = gradients(plain, images.double(), conv.double(), norm.double(), False)
    assert torch.equal(found[0], norm.bias.float()[:, None, None].expand(4, 2, 4, 4))
    for one, other in zip(found[3:5], expected[3:5], strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:All-NaN")
@pytest.mark.filterwarnings("ignore:invalid value")
def test_numbers_that_are_none_stay_visible():
    conv, norm = layers(1, 2, place=DEVICE)
    images = torch.randn(3, 1, 12, 12, device=DEVICE)
    images[1, 0, 6, 6] = torch.nan
    pooled = conv_norm_pool(images, conv, norm, relu=True)
    assert pooled.isnan().all()
    pooled.sum().backward()
    assert conv.weight.grad.isnan().all()


def test_images_need_not_be_contiguous_and_gradients_neither():
    conv, norm = layers(2, 4, place=DEVICE)
    images = torch.randn(3, 12, 12, 2, device=DEVICE).permute(0, 3, 1, 2).requires_grad_()
    grad = torch.randn(3, 4, 4, 4, device=DEVICE).transpose(2, 3)
    (found,) = torch.autograd.grad(conv_norm_pool(images, conv, norm), images, grad)
    (expected,) = torch.autograd.grad(plain(images, conv, norm), images, grad)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_results_are_the_same_to_the_bit_each_time():
    conv, norm = layers(6, 16, place=DEVICE)
    images = torch.randn(2 if INTERPRETED else 500, 6, 14, 14, device=DEVICE)
    one, other = (gradients(conv_norm_pool, images, conv, norm, True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def network(*devices):
    torch.manual_seed(0)
    return lenet5.KernelLeNet5(1, 10, 1.0, frozenset(devices)).to(DEVICE)


def test_a_network_trains_by_them_as_without():
    images, results = torch.randn(2, 1, 32, 32, device=DEVICE), []
    for devices in ((), (DEVICE,)):
        one = network(*devices)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lenet5, "_kernels", lambda device: conv_norm_pool)
            for _ in range(2):
                one.zero_grad()
                one(images).square().mean().backward()
                with torch.no_grad():
                    for param in one.parameters():
                        param.sub_(0.01 * param.grad)
        results.append(one.state_dict())
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(INTERPRETED, reason="needs a GPU")
def test_a_captured_step_is_the_eager_one():
    images = torch.randn(512, 1, 32, 32, device=DEVICE)
    one, static = network(DEVICE), torch.empty_like(images)

    def step():
        loss = one(static).square().mean()
        one.zero_grad()
        loss.backward()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        static.copy_(images)
        for _ in range(3):
            step()
        before = {name: value.clone() for name, value in one.state_dict().items()}
        step()
        eager = [param.grad.clone() for param in one.parameters()]
        moved = {name: value.clone() for name, value in one.state_dict().items()}
        one.load_state_dict(before)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            step()
        one.load_state_dict(before)
        graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, p.grad) for a, p in zip(eager, one.parameters(), strict=True))
    assert all(torch.equal(moved[name], value) for name, value in one.state_dict().items())
