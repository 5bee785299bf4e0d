"""plot_comparison and plot_training find runs by path, id and start of an id."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from adamwprune.plan.spec import RunSpec
from tests.support.records import Make


@pytest.fixture
def results(tmp_path: Path, quick: list[RunSpec], make: Make) -> Path:
    """Three runs, one of them published."""
    for spec in quick[:2]:
        folder = tmp_path / "results" / spec.run_id
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(make(spec).to_json()))
    published = tmp_path / "results" / "published"
    published.mkdir()
    (published / "some.jsonl").write_text(json.dumps(make(quick[4]).to_json()) + "\n")
    return tmp_path / "results"


def call(source_tree: Path, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, source_tree / "scripts" / script, *arguments]
    words = [str(part) for part in command]
    return subprocess.run(words, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_plot_comparison(source_tree, results, quick):
    names = [results / quick[0].run_id, quick[1].run_id, quick[4].slug]
    done = call(source_tree, "plot_comparison.py", *names, "--results", results)
    assert done.stderr == ""
    drawn = [results / "figures" / f"{n}.png" for n in ("model_comparison", "accuracy_evolution")]
    assert done.stdout.split() == [str(path) for path in drawn]
    assert all(path.is_file() for path in drawn)


@pytest.mark.slow
def test_plot_training(source_tree, results, tmp_path, quick):
    path = results / quick[0].run_id / "result.json"
    done = call(source_tree, "plot_training.py", path, "--output", tmp_path / "here")
    assert done.stdout.split() == [str(tmp_path / "here" / "training_plot.png")]


@pytest.mark.slow
def test_what_cannot_be_found_is_said(source_tree, results):
    for name, message in (
        ("nothing", "no run starts with 'nothing'"),
        ("lenet5", "start of 3 runs"),
    ):
        done = call(source_tree, "plot_training.py", name, "--results", results)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
