"""train.py's flags: one for one the options and families of the tree, frozen in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from adamwprune.base.errors import ConfigError
from adamwprune.config import flags
from adamwprune.config.tree import Tree

SURFACE = Path(__file__).with_name("option_surface.txt")


def surface(tree: Tree) -> str:
    """A line an option: its flag, what it takes, its default."""
    lines = ["--config FILE"]
    for name, family in tree.families.items():
        mark = " (one a configuration)" if family.exclusive else ""
        lines.append(f"{flags.flag(name)}: {' '.join(family.members)}{mark}")
    for name, option in tree.options.items():
        mark = " (operational)" if option.operational else ""
        default = tree.declared(name) or "n"
        lines.append(f"{flags.flag(name)}: {option.type.expects} [{default}]{mark}")
    return "\n".join(lines) + "\n"


def test_a_new_option_is_a_decision(tree: Tree) -> None:
    """Where this fails on purpose, copy the new lines into option_surface.txt."""
    assert surface(tree).splitlines() == SURFACE.read_text().splitlines()


def test_one_flag_for_each_option_and_family(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        flags.parse(tree, ["--help"], "Train one run.")
    assert exited.value.code == 0
    words = set(capsys.readouterr().out.replace(",", " ").split())
    shown = {word for word in words if word.startswith("--") and not word.startswith("--no-")}
    names = {*tree.options, *tree.families}
    assert shown == {flags.flag(name) for name in names} | {"--help", "--config"}


def test_values_are_passed_on_as_they_are_written(tree: Tree) -> None:
    parsed = flags.parse(
        tree,
        ["--optimizer", "adamw", "--target-sparsity=0.5", "--spam-enable-clip", "--config", "x"],
        "",
    )
    assert parsed.settings == {
        "OPTIMIZER": "adamw",
        "TARGET_SPARSITY": "0.5",
        "SPAM_ENABLE_CLIP": "y",
    }
    assert parsed.config == Path("x")
    assert flags.parse(tree, ["--no-spam-enable-clip"], "").settings == {"SPAM_ENABLE_CLIP": "n"}
    assert flags.parse(tree, [], "") == flags.Flags({}, None)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--epoch 3", "no such flag --epoch; did you mean --epochs?"),
        ("--epoch=3", "no such flag --epoch; did you mean --epochs?"),
        ("--optimiser sgd --epochs 3 --sed 1", "no such flag --optimiser; did you mean --optimizer?"
         "\nno such flag --sed; did you mean --seed?"),
        ("--xyzzy", "no such flag --xyzzy (train.py --help lists them)"),
        ("3", "'3' is no flag (train.py --help lists them)"),
        ("--epochs", "argument --epochs: expected one argument (train.py --help lists the flags)"),
        ("--seed 1 --seed 2", "--seed is given twice (train.py --help lists the flags)"),
    ],
)  # fmt: skip
def test_what_is_no_flag_is_refused_with_the_nearest(
    tree: Tree, line: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError) as told:
        flags.parse(tree, line.split(), "")
    assert str(told.value) == says
    assert capsys.readouterr() == ("", "")


def test_help_tells_range_and_default(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        flags.parse(tree, ["--help"], "")
    shown = " ".join(capsys.readouterr().out.split())
    assert "--epochs N Epochs: whole number in [1, 100000] or preset (default preset)" in shown
    assert "sgd, adam, adamw, adamwadv, adamwspam, adamwprune (default sgd)" in shown
    assert "number in [0, 1] (default 0.9)" in shown
