"""From the options to the pruner: what each resolves to, and what is refused before training."""

from __future__ import annotations

import pytest

from adamwprune import optimizers, pruning
from adamwprune.base.errors import ConfigError
from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.plan import feasible
from adamwprune.plan.matrix import expand
from adamwprune.plan.shapes import prunable_shapes
from adamwprune.plan.spec import RunSpec
from adamwprune.pruning import Pruner
from adamwprune.train.data import network_for


def specs(**settings: str) -> list[RunSpec]:
    tree = Tree()
    settings = {"OPTIMIZER": "adamw", "PRUNING_METHOD": "magnitude", **settings}
    strict.apply(tree, strict.command_line(tree, settings, "test"))
    return expand(tree).specs


def build(spec: RunSpec) -> Pruner:
    """The pruner of a run, as training puts it together."""
    model = network_for(spec.settings).module
    optimizer = optimizers.build(spec["OPTIMIZER"], model.parameters(), spec.values)
    ramp_end = spec.ramp_end_step if "PRUNING_RAMP_END" in spec else 0
    return pruning.build(model, spec.settings, ramp_end).attach(optimizer)


def test_every_option_reaches_the_pruner():
    (spec,) = specs(PRUNING_SCOPE="erk", PRUNING_FLOOR="200", MASK_STORAGE="bits")
    pruner = build(spec)
    assert type(pruner.scope).__name__ == "Erk"
    assert type(pruner.masks).__name__ == "Bits"
    assert pruner.scope.floor == 200
    assert pruner.scope.target_k == 55_323
    (random,) = specs(PRUNING_METHOD="random", SEED="7")
    assert build(random).score.seed == 7
    (seed,) = specs(PRUNING_METHOD="movement-seed")
    pruner = build(seed)
    assert sum(t.nbytes for t in pruner.buffers()["initial_weights"]) == 245_880


def test_the_first_and_the_last_layer_may_be_left_out():
    (spec,) = specs(PRUNE_FIRST_LAYER="n", PRUNE_LAST_LAYER="n")
    network = network_for(spec.settings)
    pruner = pruning.build(network.module, spec.settings, spec.ramp_end_step)
    assert list(pruner.weights) == ["conv2.weight", "fc1.weight", "fc2.weight"]
    record = pruner.record()
    assert {"name": "fc3.weight", "reason": "the last layer"} in record["left_out"]
    assert (record["prunable"], record["parameters"]) == (60_480, 61_750)
    assert prunable_shapes(spec) == [(16, 6, 5, 5), (120, 400), (84, 120)]
    (whole,) = specs()
    assert whole["PRUNE_FIRST_LAYER"] is True
    old = {n: v for n, v in whole.values.items() if n not in ("PRUNE_FIRST_LAYER",)}
    assert RunSpec(old).run_id == whole.run_id != spec.run_id


@pytest.mark.parametrize("method", ["magnitude", "movement-seed", "random", "state", "movement"])
def test_masks_are_stored_as_the_method_presets(method):
    (spec,) = specs(PRUNING_METHOD=method)
    assert spec["MASK_STORAGE"] == ("implied" if method == "state" else "bool")


@pytest.mark.parametrize("optimizer", ["adamw", "adamwprune"])
@pytest.mark.parametrize("method", Tree().families["PRUNING_METHOD"].members)
def test_kconfig_and_the_class_say_the_same_of_a_method(method, optimizer):
    """Also where a method means another one: movement under adamwprune is pruning by state."""
    tree = Tree()
    settings = {"OPTIMIZER": optimizer, "PRUNING_METHOD": method}
    strict.apply(tree, strict.command_line(tree, settings, "test"))
    (spec,) = expand(tree).specs
    score = build(spec).score
    for name in ("prunes", "returns", "regrows", "scores_untrained", "starts_sparse"):
        if score.prunes or name == "prunes":
            assert tree.is_on(name.upper()) == getattr(score, name), name


def test_without_a_floor_a_run_is_the_one_it_was():
    (spec,) = specs()
    old = {name: value for name, value in spec.values.items() if name != "PRUNING_FLOOR"}
    assert spec["PRUNING_FLOOR"] == 0
    assert RunSpec(old).run_id == spec.run_id
    (floored,) = specs(PRUNING_FLOOR="1")
    assert floored.run_id != spec.run_id


def test_a_one_shot_has_no_ramp():
    (spec,) = specs(PRUNING_SCHEDULE="one-shot", PRUNING_WARMUP="300")
    assert not {"PRUNING_INTERVAL", "PRUNING_RAMP_END"} & set(spec.values)
    assert spec.ramp_end_step == 300
    schedule = build(spec).schedule
    assert [t for t in range(1, spec.total_steps) if schedule.is_due(t)] == [300]
    assert (schedule.sparsity(299), schedule.sparsity(300)) == (0.0, 0.9)
    with pytest.raises(ConfigError, match=r"PRUNING_INTERVAL=50: depends on !PRUNING_SCHEDULE_ONE"):
        specs(PRUNING_SCHEDULE="one-shot", PRUNING_INTERVAL="50")


@pytest.mark.parametrize(
    ("warmup", "more", "last"),
    [("0", {}, 1180), ("1181", {}, 1180), ("1161", {"SPAM_MODE": "paper"}, 1160)],
)
def test_a_one_shot_lies_within_training(warmup, more, last):
    """Where momentum is reset it may have to wait 20 steps, and these must be there."""
    settings = {"PRUNING_SCHEDULE": "one-shot", **more}
    with pytest.raises(ConfigError, match=rf"PRUNING_WARMUP={warmup}: .* one of 1 to {last}$"):
        specs(PRUNING_WARMUP=warmup, **settings)
    specs(PRUNING_WARMUP=str(last), **settings)


def test_two_of_four_has_a_sparsity_of_its_own():
    (spec,) = specs(PRUNING_SCOPE="2-4")
    assert spec.sparsity == spec["TARGET_SPARSITY"] == 0.5
    pruner = build(spec)
    assert pruner.record()["requested"] == 0.5
    assert pruner.scope.target_k == 29_460
    with pytest.raises(ConfigError, match=r"TARGET_SPARSITY=0.9: depends on !PRUNING_SCOPE_2_4"):
        specs(PRUNING_SCOPE="2-4", TARGET_SPARSITY="0.9")


def test_a_floor_that_leaves_no_room_is_refused():
    with pytest.raises(ConfigError, match="PRUNING_FLOOR=1: TARGET_SPARSITY=1 keeps no weight"):
        specs(PRUNING_FLOOR="1", TARGET_SPARSITY="1")
    (spec,) = specs(PRUNING_FLOOR="1", TARGET_SPARSITY="0.5 1")
    assert spec.sparsity == 0.5
    # Three layers have fewer weights than 3,000: 150 + 840 + 2,400 + 2·3,000 are kept of 61,470.
    with pytest.raises(ConfigError, match=r"at most 52080 of 61470 can be pruned, .* needs 55323"):
        specs(PRUNING_FLOOR="3000")
    with pytest.raises(ConfigError, match=r"PRUNING_FLOOR=421: 2:4 keeps 420 weights of a layer"):
        specs(PRUNING_FLOOR="421", PRUNING_SCOPE="2-4")


@pytest.mark.parametrize("scope", ["global", "layer", "erk", "2-4"])
def test_planning_refuses_just_what_pruning_would(scope):
    """At the last floor that can be reached, at the first that cannot, and far from both."""
    (spec,) = specs(PRUNING_SCOPE=scope)
    shapes = prunable_shapes(spec)
    verdicts = set()
    for target in [0.5] if scope == "2-4" else [0.0, 0.15, 0.5, 0.9, 0.999, 1.0]:
        for floor in [0, 1, 10, 420, 421, 1866, 1867, 12000, 24157, 48000, 48001, 10**6]:
            values = {"TARGET_SPARSITY": target, "PRUNING_FLOOR": floor}
            cell = RunSpec({**spec.values, **values})
            try:
                build(cell)
                refused = False
            except ValueError:
                refused = True
            assert bool(feasible.problems(cell, lambda _: shapes)) == refused, values
            verdicts.add(refused)
    assert verdicts == {True, False}


@pytest.mark.parametrize("method", ["set", "rigl"])
def test_regrowth_takes_its_fraction_and_the_seed(method):
    (spec,) = specs(PRUNING_METHOD=method, REGROW_FRACTION="0.2", SEED="7")
    score = build(spec).score
    assert (type(score).__name__.lower(), score.fraction) == (method, 0.2)
    assert score._numbers.seed == 7
    assert spec["MASK_STORAGE"] == "bool"
    (other,) = specs(PRUNING_METHOD=method, SEED="7")
    assert (other["REGROW_FRACTION"], other.run_id == spec.run_id) == (0.3, False)
    with pytest.raises(ConfigError, match=r"REGROW_FRACTION=0\.2: depends on REGROWS"):
        specs(REGROW_FRACTION="0.2")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"MASK_STORAGE": "implied"}, "nothing but a stored mask tells it from a pruned one"),
        ({"PRUNING_SCOPE": "2-4"}, "break the pattern of two in four"),
        ({"PRUNING_SCHEDULE": "one-shot"}, "in the last update nothing is grown"),
    ],
    ids=["implied", "2-4", "one-shot"],
)
@pytest.mark.parametrize("method", ["set", "rigl"])
def test_what_regrowth_does_not_go_with_is_dropped_with_its_reason(method, settings, why):
    with pytest.raises(ConfigError, match=why):
        specs(PRUNING_METHOD=method, **settings)
    (spec,) = specs(PRUNING_METHOD=f"magnitude {method}", **settings)
    assert spec["PRUNING_METHOD"] == "magnitude", "the others stay"


@pytest.mark.parametrize("method", ["magnitude", "random", "set", "rigl"])
def test_a_constant_sparsity_has_no_warm_up(method):
    (spec,) = specs(
        PRUNING_METHOD=method, PRUNING_SCHEDULE="constant", PRUNING_RAMP_END="0.75",
        PRUNING_INTERVAL="100",
    )  # fmt: skip
    assert "PRUNING_WARMUP" not in spec.values
    pruner = build(spec)
    assert pruner.k == pruner.zeros() == 55_323, "before the first step"
    due = [t for t in range(1, spec.total_steps) if pruner.schedule.is_due(t)]
    assert due == [100, 200, 300, 400, 500, 600, 700, 800, 885]
    with pytest.raises(ConfigError, match="PRUNING_WARMUP=3: depends on !PRUNING_SCHEDULE_CONS"):
        specs(PRUNING_SCHEDULE="constant", PRUNING_WARMUP="3")


@pytest.mark.parametrize("method", ["movement", "movement-seed", "state"])
def test_what_scores_training_is_not_for_a_constant_sparsity(method):
    with pytest.raises(ConfigError, match="before the first step, where this method has nothing"):
        specs(PRUNING_METHOD=method, PRUNING_SCHEDULE="constant")
