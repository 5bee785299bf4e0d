"""From a configuration to its runs: axes, dropped cells, presets, and commands that repeat one."""

from __future__ import annotations

import random
import shlex
from collections import Counter
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from adamwprune.base.errors import ConfigError
from adamwprune.config import flags, sources, strict
from adamwprune.config.draw import draw
from adamwprune.config.options import Type
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree
from adamwprune.plan import matrix
from adamwprune.plan.matrix import Matrix
from adamwprune.plan.spec import RunSpec

ALL = "sgd adam adamw adamwadv adamwspam adamwprune"


def expand(**settings: str) -> Matrix:
    """The matrix of the tree's defaults with settings on top."""
    tree = Tree()
    sources.override(tree, settings)
    return matrix.expand(tree)


def by_optimizer(name: str, **settings: str) -> dict[str, object]:
    """What an option resolves to in the dense cell of each optimizer; absent where it is not."""
    specs = expand(OPTIMIZER=ALL, **settings).specs
    return {spec["OPTIMIZER"]: spec[name] for spec in specs if name in spec}


# -- axes ------------------------------------------------------------------------


def test_a_floor_of_a_rate_that_never_falls_makes_no_run() -> None:
    assert by_optimizer("LR_FLOOR", LR_FLOOR="0.1", LR_SCHEDULE="none")["adamw"] == 0
    both = {"OPTIMIZER": "adamw", "PRUNING_METHOD": "none", "LR_FLOOR": "0 0.1"}
    for schedule, runs in (("none", 1), ("cosine", 2), ("linear", 2)):
        assert len(expand(**both, LR_SCHEDULE=schedule).specs) == runs


def test_a_single_run_is_a_matrix_of_one() -> None:
    (spec,) = expand().specs
    assert (spec["MODEL"], spec["DATASET"], spec["OPTIMIZER"]) == ("lenet5", "mnist", "sgd")
    assert "BETA1" not in spec
    assert spec.slug == "lenet5-mnist-sgd-none-s0"


def test_a_dense_run_has_no_sparsity_axis() -> None:
    cells = expand(PRUNING_METHOD="none magnitude", TARGET_SPARSITY="0.5 0.7 0.9").cells
    assert [(cell.spec["PRUNING_METHOD"], cell.spec.sparsity) for cell in cells] == [
        ("none", 0.0),
        ("magnitude", 0.5),
        ("magnitude", 0.7),
        ("magnitude", 0.9),
    ]
    assert "TARGET_SPARSITY" not in cells[0].spec
    assert "PRUNING_WARMUP" not in cells[0].spec


def test_every_list_is_an_axis() -> None:
    specs = expand(LR="0.1 0.2", WEIGHT_DECAY="0 0.1", BATCH_SIZE="64 128", SEED="0 1 2").specs
    points = {
        (spec["LR"], spec["WEIGHT_DECAY"], spec["BATCH_SIZE"], spec["SEED"]) for spec in specs
    }
    assert len(specs) == len(points) == 24


def test_duplicates_are_one_run() -> None:
    assert len(expand(LR="0.01 1e-2 preset", SEED="1 01 1").specs) == 1
    # Under adamwprune, movement resolves to state: the two methods are the same run.
    expanded = expand(OPTIMIZER="adamwprune", PRUNING_METHOD="movement state")
    assert [spec["PRUNING_METHOD"] for spec in expanded.specs] == ["state"]
    assert expanded.notes == ["under adamwprune, PRUNING_METHOD=movement means state"]


def test_state_pruning_under_sgd_is_dropped_with_its_reason() -> None:
    expanded = expand(OPTIMIZER="sgd adamw", PRUNING_METHOD="none state", TARGET_SPARSITY="0.5 0.9")
    found = [(spec["OPTIMIZER"], spec["PRUNING_METHOD"], spec.sparsity) for spec in expanded.specs]
    assert found == [
        ("sgd", "none", 0.0),
        ("adamw", "none", 0.0),
        ("adamw", "state", 0.5),
        ("adamw", "state", 0.9),
    ]
    (dropped,) = expanded.dropped
    assert dropped.label == "lenet5 mnist sgd state"
    assert dropped.reason.startswith("PRUNING_METHOD_STATE depends on HAS_ADAM_STATES")
    assert "(lib/adamwprune/pruning/methods/Kconfig.state:" in dropped.reason


def test_exclusions_drop_cells_with_their_help_text() -> None:
    expanded = expand(
        OPTIMIZER="sgd adamw", PRUNING_METHOD="magnitude movement", MASK_STORAGE="implied"
    )
    assert [(spec["OPTIMIZER"], spec["PRUNING_METHOD"]) for spec in expanded.specs] == [
        ("adamw", "magnitude")
    ]
    reasons = {dropped.label.split(" ", 2)[2]: dropped.reason for dropped in expanded.dropped}
    assert set(reasons) == {"sgd magnitude", "sgd movement", "adamw movement"}
    assert "does not keep" in reasons["sgd magnitude"]
    assert "weights return" in reasons["adamw movement"]
    assert "(lib/adamwprune/pruning/Kconfig:" in reasons["adamw movement"]


def test_of_values_that_contradict_each_other_only_those_are_dropped() -> None:
    expanded = expand(
        PRUNING_METHOD="none magnitude", EPOCHS="1 2 3", SEED="0 1", TARGET_SPARSITY="0.5 0.9"
    )
    found = Counter((spec["PRUNING_METHOD"], spec["EPOCHS"]) for spec in expanded.specs)
    assert found == {
        ("none", 1): 2,
        ("none", 2): 2,
        ("none", 3): 2,
        ("magnitude", 2): 4,
        ("magnitude", 3): 4,
    }
    (dropped,) = expanded.dropped  # not once a seed and sparsity
    assert dropped.label == "lenet5 mnist sgd magnitude"
    assert dropped.reason.startswith("EPOCHS=1: PRUNING_WARMUP=100 does not lie before the end")


def test_where_no_value_of_a_list_does_alone_all_that_differ_are_told() -> None:
    settings = {"PRUNING_METHOD": "magnitude", "EPOCHS": "1 2", "BATCH_SIZE": "128 512"}
    expanded = expand(**settings)
    assert len(expanded.cells) == 3
    (dropped,) = expanded.dropped
    assert dropped.reason.startswith("EPOCHS=1 BATCH_SIZE=512: PRUNING_WARMUP=100 ")


def test_a_cell_s_configuration_takes_no_list_apart(monkeypatch):
    """For each of ten thousand cells that would be a hundred million words."""
    tree = Tree()
    tree.set("SEED", "0 1 2")
    cells = matrix.expand(tree).cells
    monkeypatch.setattr(Type, "split", None)
    texts = [matrix.configs_of(tree, cell)[1] for cell in cells]
    assert ['CONFIG_SEED="1"' in text for text in texts] == [False, True, False]


def test_heads_that_do_not_divide_a_width_are_no_network():
    network = {"MODEL": "gpt", "DATASET": "shakespeare", "GPT_WIDTH": "64 96"}
    expanded = expand(**network, GPT_HEADS="2 3")
    assert [(s["GPT_WIDTH"], s["GPT_HEADS"]) for s in expanded.specs] == [(64, 2), (96, 2), (96, 3)]
    (dropped,) = expanded.dropped
    assert dropped.reason == "GPT_HEADS=3: so many heads do not divide GPT_WIDTH=64"
    with pytest.raises(ConfigError, match="so many heads do not divide GPT_WIDTH=96"):
        expand(**network, GPT_HEADS="5")
    assert expand(**network, GPT_HEADS="5", MODEL_WIDTH="0.5").cells  # rounded to what they divide


def test_a_method_is_not_dropped_as_a_whole_for_its_values() -> None:
    # To train the dense runs only would be to ignore what was asked for.
    with pytest.raises(ConfigError, match="PRUNING_WARMUP=5000 does not lie before the end"):
        expand(PRUNING_METHOD="none magnitude", PRUNING_WARMUP="5000", EPOCHS="1 2")


def test_an_empty_family_is_an_error() -> None:
    tree = Tree()
    tree.set("OPTIMIZER_SGD", "n")
    tree.set("DATASET_MNIST", "n")
    with pytest.raises(ConfigError) as caught:
        matrix.expand(tree)
    assert caught.value.problems == [
        "no member of DATASET is on; switch one on, for example DATASET=mnist",
        "no member of OPTIMIZER is on; switch one on, for example OPTIMIZER=sgd",
    ]


def test_a_matrix_without_a_legal_run_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no legal run is left: lenet5 mnist sgd magnitude"):
        expand(PRUNING_METHOD="magnitude", MASK_STORAGE="implied")


def test_without_a_legal_run_each_reason_is_told_once_whatever_the_lists_hold() -> None:
    with pytest.raises(ConfigError) as refused:
        expand(MODEL="gpt-nano", DATASET="mnist mnist5k", SEED="0 1 2", LR="0.1 preset")
    assert str(refused.value).splitlines() == [
        f"no legal run is left: gpt-nano {data} sgd none: "
        f"gpt-nano takes tokens, {data} gives images"
        for data in ("mnist", "mnist5k")
    ]


def test_expansion_leaves_the_configuration_as_it_was(tree: Tree) -> None:
    sources.load(Workspace({"CONFIG": "memory-comparison"}), tree)
    before = (tree.config(), tree.minimal_config())
    matrix.expand(tree)
    assert (tree.config(), tree.minimal_config()) == before


# -- presets ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "presets"),
    [
        ("LR", [0.01, 0.008, 0.008, 0.008, 0.008, 0.008]),
        ("WEIGHT_DECAY", [0.0, 0.0, 0.0001, 0.01, 0.01, 0.01]),
        ("MAX_GRAD_NORM", [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
        ("LR_SCHEDULE", ["none", "cosine", "cosine", "cosine", "cosine", "cosine"]),
        ("AMSGRAD", [None, "off", "off", "on", "on", "on"]),
        ("SPAM_MODE", [None, "none", "none", "none", "zscore", "zscore"]),
        ("BETA1", [None, 0.9, 0.9, 0.9, 0.9, 0.9]),
    ],
)
def test_presets_are_resolved_in_each_cell(name: str, presets: list[object]) -> None:
    expected = dict(zip(ALL.split(), presets, strict=True))
    assert by_optimizer(name) == {
        key: value for key, value in expected.items() if value is not None
    }


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("LR", "0.5", 0.5),
        ("WEIGHT_DECAY", "0.25", 0.25),
        ("MAX_GRAD_NORM", "3", 3.0),
        ("LR_SCHEDULE", "cosine", "cosine"),
        ("LR_SCHEDULE", "none", "none"),
        ("AMSGRAD", "on", "on"),
        ("AMSGRAD", "off", "off"),
        ("SPAM_MODE", "none", "none"),
        ("SPAM_MODE", "paper", "paper"),
        ("SPAM_MODE", "stable", "stable"),
    ],
)
def test_an_explicit_value_holds_in_every_cell(name: str, text: str, value: object) -> None:
    resolved = by_optimizer(name, **{name: text})
    assert set(resolved.values()) == {value}
    assert len(resolved) == (5 if name in ("AMSGRAD", "SPAM_MODE") else 6)


def test_spam_s_presets_follow_its_mode() -> None:
    names = ("SPAM_THETA", "SPAM_INTERVAL", "SPAM_WARMUP_STEPS", "SPAM_ENABLE_CLIP")
    (zscore,) = expand(OPTIMIZER="adamwspam").specs
    assert [zscore.values.get(name) for name in names] == [None, 0, 0, False]
    (clipped,) = expand(OPTIMIZER="adamwspam", SPAM_ENABLE_CLIP="y").specs
    assert [clipped.values.get(name) for name in names] == [50.0, 0, 0, True]
    (paper,) = expand(OPTIMIZER="adam", SPAM_MODE="paper").specs
    assert [paper.values.get(name) for name in names] == [5000.0, 500, 150, True]
    (stable,) = expand(OPTIMIZER="adam", SPAM_MODE="stable").specs
    assert [stable.values.get(name) for name in names] == [None, 1000, None, None]
    gammas = [stable.values.get(f"SPAM_GAMMA{n}") for n in (1, 2, 3)]
    assert gammas == [0.7, 0.9, 0.999]
    assert not any("GAMMA" in name for spec in (zscore, clipped, paper) for name in spec.values)


def test_what_presets_resolved_to_is_told_once_a_member() -> None:
    found = expand(OPTIMIZER=ALL, PRUNING_METHOD="none movement", DATASET="mnist mnist5k").presets
    members = {"lenet5", "mnist", "mnist5k", "movement", "state"}
    assert set(found) == {*ALL.split(), *members, "every run"}
    assert found["lenet5"] == {"BETA2": [0.999], "EPOCHS": [10]}  # where a recipe might say more
    assert found["sgd"] == {
        "LR": [0.01],
        "WEIGHT_DECAY": [0.0],
        "MAX_GRAD_NORM": [0.0],
        "LR_SCHEDULE": ["none"],
    }
    assert found["adamwspam"] == {
        "LR": [0.008],
        "WEIGHT_DECAY": [0.01],
        "MAX_GRAD_NORM": [1.0],
        "LR_SCHEDULE": ["cosine"],
        "AMSGRAD": ["on"],
        "SPAM_MODE": ["zscore"],
        "SPAM_INTERVAL": [0],
        "SPAM_WARMUP_STEPS": [0],
    }
    assert found["mnist5k"] == {"BATCH_SIZE": [64]}
    assert found["every run"] == {"EPS": [1e-8]}
    assert (found["movement"], found["state"]) == (
        {"MASK_STORAGE": ["bool"]},
        {"MASK_STORAGE": ["implied"]},
    )


def test_what_was_set_is_no_preset() -> None:
    settings = {"LR": "0.001 0.01", "AMSGRAD": "off", "SPAM_MODE": "stable", "BATCH_SIZE": "32"}
    found = expand(OPTIMIZER="adamw", **settings).presets
    assert found == {
        "adamw": {
            "WEIGHT_DECAY": [0.0001],
            "MAX_GRAD_NORM": [0.0],
            "LR_SCHEDULE": ["cosine"],
            "SPAM_INTERVAL": [1000],
        },
        "lenet5": {"BETA2": [0.999], "EPOCHS": [10]},
        "every run": {"EPS": [1e-8]},
    }


def test_half_a_preset_is_told_as_such() -> None:
    """A list may have the word beside numbers, which were set."""
    assert expand(OPTIMIZER="adamw", LR="preset 0.5").presets["adamw"]["LR"] == [0.008]


@pytest.mark.slow
def test_plan_shows_the_presets_compactly(make: Callable[..., CompletedProcess[str]]) -> None:
    shown = make("CONFIG=memory-comparison", "plan").stdout.splitlines()
    lines = [line for line in shown if line.startswith("preset    ")]
    assert [line.split()[1].rstrip(":") for line in lines] == [
        "mnist",
        *ALL.split(),
        *("lenet5", "magnitude", "movement", "state", "every"),
    ]
    assert (
        "preset    adamwadv: LR 0.008, WEIGHT_DECAY 0.01, MAX_GRAD_NORM 1, LR_SCHEDULE cosine, "
        "AMSGRAD on, SPAM_MODE none"
    ) in lines


def test_batch_size_presets_follow_the_data() -> None:
    specs = expand(DATASET="mnist mnist5k").specs
    assert {spec["DATASET"]: spec["BATCH_SIZE"] for spec in specs} == {"mnist": 512, "mnist5k": 64}


@pytest.mark.parametrize("name", ["memory-comparison", "quickstart", "adamw-state-70"])
def test_a_saved_configuration_expands_to_the_same_runs(name: str) -> None:
    tree, again = Tree(), Tree()
    sources.load(Workspace({"CONFIG": name}), tree)
    strict.apply(again, strict.parse_config(tree.config(), "saved", tree))
    assert matrix.expand(again).specs == matrix.expand(tree).specs
    assert again.minimal_config() == tree.minimal_config()


# -- what Kconfig cannot express -------------------------------------------------


def test_a_warm_up_past_the_end_of_the_ramp_is_refused() -> None:
    # 4,000 digits at 64 a batch are 63 steps an epoch; the ramp ends at 0.8 of 126.
    settings = {"DATASET": "mnist5k", "PRUNING_METHOD": "magnitude", "EPOCHS": "2"}
    with pytest.raises(ConfigError, match=r"PRUNING_WARMUP=101 does not lie before .*step 101 "):
        expand(**settings, PRUNING_WARMUP="101")
    (spec,) = expand(**settings, PRUNING_WARMUP="100").specs
    assert (spec.steps_per_epoch, spec.total_steps, spec.ramp_end_step) == (63, 126, 101)


# -- properties ------------------------------------------------------------------


def drawn(seed: int) -> tuple[Tree, Matrix]:
    """A random configuration and its matrix; the first legal one that the seed leads to."""
    rng = random.Random(seed)
    while True:
        tree = Tree()
        draw(tree, rng, ())
        try:
            return tree, matrix.expand(tree)
        except ConfigError:
            continue


def repeated(command: str) -> list[RunSpec]:
    """The runs that a train.py command line asks for."""
    python, script, *words = shlex.split(command)
    assert (python, script) == ("python", "train.py")
    tree = Tree()
    sources.override(tree, flags.parse(tree, words, "").settings)
    return matrix.expand(tree).specs


@hypothesis_settings(max_examples=25)
@given(st.integers(0, 2**32))
@pytest.mark.slow
def test_expansion_is_deterministic(seed: int) -> None:
    tree, expanded = drawn(seed)
    assert matrix.expand(tree) == expanded
    again = Tree()
    strict.apply(again, strict.parse_config(tree.config(), "saved", tree))
    assert matrix.expand(again) == expanded


@hypothesis_settings(max_examples=25)
@given(st.integers(0, 2**32))
@pytest.mark.slow
def test_every_cell_has_a_command_that_is_the_same_run(seed: int) -> None:
    tree, expanded = drawn(seed)
    for cell in expanded.cells[:6]:
        minimal, _ = matrix.configs_of(tree, cell)
        (spec,) = repeated(sources.repeat_command(tree, minimal))
        assert spec.run_id == cell.spec.run_id


def test_a_repeating_command_is_readable() -> None:
    tree = Tree()
    sources.load(Workspace({"CONFIG": "memory-comparison", "JOBS": "2"}), tree)
    cell = matrix.expand(tree).cells[-1]
    minimal, _ = matrix.configs_of(tree, cell)
    assert sources.repeat_command(tree, minimal) == (
        "python train.py --optimizer adamwprune --pruning-method movement"
    )


def test_a_repeating_command_switches_off_what_is_on_by_default(
    tiny: Callable[[str], Tree],
) -> None:
    tree = tiny('config FAST\n\tbool "fast"\n\tdefault y\n\thelp\n\t\tFast.\n')
    tree.set("FAST", "n")
    command = sources.repeat_command(tree, tree.minimal_config())
    assert command == "python train.py --no-fast"
    assert flags.parse(tree, command.split()[2:], "").settings == {"FAST": "n"}


@pytest.mark.parametrize(
    "words",
    [
        {"SEED": "0 1 2", "PRUNING_METHOD": "none magnitude state", "OPTIMIZER": "sgd adam"},
        {
            "STATE_CRITERION": "fisher precond",
            "PRUNING_METHOD": "state magnitude",
            "OPTIMIZER": "adamw adamwprune sgd",
            "SEED": "4 3",
        },
        {"LR": "0.1 preset", "SEED": "7 8", "OPTIMIZER": "sgd adam"},
        {"PRUNING_METHOD": "state movement", "MASK_STORAGE": "implied", "OPTIMIZER": "sgd adam"},
    ],
)
def test_lists_that_kconfig_does_not_read_are_expanded_as_if_it_did(words, monkeypatch):
    found = expand(**words)
    assert len(found.cells) + len(found.dropped) > 1
    monkeypatch.setattr(Tree, "unread", frozenset())
    assert found == expand(**words)  # cells with points, notes and presets; what was dropped


def test_a_list_that_an_expression_reads_is_evaluated_for_each_value():
    unread = Tree().unread
    assert "SEED" in unread
    assert not unread & {"LR", "WEIGHT_DECAY", "TARGET_SPARSITY"}  # CELL_ symbols read them


def test_an_outline_has_the_first_of_each_such_list():
    tree = Tree()
    words = {"SEED": "5 6", "PRUNING_METHOD": "magnitude", "TARGET_SPARSITY": "0.5 0.9"}
    sources.override(tree, words)
    outline = matrix.expand(tree, outline=True).specs
    assert [(spec["SEED"], spec["TARGET_SPARSITY"]) for spec in outline] == [(5, 0.5), (5, 0.9)]
