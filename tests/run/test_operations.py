"""Multiply-adds: by hand, by published figures, dense and left."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adamwprune.models.lenet5 import FusedLeNet5, LeNet5
from adamwprune.pruning.prunable import Prunable
from adamwprune.run import gpu_peaks, operations
from adamwprune.run.operations import Operations
from tests.support.runs import specs

LENET5 = {
    "conv1.weight": 28 * 28 * 6 * 25,
    "conv2.weight": 10 * 10 * 16 * 150,
    "fc1.weight": 400 * 120,
    "fc2.weight": 120 * 84,
    "fc3.weight": 84 * 10,
}


def counted(make, *shape, dtype=torch.float32):
    network = make()
    inputs = torch.zeros(1, *shape, dtype=dtype)
    return operations.count(network, inputs, Prunable(network).weights)


@pytest.mark.parametrize("network", [LeNet5, FusedLeNet5])
def test_lenet5_by_hand(network):
    found = counted(network, 1, 32, 32)
    assert found == Operations(416_520, LENET5)


class Resnet20(nn.Module):
    """As He et al. 2015 (arXiv 1512.03385, section 4.2) draw it, with shortcuts of padding."""

    def __init__(self):
        super().__init__()
        widths = [16] * 6 + [32] * 6 + [64] * 6
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, now, 3, 1 + (before < now), 1, bias=False)
            for before, now in zip([16, *widths], widths, strict=False)
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = self.stem(x)
        for conv in self.convs:
            x = conv(x)
        return self.head(x.mean((2, 3)))


def test_resnet20_has_the_published_41_million():
    stem, layer = 1024 * 27 * 16, 1024 * 9 * 16 * 16  # a layer has as many in all three widths
    halving = layer // 2  # with half of the input's channels
    assert counted(Resnet20, 3, 32, 32).total == stem + 16 * layer + 2 * halving + 640 == 40_551_040


class Block(nn.Module):
    """Of a GPT: attention over a whole projection, and two layers of four times the width."""

    def __init__(self, width=64, heads=4):
        super().__init__()
        self.heads = heads
        self.wte, self.qkv = nn.Embedding(100, width), nn.Linear(width, 3 * width)
        self.out, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens):
        x = self.wte(tokens)
        n, block, width = x.shape
        parts = self.qkv(self.norm(x)).view(n, block, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*parts.unbind(0), is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, block, width))
        return F.linear(x + self.down(F.gelu(self.up(x))), self.wte.weight)


def test_a_gpt_takes_two_flops_a_weight_and_token_and_its_attention():
    """Training takes 3 times that: the field's 6N a token (Kaplan et al., arXiv 2001.08361)."""
    block, width = 16, 64
    found = counted(Block, block, dtype=torch.long)
    assert found.by_layer == {
        f"{name}.weight": block * n * width * width
        for name, n in {"qkv": 3, "out": 1, "up": 4, "down": 4}.items()
    }
    head, attention = block * 100 * width, 2 * block * block * width
    assert found.total == sum(found.by_layer.values()) + head + attention


def test_a_projection_of_attention_counts_as_its_weights():
    found = counted(Attention, 5, 32)
    assert found.by_layer == {
        "attention.in_proj_weight": 5 * 3 * 32 * 32,
        "attention.out_proj.weight": 5 * 32 * 32,
    }


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=True)[0]


def test_training_costs_what_each_layer_s_own_masks_leave():
    """Of 900 prunable multiply-adds 600 lie in a layer that is a tenth dense, 300 in a half one."""
    found = Operations(1000, {"a": 600, "b": 300})
    layers = [{"name": "a", "density": 0.1}, {"name": "b", "density": 0.5}]
    said = operations.record(found, layers, 0.4, 10, means={"a": 0.1, "b": 0.5})
    assert said["training_flops_sparse"] == 6 * (100 + 60 + 150) * 10
    assert [layer["mean_density"] for layer in said["layers"]] == [0.1, 0.5]


def test_densities_of_layers_over_a_training():
    """Two layers of four weights over ten steps; updates after steps 2 and 6."""
    pruner = SimpleNamespace(updates=[], numels={"a": 4, "b": 4}, steps=10, taken=0)
    pruner.layers = lambda: [{"zeros": zeros} for zeros in now]
    found = operations.Densities(pruner)
    for step, now in ((1, [0, 0]), (2, [2, 0]), (3, [2, 0]), (6, [4, 1]), (10, [4, 1])):
        if step in (2, 6):
            pruner.updates.append({"step": step, "zeros": sum(now)})
        found.look()
        if step == 3:  # a checkpoint between
            found = operations.Densities(pruner, json.loads(json.dumps(found.to_json())))
    assert found.means() == {
        "a": pytest.approx(1 - (4 * 2 + 4 * 4) / 40),
        "b": pytest.approx(1 - 4 * 1 / 40),
    }
    assert operations.Densities(pruner).means() is None  # resumed from what did not count them


def test_what_is_left_and_what_training_took():
    """Of 1,000 multiply-adds 600 and 300 are prunable; 10% and 50% of them are left."""
    found = Operations(1000, {"a": 600, "b": 300})
    layers = [{"name": "a", "density": 0.1}, {"name": "b", "density": 0.5}]
    assert operations.record(found, layers, mean_density=0.4, examples=10) == {
        "multiply_adds": 1000,
        "multiply_adds_left": 100 + 60 + 150,
        "layers": [{"name": "a", "multiply_adds": 600}, {"name": "b", "multiply_adds": 300}],
        "training_flops": 6 * 1000 * 10,
        "training_flops_sparse": 6 * (100 + 360) * 10,
    }


def test_a_network_that_does_what_it_likes_is_not_counted_and_ends_no_run(caplog):
    class Broken(nn.Module):
        def forward(self, inputs):
            raise RuntimeError("it asks for a number")

    assert operations.operations_of(Broken(), torch.zeros(1), {}) is None
    (spec,) = specs(OPTIMIZER="sgd", PRUNING_METHOD="none")
    outcome = {"pruning": {}, "speed": {}}
    assert operations.added(outcome, None, spec, "cpu") == outcome
    assert "it asks for a number" in caplog.text


def test_the_share_of_a_peak():
    assert gpu_peaks.share("NVIDIA H100 80GB HBM3", "bf16", 494.7e12) == pytest.approx(0.5)
    assert gpu_peaks.share("NVIDIA H100 PCIe", "tf32", 378e12) == 1.0
    assert gpu_peaks.share("NVIDIA H200", "float32", 6.7e12) == pytest.approx(0.1)
    for unknown in ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA A10G", "AMD EPYC", "NVIDIA L40"):
        assert gpu_peaks.share(unknown, "bf16", 1e12) is None
    assert gpu_peaks.share("Tesla T4", "bf16", 1e12) is None, "it has no bfloat16"
    (spec,) = specs(OPTIMIZER="sgd", PRUNING_METHOD="none")
    counted = Operations(1000, {"a": 900})
    outcome = {
        "pruning": {"layers": [{"name": "a", "density": 1.0}], "mean_density": 1.0},
        "speed": {"examples": 100, "examples_per_second": 50.0},
    }
    found = operations.added(outcome, counted, spec, "NVIDIA H200")
    assert found["speed"]["flops_per_second"] == 6 * 1000 * 50
    assert found["speed"]["share_of_peak"] == pytest.approx(300 * 1000 / 67e12)
    assert "share_of_peak" not in operations.added(outcome, counted, spec, "AMD EPYC")["speed"]
