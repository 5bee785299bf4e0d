"""Random configurations: legal, repeatable, and spread over what the tree offers."""

from __future__ import annotations

import math
import random
import shlex
from collections.abc import Callable, Sequence

import pytest

from adamwprune import optimizers, pruning
from adamwprune.base.errors import UserError
from adamwprune.config import commands, flags, sources, strict
from adamwprune.config.draw import _number, draw
from adamwprune.config.options import Interval
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree
from adamwprune.plan import matrix
from adamwprune.plan.spec import RunSpec
from adamwprune.train.data import network_for


def written(workspace: Workspace) -> str:
    commands.run("randconfig", workspace, matrix.expand)
    return workspace.config.read_text()


LARGE = ("resnet18", "resnet50", "gpt2", "gpt2-medium")
QUICK, ALL = 40, 1000  # seeds in make check and in make check-long
SPREAD = 12  # cells of one seed that are looked at closely
SEEDS = [*range(QUICK), *(pytest.param(n, marks=pytest.mark.long) for n in range(QUICK, ALL))]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.slow
def test_what_is_drawn_is_legal_and_every_cell_can_be_trained(
    seed: int, workspace: Callable[..., Workspace]
) -> None:
    text = written(workspace(KCONFIG_SEED=str(seed)))
    tree = Tree()
    sources.load(workspace(), tree)  # strict, from the file
    assert sources.full_text(tree) == text
    cells = matrix.expand(tree).cells
    assert 1 <= len(cells) <= 200
    assert all(tree.selected(family) for family in ("MODEL", "DATASET", "OPTIMIZER"))
    blank = Tree()
    for cell in spread(cells):
        minimal, _ = matrix.configs_of(tree, cell)
        (spec,) = specs_of(blank, sources.repeat_command(tree, minimal))
        assert spec == cell.spec, "the command in the record trains another run"
        assert spec.run_id == cell.spec.run_id
        build(spec)


def spread(cells: Sequence[matrix.Cell]) -> list[matrix.Cell]:
    """At most SPREAD cells, evenly from the first to the last."""
    if len(cells) <= SPREAD:
        return list(cells)
    return [cells[round(n * (len(cells) - 1) / (SPREAD - 1))] for n in range(SPREAD)]


def specs_of(tree: Tree, command: str) -> list[RunSpec]:
    """What the command would train, in the steps of train.py's ``main``."""
    program, script, *arguments = shlex.split(command)
    assert (program, script) == ("python", "train.py")
    tree.reset()
    given = flags.parse(tree, arguments, "")
    assert given.config is None
    strict.apply(tree, strict.command_line(tree, given.settings, "command line"))
    return matrix.expand(tree).specs


def build(spec: RunSpec) -> None:
    """Everything that a run needs before its first step, put together as training does it; with a
    narrow network, since the largest take gigabytes.
    """
    width = {"MODEL_WIDTH": 0.25} if spec["MODEL"] in LARGE else {}
    model = network_for({**spec.settings, **width}).module
    optimizer = optimizers.build(spec["OPTIMIZER"], model.parameters(), spec.settings)
    ramp_end = spec.ramp_end_step if "PRUNING_RAMP_END" in spec else 0
    pruner = pruning.build(model, spec.settings, ramp_end)
    pruner.attach(optimizer)
    assert pruner.schedule.target == spec.sparsity
    assert {group["lr"] for group in optimizer.param_groups} == {spec["LR"]}


def test_the_spread_reaches_both_ends() -> None:
    assert spread("abc") == ["a", "b", "c"]
    many = spread(range(200))
    assert (len(set(many)), many[0], many[-1]) == (SPREAD, 0, 199)


def test_a_seed_repeats_its_configuration(
    workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = written(workspace(KCONFIG_SEED="7"))
    assert written(workspace(KCONFIG_SEED="0x7")) == first
    monkeypatch.setenv("KCONFIG_SEED", "7")
    assert written(workspace()) == first
    assert written(workspace(KCONFIG_SEED="8")) != first


def test_the_seed_that_was_drawn_is_told(
    workspace: Callable[..., Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    text = written(workspace())
    seed = capsys.readouterr().out.split("KCONFIG_SEED=")[1].split()[0]
    assert written(workspace(KCONFIG_SEED=seed)) == text


def test_the_command_line_holds_in_what_is_drawn(
    workspace: Callable[..., Workspace],
) -> None:
    for seed in range(10):
        text = written(workspace(KCONFIG_SEED=str(seed), OPTIMIZER="adam", EPOCHS="4"))
        assert 'CONFIG_EPOCHS="4"\n' in text
        assert "CONFIG_OPTIMIZER_ADAM=y\n" in text
        assert "CONFIG_OPTIMIZER_SGD=y\n" not in text


def test_how_and_where_to_run_is_left_alone() -> None:
    tree = Tree()
    for seed in range(20):
        tree.reset()
        draw(tree, random.Random(seed), ())
        assert tree.selected("DEVICE") == ["auto"]
        assert (tree.text("RESULTS_DIR"), tree.text("JOBS")) == ("results", "0")


def test_what_is_fixed_is_not_drawn() -> None:
    tree = Tree()
    for seed in range(20):
        tree.reset()
        draw(tree, random.Random(seed), ("OPTIMIZER", "EPOCHS", "PRUNING_SCOPE"))
        assert tree.selected("OPTIMIZER") == ["sgd"]
        assert tree.selected("PRUNING_SCOPE") in (["global"], [])
        assert tree.text("EPOCHS") == ("preset" if tree.text("STEPS") == "preset" else "")


def test_the_matrix_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adamwprune.config.draw._MAX_POINTS", 2)
    tree = Tree()
    points: list[int] = []
    for seed in range(50):
        tree.reset()
        draw(tree, random.Random(seed), ())
        families = [
            tree.selected(name) for name, each in tree.families.items() if not each.exclusive
        ]
        lists = [
            tree.text(name).split()
            for name, option in tree.options.items()
            if option.type.is_list and tree.is_visible(name)
        ]
        points.append(math.prod(map(len, families + lists)))
    assert max(points) == 2


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("[0, 1)", False),
        ("(0, 1]", False),
        ("(0.5, 0.5004)", False),
        ("[0.9994, 1)", False),
        ("(0, 100]", False),
        ("(0, 100)", True),
        ("[0, 1000000000]", True),
    ],
)
def test_numbers_stay_in_their_interval(text: str, whole: bool) -> None:
    interval = Interval.parse(text)
    rng = random.Random(0)
    drawn = [_number(rng, interval, whole=whole) for _ in range(500)]
    assert all(float(number) in interval for number in drawn)
    assert len(set(drawn)) > 50


def test_draws_reach_every_member_and_every_option() -> None:
    seen: set[str] = set()
    tree = Tree()
    for seed in range(200):
        tree.reset()
        draw(tree, random.Random(seed), ())
        seen.update(name for name in tree.family_of if tree.is_on(name))
        seen.update(
            name
            for name in tree.options
            if tree.is_visible(name) and tree.symbols[name].user_value is not None
        )
    operational = {name for name, option in tree.options.items() if option.operational}
    of_own_files = {"DATASET_TEXT_FILE", "TEXT_FILE", "TEXT_HELD_OUT", "TOKENIZER"}
    of_own_files |= {"DATASET_IMAGE_FOLDER", "IMAGE_FOLDER", "IMAGE_SIZE"}
    places = {"DEVICE_CPU", "DEVICE_CUDA", "EXECUTOR_SLURM", "EXECUTOR_RAY"}
    left = {"TEXT_VOCABULARY", *places, *of_own_files, *operational}
    assert {*tree.family_of, *tree.options} - seen == left


@pytest.mark.parametrize("seed", ["abc", "1.5"])
def test_a_seed_is_a_whole_number(seed: str, workspace: Callable[..., Workspace]) -> None:
    with pytest.raises(UserError, match=f"KCONFIG_SEED={seed}: is not a whole number"):
        commands.run("randconfig", workspace(KCONFIG_SEED=seed), matrix.expand)


def test_what_can_never_be_legal_is_given_up(workspace: Callable[..., Workspace]) -> None:
    with pytest.raises(UserError, match=r"(?s)none of .* is legal.*BETA1=0.5: depends on"):
        commands.run("randconfig", workspace(OPTIMIZER="sgd", BETA1="0.5"), matrix.expand)
