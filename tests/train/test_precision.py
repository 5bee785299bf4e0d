"""Precision and memory format: what computes in them, and what must not change by them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adamwprune.base.errors import UserError
from adamwprune.tasks import Sums
from adamwprune.train import precision
from adamwprune.train.loop import Training
from tests.support.runs import specs


@pytest.fixture
def has_bf16(monkeypatch):
    """As on a processor with bfloat16 instructions; another one emulates them."""
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: True)


class Watch:
    def stepped(self, training):
        pass

    def evaluated(self, training, entry):
        pass


def trained(**settings: str) -> Training:
    (spec,) = specs(LENET5_FUSED="n", STEPS="6", **settings)
    torch.set_num_threads(1)
    training = Training(spec, Path("/nowhere"), "cpu")
    training.train(Watch())
    return training


def test_under_bf16_weights_gradients_states_and_the_loss_are_float32(has_bf16):
    training = trained(PRECISION="bf16", OPTIMIZER="adamw")
    batch = training.data.batch(training.order.next())
    seen = {}

    def look(module, inputs, output):
        seen[type(module).__name__] = output.dtype

    handles = [module.register_forward_hook(look) for module in training.model.modules()]
    loss, output = training.task.loss(training.network, batch)
    for handle in handles:
        handle.remove()
    assert seen["Conv2d"] == seen["Linear"] == torch.bfloat16
    assert (loss.dtype, output.dtype) == (torch.float32, torch.float32)
    loss.backward()
    for param in training.model.parameters():
        assert param.dtype == param.grad.dtype == torch.float32
        assert training.optimizer.state[param]["exp_avg_sq"].dtype == torch.float32
    sums = Sums(training.task.totals, training.device)
    training.task.observe(sums, batch, loss.detach(), output.detach())


def test_bf16_ends_near_float32(has_bf16):
    one, other = trained(PRECISION="bf16"), trained()
    assert one.history[-1]["test_loss"] != other.history[-1]["test_loss"]
    assert one.history[-1]["test_loss"] == pytest.approx(other.history[-1]["test_loss"], rel=0.02)


def test_bf16_is_refused_where_the_processor_would_emulate_it(monkeypatch):
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: False)
    with pytest.raises(UserError, match="this processor has no bfloat16 instructions"):
        trained(PRECISION="bf16")


@pytest.mark.parametrize(("optimizer", "atol"), [("sgd", 1e-4), ("adamw", 1e-2)])
def test_channels_last_is_the_same_training_summed_in_another_order(optimizer, atol):
    """Adam's first steps are of the gradient's sign, also where that is all rounding."""
    one = trained(MEMORY_FORMAT="channels-last", OPTIMIZER=optimizer)
    other = trained(OPTIMIZER=optimizer)
    assert one.model.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    for name, weight in one.model.state_dict().items():
        torch.testing.assert_close(weight, other.model.state_dict()[name], rtol=1e-3, atol=atol)


def test_decay_of_matrices_alone_leaves_biases_and_normalisation():
    training = trained(DECAYED="matrices", WEIGHT_DECAY="0.5", OPTIMIZER="adamw")
    matrices, others = training.optimizer.param_groups
    assert {param.dim() for param in matrices["params"]} == {2, 4}
    assert {param.dim() for param in others["params"]} == {1}
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    assert {id(p) for p in training.model.parameters()} == {
        id(p) for group in training.optimizer.param_groups for p in group["params"]
    }


def test_tf32_is_asked_for_on_a_gpu_alone():
    (spec,) = specs(PRECISION="tf32")
    precision.prepare(spec, torch.device("cuda"))
    assert torch.get_float32_matmul_precision() == "high"
    precision.prepare(spec, torch.device("cpu"))
    assert torch.get_float32_matmul_precision() == "highest"
