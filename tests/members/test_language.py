"""A network of another kind from a directory outside the tree, from plan to reproduction.

``language/`` brings a member of each family: a network that predicts letters, a text, a task that
is judged in bits per byte (lower is better), Lion, and pruning by |w · g|.
"""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adamwprune.__main__ import main
from adamwprune.base import registry
from adamwprune.base.errors import UserError
from adamwprune.config.sources import Workspace
from adamwprune.experiment.experiment import Experiment
from adamwprune.plan.spec import RunSpec
from adamwprune.records.code import Sources
from adamwprune.records.store import read_result

pytestmark = pytest.mark.slow

LANGUAGE = Path(__file__).with_name("language")
SETTINGS = {
    "CONFIG": "sgd",
    "MODEL": "tiny",
    "DATASET": "rhyme",
    "TASK": "next-byte",
    "STEPS": "40",
    "JOBS": "1",
    "THREADS": "1",
    "DEVICE": "cpu",
}
PRUNED = {"OPTIMIZER": "lion", "PRUNING_METHOD": "saliency", "TARGET_SPARSITY": "0.7",
          "PRUNING_WARMUP": "10", "PRUNING_INTERVAL": "7"}  # fmt: skip
COMPARED = {"OPTIMIZER": "sgd lion", "SEED": "0 1 2"}
PRUNABLE = 36 * 32 + 32 * 16
Run = Callable[..., int]


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> Path:
    """The directory as a user has it: a repository of its own, with a change."""
    folder = tmp_path_factory.mktemp("user") / "language"
    shutil.copytree(LANGUAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "mine"],
    ):
        subprocess.run(["git", *words], cwd=folder, check=True)
    with (folder / "pruning" / "saliency.py").open("a") as file:
        file.write("# a change\n")
    return folder


@pytest.fixture(scope="module")
def run(members, tmp_path_factory) -> Run:
    """``run("plan", SEED="0")``: a command in this process, in one directory of results."""
    output = tmp_path_factory.mktemp("language")

    def command(word: str, *words: str, **settings: str) -> int:
        given = {"M": str(members), "O": str(output), **SETTINGS, **settings}
        return main([word, *words, *(f"{name}={text}" for name, text in given.items())])

    command.output = output  # type: ignore[attr-defined]
    return command


@pytest.fixture(scope="module")
def results(run, forked_workers) -> Path:
    """Two optimizers, three seeds each, trained by workers, reported; and one pruned run."""
    assert run("all", **COMPARED) == 0
    assert run("train", **PRUNED) == 0
    logging.getLogger("adamwprune").handlers.clear()  # of the training in the foreground
    return run.output / "results"


@pytest.fixture
def present(members) -> Iterator[None]:
    """The members for what a test calls itself."""
    with registry.using(members):
        yield


def pruned(results: Path) -> Path:
    """The directory of the pruned run."""
    (folder,) = results.glob("tiny-rhyme-lion-saliency-70-s0-*")
    return folder


def spec_of(**settings: str) -> RunSpec:
    (spec,) = Experiment.load(Workspace({**SETTINGS, **settings})).matrix.specs
    return spec


def test_the_matrix_is_planned_and_what_does_not_fit_is_dropped(run, capsys) -> None:
    assert run("plan", MODEL="lenet5 tiny", DATASET="rhyme mnist", OPTIMIZER="lion") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1].rsplit("-", 1)[0] for line in lines if line.startswith("missing")] == [
        "tiny-rhyme-lion-none-s0"
    ]
    dropped = "\n".join(line for line in lines if line.startswith("dropped"))
    assert "tiny takes tokens, mnist gives images" in dropped
    assert "lenet5 takes images, rhyme gives tokens" in dropped
    assert "preset    rhyme: BATCH_SIZE 32" in lines


def test_a_workers_record_has_the_tasks_metric_and_the_members_commit(results, members) -> None:
    folders = sorted(results.glob("tiny-rhyme-*-none-*"))
    assert len(folders) == 6
    for folder in folders:
        record = read_result(folder / "result.json")
        assert record.metrics == [
            {"name": "bits_per_byte", "unit": "bits", "better": "lower", "scale": 1.0,
             "noise": "seeds"}
        ]  # fmt: skip
        assert record.measured_on == 32
        assert 0 < record.score < 4, "bits; a letter that is guessed takes four"
        assert len(record.history) == 10
        assert "adamwprune.models.tiny" in record.code["modules"]
        theirs = record.environment["members"]
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=members, capture_output=True, text=True, check=True
        )
        assert theirs["commit"] == head.stdout.strip()
        assert theirs["dirty"]
        patch = results / ".provenance" / f"{theirs['diff']}.diff"
        assert "+# a change" in patch.read_text()
        assert f"train.py M={members} " in record.environment["command"]


def test_exactly_k_weights_are_pruned(results) -> None:
    record = read_result(pruned(results) / "result.json")
    assert record.pruning["prunable"] == PRUNABLE
    assert record.pruning["zeros"] == record.pruning["k"] == round(0.7 * PRUNABLE)


def test_a_killed_run_goes_on_to_the_same_bits(present, results, tmp_path, monkeypatch) -> None:
    from adamwprune.plan.job import Job
    from adamwprune.run import runner

    class Killed(BaseException):
        pass

    def kill(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["step"] == 19:  # its checkpoint: of step 16
            raise Killed

    monkeypatch.setattr(runner, "HEARTBEAT", 0)
    spec = spec_of(**PRUNED)
    job = Job(spec, tmp_path, Path("/nowhere"), device="cpu", threads=1, command="python train.py")
    code = Sources().of(spec)
    with pytest.raises(Killed):
        runner.run(job, code, kill, lambda: False)
    resumed = runner.run(job, code, lambda event: None, lambda: False)
    assert [attempt["from_step"] for attempt in resumed.environment["attempts"]] == [0, 16]
    record = read_result(pruned(results) / "result.json")
    assert resumed.weights == record.weights
    assert resumed.final == record.final


def test_lower_is_better_in_the_verdict(run, results, capsys) -> None:
    scores = {
        name: [read_result(path / "result.json").score for path in results.glob(f"*{name}-none*")]
        for name in ("sgd", "lion")
    }
    assert max(scores["lion"]) < min(scores["sgd"])
    capsys.readouterr()
    assert run("all", **COMPARED) == 0
    shown = capsys.readouterr().out
    assert "nothing to train" in shown
    assert "bits per byte (bits)" in shown
    assert "lion dense is better than sgd dense" in shown
    assert "lower is better" in shown


def test_figures_and_report_speak_of_the_tasks_metric(run, results) -> None:
    assert main(["plot-training", str(pruned(results)), f"--output={results / 'drawn'}"]) == 0
    assert (results / "drawn" / "training_plot.png").is_file()
    (path,) = (results / "figures").glob("*/optimizer_comparison_baseline.svg")
    figure = path.read_text()
    assert "bits per byte" in figure.lower()
    assert "accuracy" not in figure.lower()
    page = (results / "report.html").read_text()
    assert "bits per byte" in page
    assert "accuracy" not in page.lower().split("<script")[0]


def test_it_is_exported(run, results, capsys) -> None:
    for chosen, count in ((COMPARED, 6), (PRUNED, 1)):
        assert run("export", **chosen) == 0
        with (results / "export.csv").open() as file:
            mine = list(csv.DictReader(file))
        assert len(mine) == count
        assert {(row["metric"], row["better"]) for row in mine} == {("bits_per_byte", "lower")}
        assert all(0 < float(row["score"]) < 4 for row in mine)
    assert run("export-model", **PRUNED, RUN=pruned(results).name) == 0
    assert (pruned(results) / "model.safetensors").is_file()


def test_it_is_explained_and_reproduced(run, results, members, capsys) -> None:
    name = pruned(results).name
    assert run("why", RUN=name) == 0
    assert "members from outside the tree: commit " in capsys.readouterr().out
    assert run("reproduce", RUN=name) == 0
    assert "identical" in capsys.readouterr().out
    logging.getLogger("adamwprune").handlers.clear()
    with pytest.raises(UserError, match=rf"it was trained with M={members}"):
        main(["reproduce", f"O={run.output}", "CONFIG=sgd", f"RUN={name}"])


def test_an_edit_of_a_member_makes_its_runs_stale_and_no_others(run, results, members) -> None:
    path = members / "optimizers" / "lion.py"
    before = path.read_text()
    path.write_text(before.replace("1 - beta2", "1.0 - beta2"))
    try:
        assert states(run, results) == {"sgd": "done", "lion": "stale"}
    finally:
        path.write_text(before)
    assert states(run, results) == {"sgd": "done", "lion": "done"}


def states(run: Run, results: Path) -> dict[str, str]:
    """Optimizer -> the state of its runs."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert run("plan", **COMPARED) == 0
    lines = (line.split() for line in shown.getvalue().splitlines() if "tiny-rhyme" in line)
    return {words[1].split("-")[2]: words[0] for words in lines}
