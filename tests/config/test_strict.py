"""Every way in which kconfiglib drops a value in silence is an error with its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from adamwprune.base import wording
from adamwprune.base.errors import ConfigError, UserError
from adamwprune.config import sources, strict
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree


@dataclass(frozen=True)
class Row:
    """Lines of a file, and what must be said about which of them."""

    name: str
    lines: tuple[str, ...]
    wrong: int  # the line, counted from 1
    says: tuple[str, ...]


ROWS = [
    Row(
        "undefined symbol",
        ("CONFIG_JOBS=2", "CONFIG_EPOCH=3"),
        2,
        ("EPOCH=3: no such symbol; did you mean EPOCHS?",),
    ),
    Row(
        "undefined symbol not set",
        ("# CONFIG_OPTIMIZER_LION is not set",),
        1,
        ("OPTIMIZER_LION=n: no such symbol",),
    ),
    Row("int below its range", ("CONFIG_ACCUMULATION=0",), 1, ("0 is outside [1, 1048576]",)),
    Row("int above its range", ("CONFIG_JOBS=1025",), 1, ("1025 is outside [0, 1024]",)),
    Row(
        "int that is none",
        ("CONFIG_ACCUMULATION=abc",),
        1,
        ("ACCUMULATION=abc: 'abc' is not a whole number",),
    ),
    Row("int of two words", ("CONFIG_ACCUMULATION=1 2",), 1, ("takes one value, not a list",)),
    Row("no CONFIG_", ("CONFIG_JOBS=2", "", "EPOCHS=3"), 3, ("malformed line: 'EPOCHS=3'",)),
    Row("no equals sign", ("CONFIG_EPOCHS 3",), 1, ("malformed line",)),
    Row("blank before =", ("CONFIG_EPOCHS =3",), 1, ("malformed line",)),
    Row("unquoted string", ("CONFIG_SEED=1",), 1, ("SEED=1: a string must be quoted",)),
    Row("quotes not closed", ('CONFIG_SEED="1',), 1, ("malformed string",)),
    Row("text after the quotes", ('CONFIG_SEED="1" # why',), 1, ("malformed string",)),
    Row("bool that is none", ("CONFIG_OPTIMIZER_ADAM=nope",), 1, ("neither y nor n",)),
    Row("bool m", ("CONFIG_OPTIMIZER_ADAM=m",), 1, ("neither y nor n",)),
    Row(
        "two members of a choice",
        ("CONFIG_DEVICE_CPU=y", "CONFIG_DEVICE_CUDA=y"),
        2,
        ("DEVICE_CPU=y at ", ":1 chose another member of the choice"),
    ),
    Row(
        "dependency unmet",
        ('CONFIG_BETA1="0.8"',),
        1,
        ("depends on HAS_ADAM_STATES", "OPTIMIZER_ADAMW", "(lib/adamwprune/optimizers/Kconfig:"),
    ),
    Row(
        "dependency of a choice unmet",
        ("CONFIG_AMSGRAD_ON=y",),
        1,
        ("depends on HAS_ADAM_STATES", "(lib/adamwprune/optimizers/Kconfig:"),
    ),
    Row(
        "promptless symbol",
        ('CONFIG_CELL_LR="1"',),
        1,
        ("CELL_LR=1: it is derived, not set (lib/adamwprune/optimizers/Kconfig:",),
    ),
    Row(
        "set twice",
        ('CONFIG_EPOCHS="3"', 'CONFIG_EPOCHS="3"'),
        2,
        ("EPOCHS=3: already set at ", ":1"),
    ),
    Row(
        "set twice, once to off",
        ("CONFIG_OPTIMIZER_ADAM=y", "# CONFIG_OPTIMIZER_ADAM is not set"),
        2,
        ("OPTIMIZER_ADAM=n: already set at ",),
    ),
    Row("no member of a choice", ("# CONFIG_DEVICE_AUTO is not set",), 1, ("has no effect",)),
    Row("float out of its interval", ('CONFIG_SGD_MOMENTUM="1"',), 1, ("1 is outside [0, 1)",)),
    Row("list with a bad value", ('CONFIG_SEED="0 x"',), 1, ("'x' is not a whole number",)),
    Row("empty string", ('CONFIG_SEED=""',), 1, ("is empty (expected one or several",)),
]
each_row = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


def assert_says(error: ConfigError, row: Row, path: Path) -> None:
    place = f"{path}:{row.wrong}: "
    about = [problem for problem in error.problems if problem.startswith(place)]
    assert about, error.problems
    assert any(all(part in problem for part in row.says) for problem in about), about


@each_row
def test_edited_config(
    row: Row, tree: Tree, workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    path = tmp_path / ".config"
    path.write_text("\n".join(row.lines) + "\n")
    with pytest.raises(ConfigError) as caught:
        sources.load(workspace(), tree)
    assert_says(caught.value, row, path)
    assert "make olddefconfig" in caught.value.problems[-1]


@each_row
@pytest.mark.parametrize("joined", ["bad", "sgd-magnitude-50+bad"], ids=["defconfig", "fragment"])
def test_defconfig_and_fragment(row: Row, joined: str, copied_root: Path) -> None:
    path = copied_root / "defconfigs" / "bad"
    path.write_text("\n".join(row.lines) + "\n")
    with pytest.raises(ConfigError) as caught:
        sources.load(Workspace({"CONFIG": joined}), Tree(copied_root))
    assert_says(caught.value, row, path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"EPOCH": "3"}, "make EPOCH=3: no such variable; did you mean EPOCHS?"),
        ({"EPOCHS": "0"}, "command line: EPOCHS=0: 0 is outside [1, 100000]"),
        ({"EPOCHS": "abc"}, "command line: EPOCHS=abc: 'abc' is not a whole number"),
        (
            {"EPOCHS": ""},
            "command line: EPOCHS=: is empty (expected one or several: whole number in [1, 100000] "
            "or preset)",
        ),
        ({"OPTIMIZER_ADAM": "nope"}, "OPTIMIZER_ADAM=nope: is neither y nor n"),
        ({"OPTIMIZER": "adam lion"}, "command line: OPTIMIZER=adam lion: no such member"),
        ({"OPTIMIZER": "adamww"}, "no such member; did you mean adamw?"),
        ({"OPTIMIZER": " "}, "OPTIMIZER= : is empty, expected one of sgd, adam"),
        ({"DEVICE": "cpu cuda"}, "DEVICE=cpu cuda: takes one value"),
        ({"DEVICE_CPU": "y", "DEVICE_CUDA": "y"}, "chose another member of the choice"),
        ({"BETA1": "0.8"}, "command line: BETA1=0.8: depends on HAS_ADAM_STATES"),
        ({"AMSGRAD": "on"}, "AMSGRAD_ON=y: depends on HAS_ADAM_STATES"),
        ({"PRUNING_METHOD": "state"}, "PRUNING_METHOD_STATE=y: depends on HAS_ADAM_STATES"),
        ({"CELL_LR": "1"}, "CELL_LR=1: it is derived, not set"),
        ({"TARGET_SPARSITY": "0.5 1.5", "PRUNING_METHOD": "magnitude"}, "1.5 is outside [0, 1]"),
        ({"OPTIMIZER": "adam", "OPTIMIZER_ADAM": "n"}, "already set at command line"),
    ],
)
def test_command_line(
    settings: dict[str, str], says: str, tree: Tree, workspace: Callable[..., Workspace]
) -> None:
    with pytest.raises(ConfigError) as caught:
        sources.load(workspace(CONFIG="sgd", **settings), tree)
    assert says in str(caught.value)


SELECTING = """\
config CHOSEN
	bool "chosen"
	help
		One.

config CHOOSER
	bool "chooser"
	select CHOSEN
	help
		Two.
"""


def test_off_where_it_is_selected(tiny: Callable[[str], Tree], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("CONFIG_CHOOSER=y\n# CONFIG_CHOSEN is not set\n")
    selecting = tiny(SELECTING)
    with pytest.raises(ConfigError) as caught:
        strict.apply(selecting, strict.read_config(path, selecting))
    assert caught.value.problems == [f"{path}:2: CHOSEN=n: it is selected by CHOOSER"]


def test_all_problems_are_told_at_once(tree: Tree, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('CONFIG_EPOCHS="0"\nCONFIG_EPOCH=1\nCONFIG_JOBS=2\nCONFIG_SEED=3\n')
    with pytest.raises(ConfigError) as caught:
        strict.apply(tree, strict.read_config(path, tree))
    assert [problem.split(":")[1] for problem in caught.value.problems] == ["1", "2", "4"]


def test_a_good_file_holds_word_for_word(tree: Tree, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(
        '# A comment\n\nCONFIG_EPOCHS="3"\r\n# CONFIG_DATASET_MNIST is not set\n'
        'CONFIG_DATASET_MNIST5K=y\nCONFIG_DATA_DIR="a \\"b\\" \\\\c"\nCONFIG_DEVICE_CPU=y\n'
        "# CONFIG_DEVICE_AUTO is not set\n"
    )
    strict.apply(tree, strict.read_config(path, tree))
    assert tree.text("EPOCHS") == "3"
    assert tree.selected("DATASET") == ["mnist5k"]
    assert tree.text("DATA_DIR") == 'a "b" \\c'
    assert tree.selected("DEVICE") == ["cpu"]


@pytest.mark.parametrize(
    "line",
    [
        "#CONFIG_OPTIMIZER_SGD is not set",
        "#  CONFIG_OPTIMIZER_SGD is not set",
        "#\tCONFIG_OPTIMIZER_SGD is not set",
        "## CONFIG_OPTIMIZER_SGD is not set",
        "# CONFIG_OPTIMIZER_SGD is not set.",
        "# CONFIG_OPTIMIZER_SGD is not set # any more",
        "# CONFIG_OPTIMIZER_SGD is  not set",
        "# CONFIG_OPTIMIZER_SGD is not Set",
        "# CONFIG_OPTIMIZER_SGD not set",
        "# CONFIG_OPTIMIZER_SGD",
        "# config_optimizer_sgd is not set",
    ],
)
def test_a_comment_that_almost_switches_a_symbol_off_is_refused(tree: Tree, line: str) -> None:
    with pytest.raises(ConfigError, match=r"^text:2: .* is only a comment; .*'# CONFIG_OPTIMIZER_"):
        strict.parse_config(f'CONFIG_EPOCHS="3"\n{line}\n', "text", tree)


@pytest.mark.parametrize(
    "line",
    [
        "#CONFIG_OPTIMIZER_SGD=y",
        "# CONFIG_OPTIMIZER_SGD = n",
        "# Without CONFIG_OPTIMIZER_SGD",
        "# CONFIG_OF_ANOTHER_TREE is not set here",
        "# CONFIG_",
        "# LeNet-5",
    ],
)
def test_other_comments_are_comments(tree: Tree, line: str) -> None:
    assert strict.parse_config(line, "text", tree) == []
    assert strict.parse_config("# CONFIG_OPTIMIZER_SGD is not set", "text", tree) != []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('CONFIG_EPOCHS="3"\n'.encode("utf-16"), "is UTF-16, as its byte-order mark says"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "is a Git LFS pointer, not the file itself; git lfs pull",
        ),
    ],
)
def test_what_is_no_configuration_is_said_in_one_line(tree, tmp_path, content, told) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=told) as caught:
        strict.read_config(tmp_path / "file", tree)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_of_utf_8_is_skipped(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "file").write_text('CONFIG_EPOCHS="3"\n', encoding="utf-8-sig")
    strict.apply(tree, strict.read_config(tmp_path / "file", tree))
    assert tree.text("EPOCHS") == "3"


def test_unreadable_files_are_named(tree: Tree, tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"CONFIG_\xff")
    for path, reason in [
        (tmp_path / "absent", "No such file"),
        (tmp_path, "Is a directory"),
        (binary, "not UTF-8"),
    ]:
        with pytest.raises(UserError, match=reason) as caught:
            strict.read_config(path, tree)
        assert str(path) in str(caught.value)


OLD = """\
CONFIG_EPOCHS="3"
CONFIG_GONE=y
CONFIG_JOBS=9999
nonsense
CONFIG_BETA1="0.8"
CONFIG_CELL_LR="1"
CONFIG_SEED="1"
CONFIG_SEED="2"
"""


def test_migration_keeps_what_holds_and_tells_the_rest(tree: Tree, tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_text(OLD)
    known, dropped = strict.migrate(tree, path)
    assert known == {"EPOCHS", "SEED"}
    assert tree.text("EPOCHS") == "3"
    assert tree.text("SEED") == "2"
    assert tree.text("JOBS") == "0"
    reasons = {problem.removeprefix(f"{path}:").split(":")[0]: problem for problem in dropped}
    assert sorted(reasons) == ["2", "3", "4", "5", "6", "7"]
    assert "no such symbol" in reasons["2"]
    assert "outside [0, 1024]" in reasons["3"]
    assert "malformed" in reasons["4"]
    assert "depends on HAS_ADAM_STATES" in reasons["5"]
    assert "derived" in reasons["6"]
    assert f"set again at {path}:8" in reasons["7"]


def test_a_dropped_value_does_not_come_back(tree: Tree, tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_text('CONFIG_BETA1="0.8"\n')
    strict.migrate(tree, path)
    tree.set("OPTIMIZER_ADAM", "y")
    assert tree.text("BETA1") == "0.9"


def test_nearest_names() -> None:
    assert wording.nearest("EPOCH", ["EPOCHS", "JOBS"]) == "; did you mean EPOCHS?"
    assert wording.nearest("epochs", ["EPOCHS", "JOBS"]) == "; did you mean EPOCHS?"
    assert wording.nearest("zzz", ["EPOCHS", "JOBS"]) == " (there are: EPOCHS, JOBS)"
    assert wording.nearest("zzz", [f"NAME{i}" for i in range(13)]) == ""
