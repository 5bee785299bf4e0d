"""make's configuration targets, help and clean, as scripts and through make itself."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adamwprune.base.errors import ConfigError, UserError
from adamwprune.config import commands, sources
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import SOURCE_TREE, Tree
from adamwprune.plan import matrix

pexpect = pytest.importorskip("pexpect", reason="the menu is driven by pexpect")

SCRIPTS = SOURCE_TREE / "scripts"
OWN = {"image-folder", "text-file"}  # ask for files of the user's own, which nothing else can name
Make = Callable[..., "subprocess.CompletedProcess[str]"]


def run(target: str, workspace: Workspace) -> str:
    """Run a command and return the configuration that is there afterwards."""
    commands.run(target, workspace, matrix.expand)
    return workspace.config.read_text() if workspace.config.exists() else ""


def reload(workspace: Workspace) -> Tree:
    """The tree as a strict load of the written file leaves it."""
    tree = Tree()
    sources.read_into(tree, workspace.config)
    return tree


# -- writing commands ------------------------------------------------------------


def test_defconfig_is_the_quickstart(
    workspace: Callable[..., Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    text = run("defconfig", workspace())
    assert text == run("defconfig-quickstart", workspace())
    assert "CONFIG_DATASET_MNIST5K=y\n" in text
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith(".config: written (defconfig quickstart)")
    assert said[1].endswith(".config: unchanged (defconfig quickstart)")


def test_defconfig_name_with_overrides_on_top(
    workspace: Callable[..., Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    run("defconfig-adamw-magnitude-50", workspace(EPOCHS="3", TARGET_SPARSITY="0.6"))
    (spec,) = matrix.expand(reload(workspace())).specs
    assert (spec["OPTIMIZER"], spec["EPOCHS"], spec["TARGET_SPARSITY"]) == ("adamw", 3, 0.6)
    said = capsys.readouterr().out
    assert "(defconfig adamw-magnitude-50, with EPOCHS=3 TARGET_SPARSITY=0.6)" in said


def test_defconfigs_are_merged(workspace: Callable[..., Workspace]) -> None:
    run("defconfig-adam+adamw-magnitude-50", workspace())
    specs = matrix.expand(reload(workspace())).specs
    assert [(spec["OPTIMIZER"], spec.sparsity) for spec in specs] == [("adam", 0.5), ("adamw", 0.5)]


@pytest.mark.parametrize("target", ["defconfig-nope", "defconfig-", "defconfig-sgd+", "nconfig"])
def test_what_is_unknown_writes_nothing(
    target: str, workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"no defconfig|no command"):
        run(target, workspace())
    assert list(tmp_path.iterdir()) == []


def test_a_refused_override_writes_nothing(
    workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    for settings in ({"EPOCHS": "0"}, {"EPOCH": "1"}, {"BETA1": "0.5"}):
        with pytest.raises(ConfigError):
            run("defconfig-sgd", workspace(**settings))
    assert list(tmp_path.iterdir()) == []


def test_alldefconfig_is_the_tree_s_defaults(workspace: Callable[..., Workspace]) -> None:
    run("alldefconfig", workspace())
    assert reload(workspace()).minimal_config() == ""


def test_allyesconfig_has_every_member_and_is_legal(workspace: Callable[..., Workspace]) -> None:
    run("allyesconfig", workspace())
    tree = reload(workspace())
    for name, family in tree.families.items():
        if not family.exclusive:
            assert tree.selected(name) == [each for each in family.members if each not in OWN]
    specs = matrix.expand(tree).specs
    assert {spec["OPTIMIZER"] for spec in specs} == set(tree.families["OPTIMIZER"].members)
    assert {spec["DATASET"] for spec in specs} == set(tree.families["DATASET"].members) - OWN


def test_config_variable_and_a_writing_target_contradict_each_other(
    workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    for target in ("olddefconfig", "oldconfig", "randconfig", "alldefconfig", "defconfig-sgd"):
        with pytest.raises(UserError, match="CONFIG=adamw leaves"):
            run(target, workspace(CONFIG="adamw"))
    assert list(tmp_path.iterdir()) == []


# -- an older tree's configuration -----------------------------------------------

OLD = """\
CONFIG_EPOCHS="3"
CONFIG_GONE=y
CONFIG_JOBS=9999
CONFIG_BETA1="0.8"
nonsense
"""


def test_olddefconfig_keeps_what_holds_and_lists_what_it_drops(
    workspace: Callable[..., Workspace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".config").write_text(OLD)
    run("olddefconfig", workspace())
    tree = reload(workspace())
    assert (tree.text("EPOCHS"), tree.text("JOBS")) == ("3", "0")
    told = sorted(capsys.readouterr().err.splitlines())
    places = [line.split(":")[2] for line in told]
    assert places == ["2", "3", "4", "5"]
    reasons = ("no such symbol", "outside [0, 1024]", "depends on HAS_ADAM_STATES", "malformed")
    assert all(reason in line for reason, line in zip(reasons, told, strict=True))
    assert (tmp_path / ".config.old").read_text() == OLD


def test_olddefconfig_has_nothing_to_say_about_its_own_output(
    workspace: Callable[..., Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    before = run("randconfig", workspace(KCONFIG_SEED="3"))
    capsys.readouterr()
    assert run("olddefconfig", workspace()) == before
    said = capsys.readouterr()
    assert "unchanged" in said.out
    assert said.err == ""


def test_olddefconfig_without_a_config_is_the_quickstart(
    workspace: Callable[..., Workspace],
) -> None:
    assert run("olddefconfig", workspace()) == run("defconfig", workspace())


def test_listnewconfig_lists_what_is_not_set(
    workspace: Callable[..., Workspace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = run("defconfig-adam", workspace())
    capsys.readouterr()
    run("listnewconfig", workspace())
    assert capsys.readouterr().out == ""
    shorter = re.sub(r"(CONFIG_EPOCHS|# CONFIG_OPTIMIZER_ADAMW |CONFIG_BETA1).*\n", "", text)
    (tmp_path / ".config").write_text(shorter)
    assert run("listnewconfig", workspace()) == shorter
    assert capsys.readouterr().out.splitlines() == [
        "CONFIG_OPTIMIZER_ADAMW=n",
        'CONFIG_BETA1="0.9"',
        'CONFIG_EPOCHS="preset"',
    ]
    (tmp_path / ".config").unlink()
    with pytest.raises(UserError, match="does not exist; make defconfig"):
        run("listnewconfig", workspace())


class Questions:
    """kconfig.py oldconfig in a pseudo-terminal."""

    def __init__(self, output: Path, variables: str = "") -> None:
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "adamwprune", "kconfig", "oldconfig"],
            cwd=str(output),
            env={**os.environ, "MAKEFLAGS": f" -- O={output} {variables}".rstrip()},
            encoding="utf-8",
            timeout=20,
        )

    def answer(self, question: str, answer: str) -> None:
        self.child.expect_exact(question)
        self.child.sendline(answer)

    def end(self) -> str:
        self.child.expect(pexpect.EOF)
        self.child.close()
        return str(self.child.before)


@pytest.fixture
def shortened(workspace: Callable[..., Workspace], tmp_path: Path) -> Path:
    """A .config in which a number, a member and a choice are not set."""
    text = run("defconfig-sgd", workspace())
    path = tmp_path / ".config"
    path.write_text(re.sub(r".*CONFIG_(EPOCHS|OPTIMIZER_ADAM|DEVICE_\w+)\b.*\n", "", text))
    return path


@pytest.mark.slow
def test_oldconfig_asks_and_checks_each_answer(shortened: Path, tmp_path: Path) -> None:
    oldconfig = Questions(tmp_path)
    oldconfig.answer("adam: adaptive moment estimation (OPTIMIZER_ADAM: y or n) [n]", "maybe")
    oldconfig.answer("neither y nor n", "y")
    # Adam brings options that were not visible before.
    oldconfig.answer("(ADAM_LR: number in (0, 100]) [0.008]", "1000")
    oldconfig.answer("1000 is outside (0, 100]", "0.002")
    oldconfig.answer("(AMSGRAD: one of preset, on, off) [preset]", "maybe")
    oldconfig.answer("AMSGRAD=maybe: is none of preset, on, off", "off")
    for name in ("BETA1", "BETA2", "EPS", "SPAM_MODE", "PRUNING_METHOD_STATE"):
        oldconfig.answer(f"({name}:", "")
    epochs = "(EPOCHS: one or several: whole number in [1, 100000] or preset) [preset]"
    oldconfig.answer(epochs, "?")
    oldconfig.child.expect_exact("Passes over the training set.")
    oldconfig.answer("[preset]", "4")
    oldconfig.answer("(DEVICE: one of auto, cpu, cuda) [auto]", "cpu")
    assert "written" in oldconfig.end()
    tree = reload(Workspace({"O": str(tmp_path)}))
    assert tree.selected("OPTIMIZER") == ["sgd", "adam"]
    assert [tree.text(name) for name in ("ADAM_LR", "EPOCHS", "BETA1")] == ["0.002", "4", "0.9"]
    assert (tree.selected("AMSGRAD"), tree.selected("DEVICE")) == (["off"], ["cpu"])


def test_oldconfig_does_not_ask_what_the_command_line_says(shortened: Path, tmp_path: Path) -> None:
    oldconfig = Questions(tmp_path, "EPOCHS=5 OPTIMIZER=sgd")
    oldconfig.answer("(DEVICE: one of auto, cpu, cuda) [auto]", "")
    assert "EPOCHS:" not in oldconfig.end()
    assert 'CONFIG_EPOCHS="5"\n' in shortened.read_text()


def test_oldconfig_that_is_broken_off_changes_nothing(shortened: Path, tmp_path: Path) -> None:
    before = shortened.read_text()
    oldconfig = Questions(tmp_path)
    oldconfig.answer("(OPTIMIZER_ADAM:", "n")
    oldconfig.child.expect_exact("(EPOCHS:")
    oldconfig.child.sendeof()
    assert "\nerror: no more answers" in oldconfig.end()
    assert oldconfig.child.exitstatus == 2
    assert shortened.read_text() == before


def test_oldconfig_needs_a_terminal_only_to_ask(
    shortened: Path, tmp_path: Path, make: Make
) -> None:
    before = shortened.read_text()
    done = make("oldconfig")
    assert done.returncode == 2
    assert (
        "error: there is a question about OPTIMIZER_ADAM and no terminal to ask on" in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert shortened.read_text() == before
    assert make("olddefconfig").returncode == 0
    assert make("oldconfig").returncode == 0


# -- savedefconfig ---------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_savedefconfig_reloads_to_the_same(
    seed: int, copied_root: Path, workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    full = run("randconfig", workspace(KCONFIG_SEED=str(seed)))
    run("savedefconfig", workspace())
    shutil.copyfile(tmp_path / "defconfig", copied_root / "defconfigs" / "saved")
    tree = Tree(copied_root)
    sources.load(workspace(CONFIG="saved"), tree)
    assert sources.full_text(tree) == full
    assert len((tmp_path / "defconfig").read_text()) < len(full)


def test_savedefconfig_says_what_it_wrote(
    workspace: Callable[..., Workspace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("savedefconfig", workspace(CONFIG="adamw", EPOCHS="3"))
    assert f"{tmp_path}/defconfig: written, the minimal form of defconfig adamw" in (
        capsys.readouterr().out
    )
    assert (tmp_path / "defconfig").read_text() == (
        '# CONFIG_OPTIMIZER_SGD is not set\nCONFIG_OPTIMIZER_ADAMW=y\nCONFIG_EPOCHS="3"\n'
    )
    assert not (tmp_path / ".config").exists()


def test_list_defconfigs_is_aligned(
    workspace: Callable[..., Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    run("list-defconfigs", workspace())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(sources.defconfigs())
    titles = [line.split(None, 1) for line in lines]
    assert len({line.index(title) for line, (_, title) in zip(lines, titles, strict=True)}) == 1
    assert any(line.split()[0] == "memory-comparison" for line in lines)


# -- through make ----------------------------------------------------------------


def test_make_passes_values_by_no_shell(make: Make, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    value = f"a b; touch {trap} 'q' \"r\" \\s"
    done = make("defconfig-sgd", f"DATA_DIR={value}", "JOBS=2")
    assert done.returncode == 0, done.stderr
    tree = reload(Workspace({"O": str(tmp_path)}))
    assert (tree.text("DATA_DIR"), tree.text("JOBS")) == (value, "2")
    assert not trap.exists()


def test_make_merges_defconfigs_and_says_nothing_else(make: Make, tmp_path: Path) -> None:
    done = make("defconfig-adam+adamw-magnitude-50")
    assert (done.returncode, done.stderr) == (0, "")
    tree = reload(Workspace({"O": str(tmp_path)}))
    assert tree.selected("OPTIMIZER") == ["adam", "adamw"]


def test_make_refuses_an_unknown_variable(make: Make, tmp_path: Path) -> None:
    done = make("defconfig", "OPTIMISER=adam")
    assert done.returncode == 2
    assert "no such variable; did you mean OPTIMIZER?" in done.stderr
    assert not (tmp_path / ".config").exists()


def test_make_repeats_a_random_configuration(make: Make, tmp_path: Path) -> None:
    assert "KCONFIG_SEED=5" in make("randconfig", "KCONFIG_SEED=5").stdout
    first = (tmp_path / ".config").read_text()
    assert "unchanged" in make("randconfig", "KCONFIG_SEED=5").stdout
    assert (tmp_path / ".config").read_text() == first


@pytest.mark.parametrize("words", [[], ["a", "b"], ["nope"]])
def test_the_script_explains_its_use(words: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "adamwprune", "kconfig", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


# -- without any package ---------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "scripts/help.py",
        "scripts/clean.py",
        "scripts/_library.py",
        "lib/adamwprune/__init__.py",
        "lib/adamwprune/base/__init__.py",
        "lib/adamwprune/base/console.py",
        "lib/adamwprune/base/subprocesses.py",
        "lib/adamwprune/base/terminal.py",
        "lib/adamwprune/base/wording.py",
        "lib/adamwprune/base/errors.py",
        "lib/adamwprune/base/files.py",
        "lib/adamwprune/config/__init__.py",
        "lib/adamwprune/config/makeflags.py",
    ],
)
def test_help_and_clean_need_only_an_old_python(path: str) -> None:
    tree = ast.parse((SOURCE_TREE / path).read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules = {str(node.module).split(".")[0]}
        else:
            continue
        lazily = {"rich"}  # by what these two do not call
        assert modules <= {*sys.stdlib_module_names, *lazily, "adamwprune", "_library"}


def test_a_name_that_is_missing_is_said(make: Make) -> None:
    assert make("defconfig-").stderr.startswith("error: no defconfig '': a name is missing")


def test_what_an_encoding_cannot_say_is_said_in_ascii() -> None:
    """A note of ours and the text of an error, in a terminal that knows ASCII only."""
    script = (
        "from adamwprune.base.console import run_command\n"
        "from adamwprune.base.errors import UserError\n"
        "def main():\n"
        "    print('0 → 1')\n"
        "    raise UserError('größe')\n"
        "run_command(main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "0 -> 1\n")
    assert done.stderr == "error: gr\\xf6\\xdfe\n"


def test_help_lists_every_target_in_groups() -> None:
    done = subprocess.run(
        [sys.executable, "-S", str(SCRIPTS / "help.py"), str(SOURCE_TREE / "Makefile")],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.endswith(":") and line[0].isupper()][:3] == [
        "Experiments:",
        "Configuration:",
        "Checking and cleaning:",
    ]
    described = lines[: next(i for i, line in enumerate(lines) if line.startswith("First:"))]
    entries = [re.match(r"  ([\w-]+) +", line) for line in described]
    found = {entry[1]: entry.end() for entry in entries if entry}
    assert {"menuconfig", "defconfig-NAME", *commands.COMMANDS, "randconfig", "help"} <= set(found)
    assert len(set(found.values())) == 1
    assert "make EPOCHS=3 OPTIMIZER=adamw" in done.stdout
    for name in (*sources.RESERVED, "DATA_DIR", "RESULTS_DIR"):
        assert re.search(rf"\b{name}=", done.stdout), f"{name} is not named"
    assert max(map(len, lines)) <= 100
    assert max(map(len, lines[len(described) :])) <= 80, "these are not wrapped"


def test_help_ends_quietly_where_nobody_reads_on() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-S", str(SCRIPTS / "help.py"), str(SOURCE_TREE / "Makefile")],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, "")


# -- clean -----------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with clean.py, caches, results and a tracked file in every place."""
    root = tmp_path / "project"
    package = root / "lib" / "adamwprune"
    for path in (
        "__init__.py",
        "base/__init__.py",
        "base/console.py",
        "base/errors.py",
        "base/files.py",
        "base/subprocesses.py",
        "base/terminal.py",
        "base/wording.py",
        "config/__init__.py",
        "config/makeflags.py",
    ):
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SOURCE_TREE / "lib" / "adamwprune" / path, package / path)
    (root / "scripts").mkdir()
    for name in ("clean.py", "_library.py"):
        shutil.copyfile(SCRIPTS / name, root / "scripts" / name)
    for path in (*TRACKED, *UNTRACKED):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")
    for words in (["init", "-q"], ["add", "-f", *TRACKED]):
        subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)
    return root


TRACKED = (
    "README.md",
    "results/published/a/result.json",
    "results/figures/kept.png",
    "lib/__pycache__/kept.txt",
    "data/kept",
)
CACHES = (
    "tests/__pycache__/a.pyc",
    ".pytest_cache/v/x",
    ".mypy_cache/x",
    ".ruff_cache/x",
    ".hypothesis/x",
    ".import_linter_cache/x",
    "lib/adamwprune.egg-info/PKG-INFO",
    "results/figures/a.png",
    "results/report.html",
    "lib/__pycache__/b.pyc",
)
SETUP = (".config", ".config.old", ".venv/pyvenv.cfg", ".venv/lib/__pycache__/c.pyc")
RESULTS = ("results/run-1/result.json", "results/published/b/result.json", "data/MNIST/raw/images")
UNTRACKED = (*CACHES, *SETUP, *RESULTS, "notes.txt", "my-env/pyvenv.cfg", "my-env/__pycache__/d")


def clean(project: Path, level: str, flags: str = "", **environment: str) -> tuple[int, set[str]]:
    """Exit status, and which of the untracked files are left; every tracked one must be."""
    done = subprocess.run(
        [sys.executable, "-B", str(project / "scripts" / "clean.py"), level],
        cwd=project,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "", "MAKEFLAGS": flags, **environment},
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert all((project / path).exists() for path in TRACKED)
    return done.returncode, {path for path in UNTRACKED if (project / path).exists()}


def test_clean_removes_what_is_rebuilt(project: Path) -> None:
    assert clean(project, "clean") == (0, set(UNTRACKED) - set(CACHES))
    assert clean(project, "clean") == (0, set(UNTRACKED) - set(CACHES))


def test_mrproper_removes_the_configuration_too(project: Path) -> None:
    assert clean(project, "mrproper") == (0, set(UNTRACKED) - set(CACHES) - set(SETUP))


@pytest.mark.parametrize("way", ["variable", "environment"])
def test_distclean_that_is_told_yes(project: Path, way: str) -> None:
    told = {"flags": " -- YES=1"} if way == "variable" else {"YES": "1"}
    status, left = clean(project, "distclean", **told)
    assert status == 0
    assert left == {
        "results/published/b/result.json",
        "notes.txt",
        "my-env/pyvenv.cfg",
        "my-env/__pycache__/d",
    }


def test_distclean_without_a_terminal_removes_nothing(project: Path) -> None:
    assert clean(project, "distclean") == (2, set(UNTRACKED))
    assert clean(project, "distclean", " -- YES=0") == (2, set(UNTRACKED))


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1)])
def test_distclean_asks(project: Path, answer: str, status: int) -> None:
    child = pexpect.spawn(
        sys.executable,
        ["-B", str(project / "scripts" / "clean.py"), "distclean"],
        cwd=str(project),
        encoding="utf-8",
        timeout=20,
    )
    child.expect_exact("results/run-1")
    child.expect_exact("[y/N]")
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == status
    assert (project / "results/run-1/result.json").exists() == (answer != "y")
    assert all((project / path).exists() for path in TRACKED)


@pytest.mark.parametrize("venv", [".", "..", "results", "no-such"])
@pytest.mark.parametrize("level", ["mrproper", "distclean"])
def test_what_is_no_environment_of_ours_is_not_removed_as_one(
    project: Path, venv: str, level: str
) -> None:
    (project / "pyvenv.cfg").write_text("")  # the tree itself as an environment
    clean(project, level, f" -- VENV={venv} YES=1")
    assert (project / "notes.txt").exists()
    assert (project / ".git").is_dir()
    assert (project / "results/published/b/result.json").exists()
    assert (project / "results/run-1/result.json").exists() == (level == "mrproper")


def test_clean_honours_the_output_directory(project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "out dir"
    for path in (".config", "results/figures/a.png", "results/run-1/result.json"):
        (elsewhere / path).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / path).write_text("x")
    flags = f" -- O={str(elsewhere).replace(' ', chr(92) + ' ')}"
    _, left = clean(project, "mrproper", flags)
    assert {".config", "results/figures/a.png"} <= left
    assert not (elsewhere / ".config").exists()
    assert not (elsewhere / "results/figures").exists()
    assert (elsewhere / "results/run-1/result.json").exists()
    clean(project, "distclean", flags, YES="1")
    assert not (elsewhere / "results/run-1").exists()


def test_clean_does_not_follow_links(project: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "precious").write_text("x")
    (project / "results" / "linked").symlink_to(shared)
    (project / "results" / "dangling").symlink_to(tmp_path / "nothing")
    clean(project, "distclean", YES="1")
    assert (shared / "precious").exists()
    assert not (project / "results" / "linked").is_symlink()
    assert not (project / "results" / "dangling").is_symlink()


@pytest.mark.parametrize("level", ["", "all"])
def test_clean_knows_its_levels(project: Path, level: str) -> None:
    assert clean(project, level) == (2, set(UNTRACKED))
