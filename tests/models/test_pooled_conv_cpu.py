"""The compiled kernels of the first layers, against torch's plain modules."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

pytest.importorskip("numba")

from adamwprune import models
from adamwprune.base.kinds import Images
from adamwprune.models import _pooled_conv, _pooled_conv_cpu, lenet5
from adamwprune.models._pooled_conv_cpu import ConvNormMax, conv_norm_pool
from tests.run.test_resume import Killed, killer, record
from tests.support.pooled_conv import error, gradients, layers, plain
from tests.support.runs import specs

pytestmark = pytest.mark.slow  # compiles for seconds if nothing is in the cache


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    ("n", "channels", "outputs", "side", "settings"),
    [
        (5, 1, 6, (32, 32), {}),
        (96, 6, 16, (14, 14), {}),
        (17, 12, 32, (14, 14), {}),  # twice the width
        (9, 3, 5, (8, 12), {"bias": False}),  # odd numbers of channels: one is added
        (1, 2, 1, (6, 6), {}),
        (8, 1, 2, (6, 16), {}),
    ],
)
def test_in_double_precision_it_is_the_same_function(
    threads, n, channels, outputs, side, settings, relu
):
    conv, norm = layers(channels, outputs, place=torch.float64, **settings)
    images = torch.randn(n, channels, *side, dtype=torch.float64)
    found = gradients(conv_norm_pool, images, conv, norm, relu)
    expected = gradients(plain, images, conv, norm, relu)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("n", "channels", "outputs", "side"),
    [(9, 1, 6, 32), (9, 6, 16, 14), (9, 12, 32, 14), (512, 6, 16, 14), (96, 12, 32, 14)],
)
def test_in_single_precision_it_is_as_exact_as_torch(n, channels, outputs, side, seed):
    conv, norm = layers(channels, outputs, seed=seed)
    images = torch.rand(n, channels, side, side) + seed  # a mean unlike zero
    found = gradients(conv_norm_pool, images, conv, norm, False)
    torchs = gradients(plain, images, conv, norm, False)
    exact = gradients(plain, images.double(), conv.double(), norm.double(), False)
    # In a large batch, rounding makes each choose another maximum here and there.
    into_images, into_weight = (1e-6, 1e-5) if n < 10 else (2e-2, 2e-2)
    bounds = [3e-7, into_images, into_weight, 3e-7, 3e-7, 3e-7, 3e-7]
    for one, other, best, bound in zip(found, torchs, exact, bounds, strict=False):
        assert error(one, best) < max(3 * error(other, best), bound)


@pytest.mark.parametrize("floor", [0.0, -torch.inf])
def test_its_gradients_are_those_of_finite_differences(floor):
    torch.manual_seed(0)
    shapes = [(3, 2, 8, 8), (3, 2, 5, 5), (3,), (3,)]
    tensors = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    least = torch.tensor([floor], dtype=torch.float64)

    def pooled(*tensors):
        return ConvNormMax.apply(*tensors, None, 1e-5, least)[0]

    assert torch.autograd.gradcheck(pooled, tensors)


def test_of_equal_values_the_first_gets_the_gradient_as_in_torch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 3, (9, 3, 12, 12), generator=generator).double().requires_grad_()
    grad = torch.randn(9, 3, 4, 4, generator=generator, dtype=torch.float64)
    conv = nn.Conv2d(3, 3, 5, bias=False).double()
    conv.weight.data.zero_()[range(3), range(3), 2, 2] = 1  # the images themselves
    norm = nn.BatchNorm2d(3).double()
    norm.weight.data[1] = -1
    (expected,) = torch.autograd.grad(plain(images, conv, norm), images, grad)
    (found,) = torch.autograd.grad(conv_norm_pool(images, conv, norm), images, grad)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_a_bias_that_normalisation_takes_away_gets_no_gradient():
    conv, norm = layers(1, 6)
    conv_norm_pool(torch.randn(5, 1, 32, 32), conv, norm).sum().backward()
    assert torch.equal(conv.bias.grad, torch.zeros_like(conv.bias))


def test_a_scale_of_zero_leaves_the_shift_and_gets_its_gradient():
    conv, norm = layers(2, 2, place=torch.float64)
    norm.weight.data.zero_()
    images = torch.randn(4, 2, 12, 12, dtype=torch.float64)
    found = gradients(conv_norm_pool, images, conv, norm, False)
    expected = gradients(plain, images, conv, norm, False)
    assert torch.equal(found[0], norm.bias.detach()[:, None, None].expand(4, 2, 4, 4))
    torch.testing.assert_close(found[4], expected[4])


def test_numbers_that_are_none_stay_visible():
    conv, norm = layers(1, 2)
    images = torch.randn(9, 1, 12, 12)
    images[4, 0, 6, 6] = torch.nan
    assert conv_norm_pool(images, conv, norm, relu=True).isnan().all()


def test_results_are_the_same_to_the_bit_with_any_number_of_threads():
    conv, norm = layers(6, 16)
    images = torch.randn(512, 6, 14, 14)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        # torch's own sums depend on the number of threads; only the kernels' are compared.
        found.append(kernels_only(images, conv, norm))
    torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


def kernels_only(images, conv, norm):
    called = []
    inner = _pooled_conv_cpu._in_parallel

    def recorded(kernel, count, *tensors):
        inner(kernel, count, *tensors)
        called.extend(tensor.clone() for tensor in tensors)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_pooled_conv_cpu, "_in_parallel", recorded)
        patch.setattr(_pooled_conv_cpu, "_mean", lambda images, kernel: torch.zeros(len(kernel)))
        conv_norm_pool(images.requires_grad_(), conv, norm).square().sum().backward()
    return called


def test_images_need_not_be_contiguous_and_gradients_neither():
    conv, norm = layers(2, 4, place=torch.float64)
    images = torch.randn(9, 12, 12, 2, dtype=torch.float64).permute(0, 3, 1, 2)
    grad = torch.randn(9, 4, 4, 4, dtype=torch.float64).transpose(2, 3)
    images.requires_grad_()
    found = torch.autograd.grad(conv_norm_pool(images, conv, norm), images, grad)
    expected = torch.autograd.grad(plain(images, conv, norm), images, grad)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_it_trains_as_by_phases():
    torch.manual_seed(0)
    images = torch.randn(96, 1, 32, 32)
    results = []
    for function in (_pooled_conv.conv_norm_pool, conv_norm_pool):
        conv, norm = layers(1, 6)
        optimizer = torch.optim.SGD([*conv.parameters(), *norm.parameters()], lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            function(images, conv, norm).square().mean().backward()
            optimizer.step()
        results.append([*conv.parameters(), *norm.parameters(), *norm.buffers()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


TRAIN = """
import torch
from torch import nn
from adamwprune.models._pooled_conv_cpu import conv_norm_pool
def step():
    conv_norm_pool(torch.randn(24, 1, 8, 8), nn.Conv2d(1, 2, 5), nn.BatchNorm2d(2)).sum().backward()
torch.set_num_threads(2)
step()
"""


def started(cache):
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "NUMBA_CACHE_DIR": ""}
    return subprocess.Popen([sys.executable, "-c", TRAIN], env=environment)


def test_code_is_kept_for_other_processes_that_may_start_at_once(tmp_path):
    processes = [started(tmp_path), started(tmp_path)]
    assert [process.wait(timeout=200) for process in processes] == [0, 0]
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert len(kept) == 4, "one of each kernel"
    assert started(tmp_path).wait(timeout=100) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == kept


def test_without_a_place_for_code_it_is_compiled_each_time(tmp_path):
    (tmp_path / "file").touch()
    assert started(tmp_path / "file").wait(timeout=200) == 0


PRUNED = {"OPTIMIZER": "adamw", "PRUNING_METHOD": "state", "TARGET_SPARSITY": "0.9"}


def test_a_run_trains_by_them_and_goes_on_to_the_same_bits(train, monkeypatch):
    (spec,), (usual,) = specs(**PRUNED, LENET5_NUMBA="y"), specs(**PRUNED)
    assert spec.run_id != usual.run_id, "it rounds otherwise"
    calls = []
    monkeypatch.setattr(
        _pooled_conv_cpu,
        "conv_norm_pool",
        lambda *a, **k: calls.append(1) or conv_norm_pool(*a, **k),
    )
    whole = train(spec, name="whole")
    assert len(calls) == 2 * spec.total_steps
    assert whole.pruning["zeros"] == whole.pruning["k"]
    assert "note" not in whole.environment["attempts"][0]
    assert whole.environment["packages"]["numba"]
    without = train(usual, name="without")
    assert whole.final["train_loss"] == pytest.approx(without.final["train_loss"], rel=0.05)
    with pytest.raises(Killed):
        train(spec, killer(9), checkpoint_seconds=0)
    assert record(train(spec)) == record(whole)


def test_without_numba_a_run_trains_as_before_and_says_so(train, monkeypatch):
    monkeypatch.delattr(models, "_pooled_conv_cpu")
    monkeypatch.setitem(sys.modules, "adamwprune.models._pooled_conv_cpu", None)
    events = []
    result = train(specs(LENET5_NUMBA="y")[0], events.append)
    (note,) = [e["text"] for e in events if e["event"] == "note" and "NUMBA" in e["text"]]
    assert note.startswith("LENET5_NUMBA: trained without, ")
    assert note.endswith("(pip install 'adamwprune[numba]')")
    assert [attempt["note"] for attempt in result.environment["attempts"]] == [note]
    assert result.weights == train(specs()[0], name="without").weights


def test_they_are_for_training_in_float32_on_a_cpu(monkeypatch):
    def never(*_, **__):
        raise AssertionError("these are another path's")

    monkeypatch.setattr(_pooled_conv_cpu, "conv_norm_pool", never)
    asked = {"LENET5_FUSED": True, "LENET5_NUMBA": True, "LENET5_TRITON": False}
    values = {**asked, "MODEL_WIDTH": 1.0}
    network = lenet5.build(values, Images(1, 32, 10)).module
    images = torch.randn(4, 1, 32, 32)
    network.eval()(images)
    network.train()
    with torch.autocast("cpu", torch.bfloat16):
        network(images)
    with torch.device("meta"):
        lenet5.build(values, Images(1, 32, 10)).module(torch.randn(4, 1, 32, 32))
    with pytest.raises(AssertionError, match="another path"):
        network(images)
