"""Residual networks on varied images: exactly k weights pruned, and a run goes on to the bit."""

from __future__ import annotations

import pytest
import torch

from adamwprune.base.sparsity import count
from adamwprune.train.loop import Training
from tests.support.runs import specs

RUN = {
    "MODEL": "resnet8",
    "AUGMENT": "crop-flip",
    "BATCH_SIZE": "16",
    "STEPS": "8",
    "EVALUATION_INTERVAL": "8",
    "VALIDATION_EXAMPLES": "3900",
    "PRUNING_WARMUP": "2",
    "PRUNING_INTERVAL": "2",
    "TARGET_SPARSITY": "0.9",
}


class Nobody:
    """Looks on and does nothing; keeps the state after half of the steps."""

    def __init__(self) -> None:
        self.half: dict[str, object] = {}

    def stepped(self, training) -> None:
        if training.step == 4:
            self.half = _copied(training.state_dict())

    def evaluated(self, training, entry) -> None:
        pass


def _copied(state):
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {name: _copied(value) for name, value in state.items()}
    return [_copied(each) for each in state] if isinstance(state, list) else state


@pytest.mark.slow  # trains
@pytest.mark.parametrize(
    ("optimizer", "method", "scope"),
    [("adamwprune", "state", "global"), ("sgd", "magnitude", "erk"), ("adamw", "rigl", "layer")],
)
def test_exactly_k_and_the_same_bits_when_it_goes_on(optimizer, method, scope, tmp_path):
    (spec,) = specs(OPTIMIZER=optimizer, PRUNING_METHOD=method, PRUNING_SCOPE=scope, **RUN)
    assert spec["AUGMENT"] == "crop-flip"
    watch, whole = Nobody(), Training(spec, tmp_path, "cpu")
    whole.train(watch)
    pruning = whole.outcome()["pruning"]
    assert pruning["prunable"] == 3 * 3 * 16 + 74_800 - 3 * 3 * 3 * 16, "one channel, not three"
    assert pruning["k"] == count(0.9, pruning["prunable"])
    assert pruning["zeros"] >= pruning["k"]
    later = Training(spec, tmp_path, "cpu")
    later.load_state_dict(watch.half)
    later.train(Nobody())
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, later.model.state_dict()[name]), name
