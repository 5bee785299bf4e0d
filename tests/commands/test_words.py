"""What a user types that is not quite right, or is given as a shell completes it."""

import os
import shutil
import subprocess
from argparse import Namespace
from pathlib import Path

import pytest

from adamwprune.base.errors import ConfigError, UserError
from adamwprune.commands import matrix, plan
from adamwprune.config import sources, strict
from adamwprune.config.makeflags import make_jobs
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import SOURCE_TREE, Tree
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.scheduler import devices
from adamwprune.scheduler.devices import Machine


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"RUN": "results/b-s0-0123456789/"}, "b-s0-0123456789"),
        ({"RUN": "/x/results/a-s0-0123456789/result.json"}, "a-s0-0123456789"),
        ({"RUN": "a-s0"}, "a-s0"),
        ({"CONFIG": "defconfigs/sgd"}, "sgd"),
        ({"CONFIG": "defconfigs/sgd+./defconfigs/adam"}, "sgd+adam"),
        ({"CONFIG": "sgd+../frag"}, "sgd+../frag"),
    ],
)
def test_paths_that_a_shell_completes(given, meant):
    (found,) = Workspace.from_environment(given).variables.values()
    assert found == meant


def test_a_fragment_from_anywhere_is_merged(tmp_path):
    path = tmp_path / "frag"
    path.write_text('CONFIG_EPOCHS="3"\n')
    tree = Tree()
    strict.apply(tree, sources.read_defconfig(tree, f"adamw+{path}"))
    assert (tree.text("EPOCHS"), tree.selected("OPTIMIZER")) == ("3", ["adamw"])
    with pytest.raises(UserError, match="nothing: No such file"):
        sources.read_defconfig(tree, f"adamw+{tmp_path}/nothing")
    with pytest.raises(ConfigError, match="did you mean adamwprune"):
        sources.read_defconfig(tree, "adamwprun")


def test_a_configuration_that_is_not_there_is_not_made(tmp_path):
    typo = tmp_path / "typo"
    with pytest.raises(UserError, match="there is no such file"):
        sources.load(Workspace({"KCONFIG_CONFIG": str(typo)}), Tree())
    assert not typo.exists()


@pytest.mark.parametrize(
    ("flags", "jobs"),
    [
        (" -j4 --jobserver-auth=3,4 --no-print-directory -- EPOCHS=3", "4"),
        ("k -j12", "12"),
        (" -j --no-print-directory", ""),
        (" --no-print-directory -- A=-j4", ""),
        ("", ""),
    ],
)
def test_jobs_of_make_are_jobs(monkeypatch, flags, jobs):
    assert make_jobs(flags) == jobs
    monkeypatch.setenv("MAKEFLAGS", " -j4 -- JOBS=2")
    assert Workspace.from_environment().variables == {"JOBS": "2"}


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("menuconfg", "did you mean menuconfig?"),
        ("Plan", "did you mean plan?"),
        ("EPOCHS", "a setting is written EPOCHS=VALUE"),
    ],
)
def test_an_unknown_target_names_the_nearest(word, told):
    make = ["make", "-C", str(SOURCE_TREE), "PYTHON=python3", "VENV=", word]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(make, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert f"error: no target '{word}'" in done.stderr
    assert told in done.stderr


def catalogue(tmp_path: Path, **settings: str) -> Catalogue:
    variables = {"CONFIG": "sgd", "DATASET": "mnist5k", "O": str(tmp_path), **settings}
    return Catalogue.of(Experiment.load(Workspace(variables)))


def test_a_name_means_the_run_of_the_configuration(tmp_path):
    here = catalogue(tmp_path, EPOCHS="3")
    (spec,) = here.experiment.matrix.specs
    other = tmp_path / "results" / f"{spec.slug}-0000000000"
    other.mkdir(parents=True)
    (other / "spec.json").write_text("{}")
    assert here.named(spec.slug) == spec.run_id


def test_of_several_runs_of_a_name_it_is_said_what_differs(tmp_path):
    here = catalogue(tmp_path, LR="0.1 0.2")
    with pytest.raises(UserError, match=r"2 runs:\n  lenet5-.*LR=0\.1\n  lenet5-.*LR=0\.2$"):
        here.named("lenet5-mnist5k-sgd-none-s0")
    several = catalogue(tmp_path, SEED="0 1")
    with pytest.raises(UserError, match=r"2 runs:\n  lenet5-.*SEED=0\n  lenet5-.*SEED=1$"):
        several.named("lenet5-mnist5k-sgd-none")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"RANKS": "5"}, "RANKS=5: this machine has 4 cores"),
        ({"THREADS": "5"}, "THREADS=5: this machine has 4 cores"),
        ({"RANKS": "2", "RELEASE_GRADIENTS": "y"}, "RELEASE_GRADIENTS=n, or RANKS=1"),
    ],
)
def test_what_cannot_be_trained_here_is_refused_before_it_is_begun(
    tmp_path, capsys, monkeypatch, settings, told
):
    monkeypatch.setattr(devices, "machine", lambda choice: Machine(4))
    given = {"CONFIG": "sgd", "DATASET": "mnist5k", "O": str(tmp_path), **settings}
    with pytest.raises(UserError, match=told):
        plan.main(Workspace(given), Namespace())
    how = Namespace(defconfig="", choose=Catalogue.missing, report=False, memory=False)
    with pytest.raises(UserError, match=told):
        matrix.main(Workspace(given), how)
    assert "goes on with the rest" not in capsys.readouterr().out


def test_a_plan_fits_a_terminal_and_its_ids_stay_whole(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(plan, "estimate", lambda *own, **how: [])
    given = {"CONFIG": "adamw-state-90", "O": str(tmp_path), "LR": "0.1 0.2", "BATCH_SIZE": "32 64"}
    plan.main(Workspace(given), Namespace())
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    ids = [spec.run_id for spec in Experiment.load(Workspace(given)).matrix.specs]
    assert all(any(f" {each}" in line for line in lines) for each in ids)


def test_completion_knows_targets_symbols_and_defconfigs():
    script = (
        "source scripts/completion.sh; COMP_CWORD=1;"
        "COMP_WORDS=(make menuc); _adamwprune; echo ${COMPREPLY[@]};"
        "COMP_WORDS=(make EPO); _adamwprune; echo ${COMPREPLY[@]};"
        "COMP_CWORD=3; COMP_WORDS=(make CONFIG = study-sc); _adamwprune; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=SOURCE_TREE, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["menuconfig", "EPOCHS=", "study-scores"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_completion_under_zsh():
    pexpect = pytest.importorskip("pexpect", reason="the shell is driven by pexpect")
    shell = pexpect.spawn(
        "zsh", ["-f", "-i"], cwd=str(SOURCE_TREE), env={**os.environ, "TERM": "dumb"}, timeout=20
    )
    shell.sendline("source scripts/completion.sh; PS1=ready:")
    shell.expect("\rready:")
    for typed, completed in {
        "menuc": "menuconfig",
        "EPO": "EPOCHS=",
        "SEED=1 CONFIG=study-sc": "SEED=1 CONFIG=study-scores",
    }.items():
        shell.send(f"make {typed}\t1\x15")  # a 1 where a value goes on, and the line is dropped
        shell.expect_exact(f"make {completed}1")
    shell.close(force=True)


def test_allnoconfig_is_one_run_and_legal(tmp_path):
    from adamwprune.config import commands
    from adamwprune.plan import matrix

    workspace = Workspace({"O": str(tmp_path)})
    commands.run("allnoconfig", workspace, matrix.expand)
    tree = Tree()
    sources.load(workspace, tree)
    assert len(matrix.expand(tree).cells) == 1


def test_help_of_new_symbols_is_their_help(tmp_path, capsys):
    from adamwprune.config import commands
    from adamwprune.plan import matrix

    (tmp_path / ".config").write_text('CONFIG_EPOCHS="3"\n')
    commands.run("helpnewconfig", Workspace({"O": str(tmp_path)}), matrix.expand)
    text = capsys.readouterr().out
    assert 'CONFIG_SEED="0"' in text
    assert "Seed of the initial weights" in text
    assert "CONFIG_EPOCHS" not in text


def test_a_run_is_found_by_the_name_that_the_terminal_shows(tmp_path):
    here = catalogue(tmp_path, LR="0.1 0.2")
    assert here.named("lenet5-mnist5k-sgd-none-lr0.2-s0") == here.experiment.matrix.specs[1].run_id
