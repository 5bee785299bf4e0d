"""Where values come from, in their order of precedence, and how a configuration is kept."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adamwprune.base.errors import ConfigError, UserError
from adamwprune.config import flags, sources, strict
from adamwprune.config.makeflags import make_variables
from adamwprune.config.sources import RESERVED, Workspace
from adamwprune.config.tree import Tree
from adamwprune.experiment.experiment import Experiment
from adamwprune.plan import matrix
from tests.support.commands import make_here, refused

MAKEFILE = """\
MAKEFLAGS += --no-print-directory
all:
\t@printf '%s' "$$MAKEFLAGS"
"""


@pytest.fixture(scope="module")
def makefile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A makefile that prints the MAKEFLAGS that its recipes see."""
    path = tmp_path_factory.mktemp("make") / "Makefile"
    path.write_text(MAKEFILE)
    return path


def through_make(makefile: Path, *words: str) -> dict[str, str]:
    """The variables that a script would read under ``make WORDS``."""
    command = ["make", "-f", str(makefile), *words]
    return make_variables(subprocess.run(command, capture_output=True, check=True).stdout.decode())


# -- MAKEFLAGS -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        ([], {}),
        (["EPOCHS=3"], {"EPOCHS": "3"}),
        (["-s", "-j2", "EPOCHS=3", "JOBS=1"], {"EPOCHS": "3", "JOBS": "1"}),
        (["OPTIMIZER=adam adamw"], {"OPTIMIZER": "adam adamw"}),
        (["A=1", "A=2"], {"A": "2"}),
        (["A = 5"], {"A": "5"}),
        (["A:=5", "B::=6"], {"A": "5", "B": "6"}),
        (["A="], {"A": ""}),
        (["A=1 B=2"], {"A": "1 B=2"}),
        (["A=x;touch y"], {"A": "x;touch y"}),
        (['A=it\'s "so"'], {"A": 'it\'s "so"'}),
        (["A=a\\b\\\\c\\ d"], {"A": "a\\b\\\\c\\ d"}),
        (["A=a$b$$c"], {"A": "a$b$$c"}),
        (["A=-- B=1"], {"A": "-- B=1"}),
        (["A=#1"], {"A": "#1"}),
        (["-I", "x -- y", "A=1"], {"A": "1"}),
    ],
)
def test_variables_through_real_make(
    words: list[str], variables: dict[str, str], makefile: Path
) -> None:
    assert through_make(makefile, *words) == variables


@given(
    values=st.lists(
        # What make itself cannot carry is left out: line ends, and $ before a bracket, which
        # starts a reference that must be closed. Blanks in front of a value are make's own.
        st.text(st.sampled_from("ab09 \t;'\"\\$#=:-&|<>*?!~é@%"), max_size=12).map(str.lstrip),
        min_size=1,
        max_size=3,
    )
)
def test_any_value_comes_through_make_unchanged(values: list[str], makefile: Path) -> None:
    variables = {f"NAME{number}": value for number, value in enumerate(values)}
    words = [f"{name}={value}" for name, value in variables.items()]
    assert through_make(makefile, *words) == variables


@pytest.mark.parametrize("operator", ["+=", "?=", "!="])
def test_other_assignments_are_refused(operator: str) -> None:
    with pytest.raises(ConfigError, match="write EPOCHS=3"):
        make_variables(f" -- EPOCHS{operator}3")


def test_a_value_over_two_lines_is_refused(makefile: Path) -> None:
    with pytest.raises(ConfigError, match="one line"):
        through_make(makefile, "A=1\nsecond")


def test_flags_without_variables() -> None:
    assert make_variables("") == {}
    assert make_variables("ks --jobserver-auth=3,4") == {}


# -- the workspace ---------------------------------------------------------------


def test_reserved_names_are_no_settings() -> None:
    variables = dict.fromkeys(RESERVED, "x")
    assert Workspace({**variables, "EPOCHS": "3"}).settings == {"EPOCHS": "3"}
    assert {"O", "V", "CONFIG", "KCONFIG_CONFIG", "KCONFIG_SEED", "YES"} <= set(RESERVED)


def test_no_reserved_name_is_a_symbol(tree: Tree) -> None:
    assert not set(RESERVED) & {*tree.symbols, *tree.families}


def test_places(monkeypatch: pytest.MonkeyPatch, tree: Tree) -> None:
    assert Workspace({}).config == Path(".config")
    assert Workspace({"O": "out"}).config == Path("out/.config")
    assert Workspace({"O": "out"}).results(tree) == Path("out/results")
    monkeypatch.setenv("KCONFIG_CONFIG", "/elsewhere/config")
    assert Workspace({"O": "out"}).config == Path("/elsewhere/config")
    assert Workspace({"KCONFIG_CONFIG": "here"}).config == Path("here")


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKEFLAGS", "s -- EPOCHS=3 O=out")
    workspace = Workspace.from_environment()
    assert (workspace.output, workspace.settings) == (Path("out"), {"EPOCHS": "3"})


# -- precedence ------------------------------------------------------------------


def test_command_line_over_config_over_defaults(
    tree: Tree, workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    (tmp_path / ".config").write_text('CONFIG_EPOCHS="3"\nCONFIG_JOBS=2\n')
    source = sources.load(workspace(JOBS="5"), tree)
    assert source == str(tmp_path / ".config")
    assert (tree.text("EPOCHS"), tree.text("JOBS"), tree.text("SEED")) == ("3", "5", "0")


def test_config_variable_stands_in_place_of_the_file(
    tree: Tree, workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    (tmp_path / ".config").write_text("not even read\n")
    sources.load(workspace(CONFIG="adamw-magnitude-50", TARGET_SPARSITY="0.6"), tree)
    assert tree.selected("OPTIMIZER") == ["adamw"]
    assert tree.text("TARGET_SPARSITY") == "0.6"
    assert (tmp_path / ".config").read_text() == "not even read\n"


def test_config_variable_is_refused_by_a_target_with_a_defconfig_of_its_own(
    tree: Tree, workspace: Callable[..., Workspace]
) -> None:
    with pytest.raises(UserError, match="CONFIG=sgd: this target has a configuration of its own"):
        sources.load(workspace(CONFIG="sgd"), tree, "memory-comparison")


def test_without_a_config_the_quickstart_s_is_written_and_said(
    tree: Tree,
    workspace: Callable[..., Workspace],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sources.load(workspace(EPOCHS="2"), tree)
    assert "written from defconfig-quickstart" in capsys.readouterr().out
    written = (tmp_path / ".config").read_text()
    assert "CONFIG_DATASET_MNIST5K=y" in written
    assert 'CONFIG_EPOCHS="preset"' in written  # an override is for one invocation
    assert tree.text("EPOCHS") == "2"
    again = Tree()
    sources.load(workspace(), again)
    assert sources.full_text(again) == written


def test_a_family_on_the_command_line_replaces_all_of_it(
    tree: Tree, workspace: Callable[..., Workspace]
) -> None:
    sources.load(workspace(CONFIG="memory-comparison", OPTIMIZER="adam sgd"), tree)
    assert tree.selected("OPTIMIZER") == ["sgd", "adam"]
    assert tree.selected("PRUNING_METHOD") == ["none", "magnitude", "movement"]


def test_members_that_an_override_switches_off_are_named(
    tree: Tree, workspace: Callable[..., Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    sources.load(workspace(CONFIG="quickstart", PRUNING_METHOD="none state"), tree)
    assert capsys.readouterr().err == ""
    sources.override(tree, {"OPTIMIZER": "sgd"})
    told = capsys.readouterr().err
    assert told.startswith("note: PRUNING_METHOD_STATE is off now: depends on HAS_ADAM_STATES")
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("EPOCH", "EPOCHS"),
        ("OPTIMISER", "OPTIMIZER"),
        ("KCONFIG_SED", "KCONFIG_SEED"),
        ("TARGET_SPARSITIES", "TARGET_SPARSITY"),
        ("CONFIG_EPOCHS", "EPOCHS"),
        ("CONFIG_EPOCH", "EPOCHS"),
        ("CONFIG_OPTIMIZER_ADAM", "OPTIMIZER_ADAM"),
    ],
)
def test_unknown_variables_are_refused_with_the_nearest_name(
    name: str, suggested: str, tree: Tree, workspace: Callable[..., Workspace]
) -> None:
    with pytest.raises(ConfigError, match=f"no such variable; did you mean {suggested}[?]"):
        sources.load(workspace(**{name: "1"}), tree)


# -- fragments -------------------------------------------------------------------


def test_fragments_merge_and_the_later_one_wins(
    copied_root: Path, workspace: Callable[..., Workspace]
) -> None:
    folder = copied_root / "defconfigs"
    (folder / "first").write_text('CONFIG_EPOCHS="3"\nCONFIG_JOBS=4\nCONFIG_DEVICE_CPU=y\n')
    (folder / "second").write_text('CONFIG_EPOCHS="5"\nCONFIG_DEVICE_CUDA=y\n')
    tree = Tree(copied_root)
    sources.load(workspace(CONFIG="first+second"), tree)
    assert (tree.text("EPOCHS"), tree.text("JOBS")) == ("5", "4")
    assert tree.selected("DEVICE") == ["cuda"]
    sources.load(workspace(CONFIG="second+first"), tree)
    assert (tree.text("EPOCHS"), tree.selected("DEVICE")) == ("3", ["cpu"])


def test_a_fragment_that_another_one_undoes_is_an_error(
    copied_root: Path, workspace: Callable[..., Workspace]
) -> None:
    (copied_root / "defconfigs" / "beta").write_text('CONFIG_BETA1="0.8"\n')
    tree = Tree(copied_root)
    sources.load(workspace(CONFIG="beta+adam"), tree)
    assert tree.text("BETA1") == "0.8"
    with pytest.raises(ConfigError, match=r"beta:1: BETA1=0\.8: depends on HAS_ADAM_STATES"):
        sources.load(workspace(CONFIG="beta+sgd-magnitude-50"), tree)


@pytest.mark.parametrize("name", ["adam+sgd", "sgd+adam"])
def test_a_defconfig_that_adds_nothing_to_a_merge_is_an_error(
    name: str, tree: Tree, workspace: Callable[..., Workspace]
) -> None:
    told = rf"defconfig sgd says .* adds nothing to {re.escape(name)}"
    with pytest.raises(ConfigError, match=told):
        sources.load(workspace(CONFIG=name), tree)
    sources.load(workspace(CONFIG="sgd"), tree)


def test_unknown_defconfigs_are_refused(tree: Tree, workspace: Callable[..., Workspace]) -> None:
    with pytest.raises(ConfigError, match=r"no defconfig 'quikstart'; did you mean quickstart\?"):
        sources.load(workspace(CONFIG="sgd+quikstart"), tree)
    with pytest.raises(
        ConfigError, match=r"KCONFIG_CONFIG=\.\./Kconfig takes a file, and CONFIG=A"
    ):
        sources.load(workspace(CONFIG="../Kconfig"), tree)
    for several in ("adamw,sgd", "adamw sgd"):
        with pytest.raises(
            ConfigError, match=rf"'{several}'; CONFIG takes one, or adamw\+sgd, which"
        ):
            sources.load(workspace(CONFIG=several), tree)


# -- writing ---------------------------------------------------------------------


def test_write_keeps_the_old_file(tree: Tree, tmp_path: Path) -> None:
    path = tmp_path / "deep" / ".config"
    assert sources.write(tree, path)
    first = path.read_text()
    assert not sources.write(tree, path)
    assert [each.name for each in path.parent.iterdir()] == [".config"]
    tree.set("EPOCHS", "3")
    assert sources.write(tree, path)
    assert (path.parent / ".config.old").read_text() == first
    assert 'CONFIG_EPOCHS="3"' in path.read_text()
    assert sorted(each.name for each in path.parent.iterdir()) == [".config", ".config.old"]


def test_a_reader_never_finds_half_a_file(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".config"
    sources.write(tree, path)
    before = path.read_text()
    tree.set("EPOCHS", "3")
    found: list[str] = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        found.append(path.read_text())
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    sources.write(tree, path)
    assert set(found) == {before}


def test_a_write_that_fails_leaves_everything(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".config"
    sources.write(tree, path)
    before = path.read_text()
    tree.set("EPOCHS", "3")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match=r"cannot write .*\.config: No space left"):
        sources.write(tree, path)
    assert path.read_text() == before
    assert [each.name for each in tmp_path.iterdir()] == [".config"]


@given(st.text(max_size=20).filter(str.strip))
def test_any_printable_text_survives_the_file(text: str) -> None:
    tree = Tree()
    try:
        sources.override(tree, {"DATA_DIR": text})
    except ConfigError:
        assert not text.isprintable()
        return
    again = Tree()
    strict.apply(again, strict.parse_config(sources.full_text(tree), "text", tree))
    assert again.text("DATA_DIR") == text


# -- identity --------------------------------------------------------------------


def run_id(**settings: str) -> str:
    tree = Tree()
    sources.override(tree, settings)
    (spec,) = matrix.expand(tree).specs
    return spec.run_id


def test_identity_is_over_values_not_their_spelling() -> None:
    assert run_id(LR="1e-3") == run_id(LR="0.001") == run_id(LR=" 0.0010 ")
    assert run_id(LR="1e-3") != run_id(LR="2e-3")
    assert run_id(LR="0.01") == run_id() == run_id(SGD_LR="1e-2")


def test_what_is_operational_has_no_part_in_identity() -> None:
    assert run_id(JOBS="3", DEVICE="cpu", RESULTS_DIR="x", DATA_DIR="y") == run_id()
    assert run_id(EPOCHS="3") != run_id()


def test_a_link_stays_and_its_target_is_written(tree: Tree, tmp_path: Path) -> None:
    mine, path = tmp_path / "elsewhere" / "mine", tmp_path / ".config"
    mine.parent.mkdir()
    path.symlink_to("elsewhere/mine")
    assert sources.write(tree, path)  # the target is not there yet
    before = mine.read_text()
    tree.set("EPOCHS", "7")
    assert sources.write(tree, path)
    assert path.is_symlink()
    assert 'CONFIG_EPOCHS="7"' in mine.read_text()
    assert path.with_name(".config.old").read_text() == before
    sources.write_minimal(tree, path)
    assert path.is_symlink()
    assert mine.read_text() == tree.minimal_config()
    assert {each.name for each in mine.parent.iterdir()} == {"mine"}


def test_an_old_copy_is_not_written_through_a_link(tree: Tree, tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / ".config"
    other.write_text("of somebody")
    path.write_text("before")
    path.with_name(".config.old").symlink_to(other)
    sources.write(tree, path)
    assert other.read_text() == "of somebody"
    assert path.with_name(".config.old").read_text() == "before"


def _fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_fifo, "is no regular file"),
        (Path.mkdir, "is no regular file"),
        (lambda path: path.symlink_to("/dev/null"), "is no regular file"),
        (lambda path: path.symlink_to("no/such/folder"), "is a link to no/such/folder, which is"),
        (lambda path: path.symlink_to(path), "is a link to .*, which is not there"),
    ],
    ids=["pipe", "directory", "link to a device", "link to nowhere", "link to itself"],
)
def test_what_is_no_file_is_neither_replaced_nor_written(make, told, tree, tmp_path: Path) -> None:
    path = tmp_path / "here" / ".config"
    path.parent.mkdir()
    make(path)
    before = path.lstat().st_mode
    for write in (sources.write, sources.write_minimal):
        with pytest.raises(UserError, match=told):
            write(tree, path)
    assert path.lstat().st_mode == before
    assert [each.name for each in path.parent.iterdir()] == [".config"]


@pytest.mark.parametrize("target", ["plan", "defconfig-sgd", "olddefconfig", "savedefconfig"])
def test_a_device_is_no_configuration(target: str, tmp_path: Path) -> None:
    device = tmp_path / "device"
    _fifo(device)
    told = make_here(tmp_path, target, f"KCONFIG_CONFIG={device}")
    assert "is no regular file, and cannot hold a configuration" in refused(told)
    assert device.is_fifo()
    assert [each.name for each in tmp_path.iterdir()] == ["device"]


def test_a_tilde_means_the_home_directory(tmp_path: Path, monkeypatch) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    (home / "mine").mkdir(parents=True)
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    tree = Tree()
    paths = {"O": "~/out", "KCONFIG_CONFIG": "~/my.config"}
    workspace = Workspace(paths)
    assert workspace.output == home / "out"
    assert workspace.config == home / "my.config"
    settings = {"RESULTS_DIR": "~/runs", "DATA_DIR": "~"}
    experiment = Experiment.load(Workspace({**paths, "CONFIG": "sgd", **settings}))
    assert experiment.root == home / "runs"
    assert experiment.data_dir == home
    experiment.tree.set("RESULTS_DIR", "~/from-config")
    sources.write(experiment.tree, workspace.config)
    assert Experiment.load(workspace).root == home / "from-config"
    assert flags.parse(tree, ["--config", "~/my.config"], "").config == home / "my.config"
    with pytest.raises(UserError, match="M=~/mine: the directory has no Kconfig"):
        _ = Workspace({"M": "~/mine"}).members
    with pytest.raises(UserError, match="~nobody-of-this-name has no home directory here"):
        _ = Workspace({"O": "~nobody-of-this-name/out"}).output
    assert [*here.iterdir()] == []
