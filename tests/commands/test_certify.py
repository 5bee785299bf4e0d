"""``make certify``: what it trains, what it keeps, and what it says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from adamwprune.base.errors import UserError
from adamwprune.commands import certify
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import SOURCE_TREE, Tree
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.worktrees import Worktrees, shortened
from adamwprune.plan.spec import RunSpec
from adamwprune.records import code
from adamwprune.records.certified import Certificates, path_of
from adamwprune.records.code import Code, Sources
from adamwprune.records.published import write_published
from tests.support.records import elsewhere, expand, synthetic

OLD = Code({"adamwprune.training": "0" * 10})
MIDDLE = Code({"adamwprune.training": "2" * 10})
SPECS = expand("memory-comparison", OPTIMIZER="adam sgd", PRUNING_METHOD="none magnitude")
SOURCES = Sources(certified=None)


def here(spec: RunSpec) -> Code:
    """The code that is here, which is parsed once for all tests."""
    return SOURCES.of(spec)


class Trees:
    """Stands in for :class:`Worktrees`: commit ``old`` has OLD, HEAD is what is here."""

    def __init__(self, weights: str = "1" * 64, head: str = "new") -> None:
        self.weights = {"old": "1" * 64, "middle": "1" * 64, "new": weights}
        self.trained, self.head = [], head

    def has(self, commit: str) -> bool:
        return commit in self.weights

    def digest(self, commit: str, spec: RunSpec) -> str:
        return here(spec).digest

    def train(self, commit: str, spec: RunSpec, device: str):
        self.trained.append((commit, spec, device))
        made = {"old": OLD, "middle": MIDDLE}.get(commit) or here(spec)
        record = replace(synthetic(spec), weights=self.weights[commit], code=made.to_json())
        return elsewhere(record, commit=commit, device=device)


@pytest.fixture
def experiment(tmp_path, monkeypatch) -> Experiment:
    """Published: every run of SPECS, by the code of the commit ``old``."""
    monkeypatch.setattr(Experiment, "published", tmp_path / "published")
    monkeypatch.setattr(code, "CERTIFIED", tmp_path / "certified.jsonl")
    monkeypatch.setattr(certify, "Sources", sources)
    monkeypatch.setattr(certify.devices, "machine", lambda choice: certify.devices.Machine(1, {}))
    publish(tmp_path, **{"commit": "old"})
    return Experiment.load(Workspace({"O": str(tmp_path), "CONFIG": "quickstart"}))


def sources() -> Sources:
    """The code that is here, with the proofs that there are by now."""
    return Sources(certified=code.CERTIFIED)


def publish(folder, **environment: object) -> None:
    records = [
        elsewhere(replace(synthetic(spec), code=OLD.to_json()), **environment) for spec in SPECS
    ]
    write_published(folder / "published" / "a.jsonl", records)


def test_each_way_through_the_code_is_trained_once_by_both_codes(experiment, capsys):
    trees = Trees()
    assert certify.certify(experiment, trees, Certificates(code.CERTIFIED)) == 0
    paths = {path_of(spec) for spec in SPECS}
    assert len(SPECS) > len(paths) == 4  # an optimizer with and without pruning
    for commit in ("old", "new"):
        trained = [spec for by, spec, device in trees.trained if (by, device) == (commit, "cpu")]
        assert sorted(map(path_of, trained)) == sorted(paths)
        assert {(spec["EPOCHS"], spec["SEED"]) for spec in trained} == {(1, 0)}
    assert f"{len(SPECS)} of {len(SPECS)} published records are fresh" in capsys.readouterr().out
    again = Trees()
    assert certify.certify(experiment, again, Certificates(code.CERTIFIED)) == 0
    assert again.trained == []


def test_older_code_is_asked_in_the_words_that_it_knows(experiment, tmp_path):
    new = SPECS[0]
    values = {name: value for name, value in new.values.items() if name != "STEPS"}
    old = RunSpec({**values, "SEED": 7})
    assert path_of(new) == path_of(old)
    records = [replace(synthetic(spec), code=OLD.to_json()) for spec in (new, old)]
    old_code = replace(records[1], code=Code({"adamwprune.training": "1" * 10}).to_json())
    made = [elsewhere(record, commit="old") for record in (records[0], old_code)]
    write_published(tmp_path / "published" / "a.jsonl", made)
    trees = Trees()
    certify.certify(experiment, trees, Certificates(code.CERTIFIED))
    assert len(trees.trained) == 3
    assert not any("STEPS" in spec for _, spec, _ in trees.trained)


def test_of_codes_that_are_equal_the_newest_is_compared(experiment, capsys):
    certify.certify(experiment, Trees(head="middle"), Certificates(code.CERTIFIED))
    assert f"0 of {len(SPECS)} published records are fresh" in capsys.readouterr().out
    trees = Trees()
    assert certify.certify(experiment, trees, Certificates(code.CERTIFIED)) == 0
    assert {commit for commit, _, _ in trees.trained} == {"middle", "new"}
    assert f"{len(SPECS)} of {len(SPECS)} published records are fresh" in capsys.readouterr().out
    assert len(Certificates(code.CERTIFIED).proofs) == 8  # two steps, four paths


def test_another_bit_is_no_proof(experiment, capsys):
    assert certify.certify(experiment, Trees("2" * 64), Certificates(code.CERTIFIED)) == 1
    out = capsys.readouterr().out
    assert "is not shown to be equal: its records differ" in out
    assert f"0 of {len(SPECS)} published records are fresh" in out
    assert not code.CERTIFIED.exists()


def test_a_record_of_another_device_is_told(experiment, tmp_path, capsys):
    publish(tmp_path, commit="old", device="cuda:0")
    assert certify.certify(experiment, Trees(), Certificates(code.CERTIFIED)) == 0
    count = len(SPECS)
    assert capsys.readouterr().out.endswith(
        f"{count} of {count} published records are fresh\n"
        f"for {count} of them the proof was given on another kind of device\n"
    )


def test_a_commit_that_is_not_here_is_named(experiment, tmp_path, capsys):
    publish(tmp_path, commit="elsewhere")
    trees = Trees()
    assert certify.certify(experiment, trees, Certificates(code.CERTIFIED)) == 0
    assert trees.trained == []
    out = capsys.readouterr().out
    assert f"{len(SPECS)} records without proof: commit elsewhere is not in this repository" in out
    assert f"    {min(spec.run_id for spec in SPECS)}\n" in out


def test_uncommitted_changes_are_refused(experiment, monkeypatch):
    monkeypatch.setattr(Trees, "digest", lambda self, commit, spec: "other")
    with pytest.raises(UserError, match="uncommitted changes: commit them first"):
        certify.certify(experiment, Trees(), Certificates(code.CERTIFIED))


def test_the_check_trains_lines_again(experiment, capsys):
    certify.certify(experiment, Trees(), Certificates(code.CERTIFIED))
    trees = Trees()
    assert certify.check(Certificates(code.CERTIFIED), trees, "1") == 0
    assert len(trees.trained) == 2
    assert certify.check(Certificates(code.CERTIFIED), trees, "all") == 0
    assert len(trees.trained) == 2 + 2 * 4
    with pytest.raises(UserError, match="CHECK=some: neither a number of lines nor all"):
        certify.check(Certificates(code.CERTIFIED), trees, "some")


def test_the_check_finds_a_line_that_does_not_hold(experiment, capsys):
    """One that a person sealed without the runs, and one that was edited."""
    certify.certify(experiment, Trees(), Certificates(code.CERTIFIED))
    assert certify.check(Certificates(code.CERTIFIED), Trees("2" * 64), "1") == 1
    assert "its records differ" in capsys.readouterr().err
    other = Trees("2" * 64)
    other.weights["old"] = "2" * 64
    assert certify.check(Certificates(code.CERTIFIED), other, "1") == 1
    assert "the same machine gives other bits than it holds" in capsys.readouterr().err
    code.CERTIFIED.write_text(code.CERTIFIED.read_text().replace("1" * 64, "3" * 64, 1))
    assert certify.check(Certificates(code.CERTIFIED), Trees(), "0") == 1
    assert "certified.jsonl:1: was changed after it was written" in capsys.readouterr().err


def test_of_a_large_network_a_narrow_one_is_trained():
    (spec,) = expand("study-memory-gpt2", PRUNING_METHOD="none")
    assert shortened(spec)["MODEL_WIDTH"] == 0.25
    assert path_of(shortened(spec)) == path_of(spec)


def test_a_shortened_run_goes_the_same_way():
    for spec in SPECS:
        short = shortened(spec)
        assert path_of(short) == path_of(spec)
        assert short.problems() == []
        assert 100 <= short.total_steps < 200


@pytest.mark.long
def test_a_refactored_optimizer_is_certified_and_another_constant_is_not(tmp_path):
    """With a real repository, real checkouts and real training."""
    root = tmp_path / "repository"
    kept = ("Kconfig", "Makefile", "defconfigs", "lib", "train.py", ".gitignore")
    for name in kept:
        source, target = SOURCE_TREE / name, root / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(exist_ok=True, parents=True)
            shutil.copy(source, target)

    environment = {**os.environ, "PYTHONPATH": str(root / "lib"), "MAKEFLAGS": ""}

    def run(*words: str) -> str:
        done = subprocess.run(
            words, cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    def commit() -> None:
        run("git", "add", "-A")
        run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "next")

    def edit(old: str, new: str) -> None:
        path = root / "lib/adamwprune/optimizers/adam.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        commit()

    settings = ("DATASET=mnist5k", "OPTIMIZER=adam", "PRUNING_METHOD=none", "DEVICE=cpu")
    python = (sys.executable, "-m", "adamwprune")
    run("git", "init", "-q")
    commit()
    with Worktrees(Tree(), root, tmp_path) as trees:
        spec = expand("quickstart", DATASET="mnist5k", OPTIMIZER="adam", PRUNING_METHOD="none")[0]
        first = trees.train(trees.head, shortened(spec), "cpu")
        write_published(root / "results/published/a.jsonl", [first])
    commit()
    edit("class Adam", "UNUSED = 1\n\n\nclass Adam")
    assert "1 of 1 published records are fresh" in run(*python, "certify", *settings)
    edit("UNUSED = 1", "UNUSED = 2")
    beta1 = '(lambda params, values: Adam.from_values(params, {**values, "BETA1": 0.5}))'
    edit("build = Adam.from_values", f"build = {beta1}")
    assert "0 of 1 published records are fresh" in run(*python, "certify", *settings)


def test_what_a_record_s_run_does_not_use_is_not_asked_for(tmp_path):
    """An initial sparsity of 0 is none: no command can give it."""
    (spec, *_) = expand("quickstart", DATASET="mnist5k")
    trees = Worktrees(Tree(), tmp_path, tmp_path)
    old = RunSpec({**spec.values, "INITIAL_SPARSITY": 0.0, "ACCUMULATION": 1})
    words = trees._flags(old)
    assert "--accumulation" in words
    assert "--initial-sparsity" not in words
