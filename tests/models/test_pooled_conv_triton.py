"""LeNet-5's kernels for a GPU: right by Triton's interpreter, compiled, and left out where missing.

Only with a GPU do they run as they are compiled; the same cases are then tried there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("triton")

from adamwprune import models
from adamwprune.base.kinds import Images
from adamwprune.models import lenet5
from adamwprune.models._pooled_conv_triton import conv_norm_pool
from tests.support import kernels
from tests.support.runs import specs

CASES = Path(__file__).with_name("pooled_conv_triton_cases.py")
ASKED = {"LENET5_FUSED": True, "LENET5_NUMBA": False, "LENET5_TRITON": True, "MODEL_WIDTH": 1.0}
MNIST = Images(1, 28, 10)


@pytest.mark.slow
@pytest.mark.parametrize("interpreted", kernels.WAYS)
def test_the_cases(interpreted):
    kernels.run_cases(CASES, interpreted)


def launches(n, channels, outputs, side, **settings):
    """What a forward and a backward pass would launch."""
    with kernels.noted() as found:
        conv, norm = nn.Conv2d(channels, outputs, 5, **settings), nn.BatchNorm2d(outputs)
        images = torch.zeros(n, channels, side, side, requires_grad=channels > 1)
        conv_norm_pool(images, conv, norm, relu=True).sum().backward()
    return found


def test_both_layers_take_seventeen_launches():
    both = [*launches(512, 1, 6, 32), *launches(512, 6, 16, 14)]
    forward = [kernel.__name__ for kernel, _ in both[:3]]
    assert forward == ["_convolve", "_moments", "_finish"]
    assert len(both) == 6 + 11


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("shape", [(512, 1, 6, 32), (512, 6, 16, 14), (96, 12, 31, 14)])
def test_all_kernels_compile_and_keep_their_numbers_in_registers(
    shape, architecture, tmp_path, monkeypatch
):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for kernel, arguments in launches(*shape, bias=shape[1] != 12):
        code, resources = kernels.compiled(kernel, arguments, architecture, tmp_path)
        assert "0 bytes spill stores, 0 bytes spill loads" in resources, kernel.__name__
        assert "atom" not in code, "sums would depend on who comes first"
        assert "tf32" not in code


@pytest.fixture
def a_gpu(monkeypatch):
    """One that can be counted."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


def test_it_is_an_option_of_a_run_s_identity():
    (asked,), (usual,) = specs(LENET5_TRITON="y"), specs()
    assert asked["LENET5_TRITON"] is True
    assert asked.run_id != usual.run_id, "it rounds otherwise"


def test_a_network_has_the_kernels_that_are_asked_for(a_gpu):
    model = lenet5.build(ASKED, MNIST)
    assert (model.module.devices, model.note) == ({"cuda"}, "")
    usual = lenet5.build({**ASKED, "LENET5_TRITON": False}, MNIST)
    assert type(usual.module) is lenet5.FusedLeNet5
    pytest.importorskip("numba")
    assert lenet5.build({**ASKED, "LENET5_NUMBA": True}, MNIST).module.devices == {"cpu", "cuda"}


def test_without_a_gpu_nothing_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(lenet5, "_missing", lambda device: "nobody asks")
    model = lenet5.build(ASKED, MNIST)
    assert (type(model.module), model.note) == (lenet5.FusedLeNet5, "")


def test_without_triton_a_run_trains_as_before_and_says_so(a_gpu, train, monkeypatch):
    monkeypatch.delattr(models, "_pooled_conv_triton")
    monkeypatch.setitem(sys.modules, "adamwprune.models._pooled_conv_triton", None)
    events = []
    result = train(specs(LENET5_TRITON="y")[0], events.append)
    (note,) = [e["text"] for e in events if e["event"] == "note" and "TRITON" in e["text"]]
    assert note.startswith("LENET5_TRITON: trained without, ")
    assert note.endswith("(pip install triton)")
    assert [attempt["note"] for attempt in result.environment["attempts"]] == [note]
    assert result.weights == train(specs()[0], name="without").weights


def test_without_a_compiler_too(a_gpu, monkeypatch):
    monkeypatch.setattr(lenet5, "missing_for_triton", lambda: "no C compiler (CC, gcc or clang)")
    model = lenet5.build(ASKED, MNIST)
    assert type(model.module) is lenet5.FusedLeNet5
    assert model.note == "LENET5_TRITON: trained without, no C compiler (CC, gcc or clang)"


def test_they_are_for_training_in_float32_on_their_device(monkeypatch):
    class Used(Exception):
        pass

    def kernels(device):
        raise Used

    monkeypatch.setattr(lenet5, "_kernels", kernels)
    images = torch.zeros(4, 1, 32, 32)
    lenet5.KernelLeNet5(1, 10, 1.0, frozenset({"cuda"}))(images)
    network = lenet5.KernelLeNet5(1, 10, 1.0, frozenset({"cpu"}))
    with pytest.raises(Used):
        network(images)
    network.eval()(images)
    network.train()
    with torch.autocast("cpu", torch.bfloat16):
        network(images)
    network.double()(images.double())
