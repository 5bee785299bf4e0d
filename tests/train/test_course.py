"""Bytes over the steps of a run, of packed states and released gradients too."""

from __future__ import annotations

import pytest

from adamwprune.base.errors import ConfigError
from tests.support.runs import specs

WEIGHTS, BUFFERS, LARGEST = 247_000, 192, 4 * 48_000
PRUNED = {"OPTIMIZER": "adamw", "PRUNING_METHOD": "state", "PRUNING_RAMP_END": "0.5"}
RELEASED = {**PRUNED, "MASK_STORAGE": "packed", "RELEASE_GRADIENTS": "y"}


def ran(train, name, **settings):
    (spec,) = specs(**settings)
    return train(spec, name=name)


def bits(result):
    """Of every value but seconds."""
    epochs = [{k: v for k, v in e.items() if k != "seconds"} for e in result.history]
    return epochs, result.weights


def test_dense_training_takes_the_same_in_every_step(train):
    memory = ran(train, "dense", OPTIMIZER="adamw").memory
    assert memory["course"]["step"] == [1]
    assert memory["course"]["total"] == [memory["total"]] == [memory["peak"]]
    assert memory["course"]["gradients"] == [WEIGHTS]


def test_packed_states_shrink_with_each_update_and_change_no_number(train):
    kept = ran(train, "implied", **PRUNED)
    packed = ran(train, "packed", **PRUNED, MASK_STORAGE="packed")
    released = ran(train, "released", **RELEASED)
    assert bits(kept) == bits(packed) == bits(released)
    for other in (packed, released):  # a sum over all, in another order
        assert other.trace["norm"] == pytest.approx(kept.trace["norm"], rel=1e-5)
    memory = packed.memory
    updates = [update["step"] for update in packed.pruning["updates"]]
    assert memory["course"]["step"] == [1, *updates]
    totals = memory["course"]["total"]
    assert totals[0] == memory["peak"] == kept.memory["total"], "the first step is a dense one"
    assert totals == sorted(totals, reverse=True) or totals[1] - totals[0] <= 7_684, "bits first"
    assert totals[-1] == memory["total"] < 0.59 * kept.memory["total"]
    layers = [
        (layer["numel"], layer["numel"] - layer["zeros"]) for layer in packed.pruning["layers"]
    ]
    index = sum(4 * live if 2 * live <= numel else -(-numel // 8) for numel, live in layers)
    assert memory["pruner"] == {"masks": index}


def test_released_one_gradient_is_counted(train):
    memory = ran(train, "released", **RELEASED).memory
    assert memory["gradients"] == LARGEST
    assert set(memory["course"]["gradients"]) == {LARGEST}
    own = sum(memory["optimizer"].values()) + sum(memory["pruner"].values())
    assert memory["total"] == WEIGHTS + BUFFERS + LARGEST + own
    assert (own + WEIGHTS) / 61_470 < 5.3, "with what biases and counters take"


def test_sparse_from_the_start_the_peak_is_lower(train):
    dense = ran(train, "dense", OPTIMIZER="adamw").memory
    memory = ran(train, "sparse", **RELEASED, INITIAL_SPARSITY="0.7").memory
    assert memory["peak"] == memory["course"]["total"][0]
    assert memory["total"] < memory["peak"] < 0.7 * dense["peak"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"ACCUMULATION": "2"}, "ACCUMULATION=2 adds up"),
        ({"MAX_GRAD_NORM": "1"}, r"MAX_GRAD_NORM=1 \(0: off\) clips"),
        ({"OPTIMIZER": "adamwspam", "MAX_GRAD_NORM": "0"}, "SPAM_MODE=zscore looks"),
    ],
)
def test_what_needs_all_gradients_is_refused_before_it_starts(settings, reason):
    with pytest.raises(ConfigError, match=rf"RELEASE_GRADIENTS: {reason}.* all gradients at once"):
        specs(**{"OPTIMIZER": "adamw", "RELEASE_GRADIENTS": "y", **settings})


def test_an_initial_sparsity_of_a_method_with_nothing_to_score_by_is_refused():
    with pytest.raises(ConfigError, match="movement: An initial sparsity prunes before the first"):
        specs(OPTIMIZER="adamw", PRUNING_METHOD="movement", INITIAL_SPARSITY="0.5")
    both = specs(OPTIMIZER="adamw", PRUNING_METHOD="movement state", INITIAL_SPARSITY="0.5")
    assert [spec["PRUNING_METHOD"] for spec in both] == ["state"]


def test_an_initial_sparsity_above_the_target_is_refused():
    with pytest.raises(ConfigError, match=r"INITIAL_SPARSITY=0\.95 is above the target"):
        specs(**PRUNED, INITIAL_SPARSITY="0.95")
