"""The form of the Kconfig tree: families, annotations, expressions, and modules beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import kconfiglib
import pytest

from adamwprune.base import registry
from adamwprune.base.errors import ConfigError
from adamwprune.config.tree import CELL, EXCLUDE, SOURCE_TREE, Tree, has_prompt, help_of

PACKAGES = {
    family: package.removeprefix("adamwprune.").replace(".", "/")
    for family, package in registry.PACKAGES.items()
}
_TREE = Tree()


# -- what is read off the tree ---------------------------------------------------


def test_families(tree: Tree) -> None:
    exclusive = {name: family.exclusive for name, family in tree.families.items()}
    assert exclusive == {
        "MODEL": False,
        "DATASET": False,
        "TASK": False,
        "OPTIMIZER": False,
        "PRUNING_METHOD": False,
        "LR_SCHEDULE": True,
        "DECAYED": True,
        "AMSGRAD": True,
        "SPAM_MODE": True,
        "PRUNING_SCHEDULE": True,
        "PRUNING_SCOPE": True,
        "MASK_STORAGE": True,
        "PRECISION": True,
        "MEMORY_FORMAT": True,
        "DEVICE": True,
        "EXECUTOR": True,
    }
    assert list(tree.families["OPTIMIZER"].members) == [
        "sgd",
        "adam",
        "adamw",
        "adamwadv",
        "adamwspam",
        "adamwprune",
    ]
    assert tree.families["DATASET"].members["fashion-mnist"] == "DATASET_FASHION_MNIST"
    assert tree.families["DATASET"].member_of("DATASET_FASHION_MNIST") == "fashion-mnist"


def test_only_running_is_operational(tree: Tree) -> None:
    options = [name for name, option in tree.options.items() if option.operational]
    running = [
        "JOBS",
        "SHARE_GPUS",
        "THREADS",
        "RANKS",
        "SHARD",
        "CHECKPOINT_SECONDS",
        "RETRIES",
        "FAIL_FAST",
    ]
    trackers = ["TRACKER_TENSORBOARD", "TRACKER_WANDB", "TRACKER_TRACKIO"]
    agents = ["AGENTS", "AGENT_CPUS", "AGENT_GPUS", "AGENT_MEMORY", "LEASE_SECONDS"]
    slurm = ["SLURM_PARTITION", "SLURM_MINUTES", "SLURM_ACCOUNT", "SLURM_OPTIONS"]
    cluster = [*agents, *slurm, "RAY_ADDRESS"]
    assert options == ["DATA_DIR", *running, "RESULTS_DIR", *cluster, *trackers]
    families = [name for name, family in tree.families.items() if family.operational]
    assert families == ["DEVICE", "EXECUTOR"]


def test_annotations_give_types(tree: Tree) -> None:
    kinds = {name: option.type for name, option in tree.options.items()}
    assert (kinds["EPOCHS"].kind, kinds["EPOCHS"].domain) == ("int", "[1, 100000]")
    assert kinds["TARGET_SPARSITY"].is_list
    assert kinds["LR"].preset
    assert kinds["STATE_CRITERION"].words == ("precond", "fisher", "taylor", "movement", "hybrid")
    assert kinds["DATA_DIR"].kind == "string"
    assert kinds["SPAM_ENABLE_CLIP"].kind == "bool"


def test_reset_and_unset(tree: Tree) -> None:
    tree.set("EPOCHS", "3")
    tree.set("SEED", "5")
    tree.unset("EPOCHS")
    assert (tree.text("EPOCHS"), tree.text("SEED")) == ("preset", "5")
    tree.reset()
    assert tree.text("SEED") == "0"


def test_the_full_configuration_holds_what_can_be_set(tree: Tree) -> None:
    lines = tree.config().splitlines()
    assert 'CONFIG_SEED="0"' in lines
    assert "# CONFIG_OPTIMIZER_ADAM is not set" in lines
    assert not any("CELL_" in line or "HAS_" in line or "BETA1" in line for line in lines)
    assert tree.minimal_config() == ""


# -- a broken tree fails at parse ------------------------------------------------

OPTION = """\
config LEVEL
	string "level"
	default "{default}"
	help
		What it is.
		{annotation}
"""
FAMILY = """\
config CELL_KIND
	string
	default "{member}" if KIND_ONE

config KIND_ONE
	bool "one"
	help
		First.
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (OPTION.format(default="0.5", annotation="@flaot [0, 1]"), "not an annotation"),
        (OPTION.format(default="0.5", annotation="@float 0 1"), "not an interval"),
        (OPTION.format(default="7", annotation="@float [0, 1]"), "default of LEVEL: 7 is outside"),
        (OPTION.format(default="", annotation="@float [0, 1]"), "default of LEVEL: is empty"),
        (FAMILY.format(member="two"), "resolves to 'two', which is no member"),
        ('config N\n\tint "n"\n\tdefault 9\n\trange 0 5\n', "default of N: 9 is outside [0, 5]"),
        ('config A\n\tbool "a"\n\tdepends on MISSPELT\n', "undefined symbol MISSPELT"),
        ('config A\n\tbool "a"\n\tdefault "maybe"\n', "A"),
        ('config A\n\tint "a"\n\tdefault x\n', "A"),
        ("config A\n\tbool\n\tprompt\n", "Kconfig:3"),
        ('source "absent"\n', "absent"),
    ],
)
def test_broken_trees_fail(tiny: Callable[[str], Tree], text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny(text)
    assert says in str(caught.value)


def test_well_formed_tiny_trees_do_not_fail(tiny: Callable[[str], Tree]) -> None:
    assert tiny(OPTION.format(default="0.5", annotation="@float [0, 1]")).text("LEVEL") == "0.5"
    assert list(tiny(FAMILY.format(member="one")).families) == ["KIND"]


# -- rules for the tree that is there --------------------------------------------


def prompted() -> list[str]:
    return [name for name, symbol in _TREE.symbols.items() if has_prompt(symbol)]


@pytest.mark.parametrize("name", prompted())
def test_what_can_be_set_is_explained(name: str) -> None:
    assert len(help_of(_TREE.symbols[name]).split()) >= 3


def test_what_has_no_prompt_is_derived() -> None:
    for name, symbol in _TREE.symbols.items():
        if not has_prompt(symbol):
            selected = any(
                target is symbol for other in _TREE.symbols.values() for target, _ in other.selects
            )
            assert symbol.defaults or selected, f"{name} can never have a value"


def test_exclusions_say_why() -> None:
    assert _TREE.exclusions
    for name in _TREE.exclusions:
        assert len(help_of(_TREE.symbols[name]).split()) >= 5


def test_every_int_has_a_default_and_a_range() -> None:
    for name, symbol in _TREE.symbols.items():
        if symbol.orig_type == kconfiglib.INT and has_prompt(symbol):
            assert symbol.defaults, name
            assert symbol.ranges, name


def expressions() -> Iterator[tuple[str, object, bool]]:
    """Symbol, expression, and whether it decides what can be set rather than a cell's value."""
    for name, symbol in _TREE.symbols.items():
        of_cell = name.startswith((CELL, EXCLUDE))
        for node in symbol.nodes:
            yield name, node.dep, not of_cell
            if node.prompt:
                yield name, node.prompt[1], not of_cell
        conditions = [condition for _, condition in (*symbol.defaults, *symbol.selects)]
        values = [value for value, _ in symbol.defaults if isinstance(value, tuple)]
        for expression in (*conditions, *values):
            yield name, expression, not of_cell
    for choice in _TREE.kconf.unique_choices:
        for node in choice.nodes:
            yield str(choice.nodes[0].prompt[0]), node.dep, True


def parts(expression: object, negated: bool = False) -> Iterator[tuple[object, bool]]:
    """Symbols (and relations as a whole) in an expression, and whether a NOT stands before."""
    if not isinstance(expression, tuple):
        yield expression, negated
        return
    operator, *operands = expression
    if operator in (kconfiglib.AND, kconfiglib.OR, kconfiglib.NOT):
        for operand in operands:
            yield from parts(operand, negated ^ (operator is kconfiglib.NOT))
    else:
        yield expression, negated


def test_a_number_in_a_string_is_never_compared() -> None:
    """Kconfig compares strings by their letters; the word preset is all that may be asked for."""
    numbers = {
        name
        for name, option in _TREE.options.items()
        if option.is_string and option.type.kind in ("int", "float")
    }
    assert {"LR", "SEED", "TARGET_SPARSITY"} <= numbers
    seen = 0
    for name, expression, _ in expressions():
        for part, _ in parts(expression):
            if isinstance(part, tuple):
                operator, left, right = part
                if left.name in numbers:
                    seen += 1
                    assert operator in (kconfiglib.EQUAL, kconfiglib.UNEQUAL), name
                    assert right.name == "preset", name
                assert right.name not in numbers, name
            else:
                assert getattr(part, "name", None) not in numbers, name
    assert seen >= 5


def test_no_dependency_on_a_multi_select_member_is_negative() -> None:
    """With several members on, it would switch its symbol off in every cell of the matrix."""
    members = {
        symbol
        for family in _TREE.families.values()
        if not family.exclusive
        for symbol in family.members.values()
    }
    selected = {target.name for name in members for target, _ in _TREE.symbols[name].selects}
    assert {"HAS_ADAM_STATES", "HAS_SPAM", "PRUNES", "REGROWS"} <= selected
    seen = 0
    for name, expression, decides_what_can_be_set in expressions():
        if not decides_what_can_be_set:
            continue
        for part, negated in parts(expression):
            names = {part.name} if isinstance(part, kconfiglib.Symbol) else set()
            if isinstance(part, tuple):
                names = {part[1].name, part[2].name}
                assert not names & (members | selected), name
            if names & (members | selected):
                seen += 1
                assert not negated, name
    assert seen >= 20


@pytest.mark.parametrize(("family", "package"), PACKAGES.items())
def test_each_member_has_its_module_and_its_kconfig_file(family: str, package: str) -> None:
    folder = SOURCE_TREE / "lib" / "adamwprune" / package
    members = {member.replace("-", "_") for member in _TREE.families[family].members}
    modules = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    files = {path.suffix[1:] for path in folder.glob("Kconfig.*")}
    assert modules == members
    assert files == members


def test_members_are_declared_in_the_file_of_their_name() -> None:
    for family in PACKAGES:
        for member, name in _TREE.families[family].members.items():
            declared = Path(_TREE.symbols[name].nodes[0].filename)
            assert declared.name == f"Kconfig.{member.replace('-', '_')}"
