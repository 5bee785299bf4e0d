"""Members from a directory outside the tree: what it adds, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adamwprune.__main__ import main
from adamwprune.base import registry
from adamwprune.base.errors import UserError
from adamwprune.config import outside, sources
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree
from adamwprune.plan.matrix import expand

TINY = """
config MODEL_TINY
	bool "tiny: one layer"

config CELL_MODEL
	default "tiny" if MODEL_TINY

config MODEL_TAKES
	default "images" if MODEL_TINY
"""


@pytest.fixture
def mine(tmp_path: Path) -> Callable[..., Path]:
    """``mine(kconfig, modules)``: a directory of members; its name has what a glob would take."""

    def write(kconfig: str = TINY, modules: tuple[str, ...] = ("models/tiny.py",)) -> Path:
        folder = tmp_path / "mine [1] $(x)"
        folder.mkdir()
        (folder / "Kconfig").write_text(kconfig)
        for name in modules:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("")
        return folder

    return write


def test_a_member_is_on_a_familys_menu_and_plans_its_runs(mine) -> None:
    folder = mine()
    with registry.using(folder):
        tree = Tree()
        assert list(tree.families["MODEL"].members)[-1] == "tiny"
        sources.load(Workspace({"MODEL": "lenet5 tiny", "CONFIG": "sgd"}), tree)
        specs = expand(tree).specs
    assert [spec["MODEL"] for spec in specs] == ["lenet5", "tiny"]
    assert f"# From {folder}" in tree.config(), "a menu of its own"
    assert "tiny" not in Tree().families["MODEL"].members, "without M= it is not there"
    assert registry.outside() is None


def test_what_the_tree_means_is_the_same_with_members_from_outside(mine) -> None:
    alone = Tree()
    sources.load(Workspace({"CONFIG": "memory-comparison"}), alone)
    with registry.using(mine()):
        beside = Tree()
        sources.load(Workspace({"CONFIG": "memory-comparison"}), beside)
        specs = expand(beside).specs
    assert specs == expand(alone).specs
    assert len(specs) > 40


def test_a_method_from_outside_presets_what_holds_elsewhere_otherwise(mine) -> None:
    kconfig = """
config PRUNING_METHOD_OWN
	bool "own: a method"
	select PRUNES

config CELL_PRUNING_METHOD
	default "own" if PRUNING_METHOD_OWN

config CELL_MASK_STORAGE
	default "bits" if PRUNING_METHOD_OWN
"""
    with registry.using(mine(kconfig, ("pruning/own.py",))):
        stored = []
        for settings in ({}, {"MASK_STORAGE": "bool"}, {"PRUNING_METHOD": "magnitude"}):
            tree = Tree()
            chosen = {"CONFIG": "sgd", "PRUNING_METHOD": "own", **settings}
            sources.load(Workspace(chosen), tree)
            stored += [spec["MASK_STORAGE"] for spec in expand(tree).specs]
    assert stored == ["bits", "bool", "bool"]


@pytest.mark.parametrize(
    ("kconfig", "modules", "reason"),
    [
        (TINY, (), r"Kconfig:2: MODEL_TINY: there is no .*models/tiny\.py"),
        (TINY, ("models/tiny.py", "models/other.py"), r"other\.py: .*declares no MODEL_OTHER"),
        (TINY, ("models/tiny.py", "models/lenet5.py"), "lenet5.py: the tree has a module of this"),
        ("config MODEL_TINY\n\tbool 'x'\n", ("models/tiny.py",),
         r'MODEL_TINY: CELL_MODEL needs: default "tiny" if MODEL_TINY'),
        (TINY + "config MODEL_LENET5\n\tbool 'mine'\n", ("models/tiny.py",),
         "MODEL_LENET5 is the tree's: it cannot be declared again"),
        (TINY + "config EPOCHS\n\tdefault \"3\" if MODEL_TINY\n", ("models/tiny.py",),
         "EPOCHS is the tree's: nothing can be added to it"),
        (TINY + "config CELL_LR\n\tdefault '1' if OPTIMIZER_SGD\n", ("models/tiny.py",),
         "CELL_LR is the tree's: a default needs a condition on a member"),
        (TINY + "config CELL_LR\n\tint\n", ("models/tiny.py",), "CELL_LR .*multiple types"),
        (TINY + "confg X\n", ("models/tiny.py",), "Kconfig:10: .*confg"),
        (TINY + "config CELL_LR\n\tdefault '1' if MODL_TINY\n", ("models/tiny.py",),
         "undefined symbol MODL_TINY"),
    ],
)  # fmt: skip
def test_a_directory_that_contradicts_itself_or_the_tree_is_refused(
    kconfig, modules, reason, mine
) -> None:
    with registry.using(mine(kconfig, modules)), pytest.raises(UserError, match=reason) as error:
        Tree()
    # Of a type that does not fit kconfiglib names each default as well.
    assert len(str(error.value).splitlines()) == 1 or "multiple types" in reason


def test_a_directory_must_be_there_and_have_a_kconfig(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^M=nowhere/mine: there is no such directory$"):
        outside.resolved("nowhere/mine")
    with pytest.raises(UserError, match=r"^M=.*: the directory has no Kconfig$"):
        outside.resolved(str(tmp_path))
    with registry.using(tmp_path / "gone"), pytest.raises(UserError, match="no such directory"):
        Tree()


def test_a_configuration_says_which_members_it_was_written_with(mine, workspace, capsys) -> None:
    folder, there = mine(), workspace(MODEL="tiny", CONFIG="sgd")
    with registry.using(folder):
        tree = Tree()
        sources.load(there, tree)
        sources.write(tree, there.config)
        sources.load(workspace(), Tree())  # its members are there
    with pytest.raises(UserError) as error:
        sources.load(workspace(), Tree())
    assert "MODEL_TINY=y: no such symbol" in str(error.value)
    assert f"M={folder} brings them" in str(error.value).splitlines()[-1]
    main(["kconfig", "olddefconfig", f"O={there.output}"])
    assert f"M={folder} brings them" in capsys.readouterr().err


@pytest.mark.slow
def test_the_members_count_for_one_command(mine, tmp_path, monkeypatch, capsys) -> None:
    folder = mine()
    monkeypatch.chdir(tmp_path)
    words = ["plan", "CONFIG=sgd", "MODEL=tiny"]
    assert main([*words, f"M={folder.name}"]) == 0
    assert "missing   tiny-mnist-sgd-none-s0" in capsys.readouterr().out
    with pytest.raises(UserError, match="MODEL=tiny: no such member"):
        main(words)


def test_a_member_that_is_no_python_is_named(mine) -> None:
    folder = mine()
    (folder / "models" / "tiny.py").write_text("def build(:\n")
    with pytest.raises(UserError, match=r"models/tiny\.py: invalid syntax"):
        main(["plan", "CONFIG=sgd", "MODEL=tiny", f"M={folder}"])
