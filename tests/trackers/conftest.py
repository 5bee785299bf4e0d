"""A recorded run, trackers that are planted, and what tests of trackers share."""

import importlib.util
import json
import shutil
import textwrap
import time
from pathlib import Path

import pytest
import yaml

from adamwprune.config.tree import SOURCE_TREE, Tree
from adamwprune.experiment.launch import trackers_of
from adamwprune.records.record import RunResult
from adamwprune.records.store import publish
from adamwprune.trackers import supervisor
from adamwprune.trackers.supervisor import Tracking
from tests.support.records import LEAST
from tests.support.runs import specs

MEMBERS = trackers_of(Tree())
TINY = ("CONFIG=quickstart", "DATASET=mnist5k", "EPOCHS=2", "BATCH_SIZE=512", "OPTIMIZER=adamw",
        "PRUNING_METHOD=none")  # fmt: skip


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed")


def entry(epoch: int, seconds: float = 2.0) -> dict[str, float]:
    return {
        "epoch": epoch,
        "step": 8 * epoch,
        "train_loss": 2.0 / epoch,
        "test_accuracy": 0.5 + epoch / 10,
        "seconds": seconds,
    }


def record(epochs: int = 3) -> RunResult:
    (spec,) = specs()
    return RunResult(
        spec.run_id,
        "done",
        spec,
        history=[entry(epoch) for epoch in range(1, epochs + 1)],
        final={"test_accuracy": 0.8},
        pruning={"method": "none", "requested": 0.0, "k": 0, "zeros": 12, "prunable": 61_470},
        memory={**LEAST["memory"], "total": 1000, "weights": 600, "optimizer": {"exp_avg": 400}},
        seconds={"total": 6.0},
        environment={"started": "2026-01-02T03:04:05+00:00"},
        code={"digest": "0123456789abcdef"},
    )


def write_live(folder: Path, entries: list[dict[str, float]], code: str = "c0de", more: str = ""):
    """The files of a run that is being trained."""
    (spec,) = specs()
    folder.mkdir(exist_ok=True)
    (folder / "spec.yaml").write_text(yaml.safe_dump(dict(spec.values)))
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(e)}\n" for e in entries) + more)
    (folder / "progress.json").write_text(
        json.dumps({"code": code, "updated": 1000.0, "seconds": 10.0, "epoch": len(entries) + 1})
    )


def written(name: str, root: Path, *run_ids: str) -> list[str]:
    """What the tracker said while it wrote runs, as ``make track`` has it do."""
    told: list[str] = []
    with Tracking([name], root, "study", told.append, None) as tracked:
        for run_id in run_ids:
            tracked.news(run_id)
    assert tracked.failed == bool(told), told
    return told


@pytest.fixture
def recorded(tmp_path) -> Path:
    """The directory of a run that is done, in a directory of results."""
    done = record()
    path = tmp_path / done.run_id
    path.mkdir()
    publish(path, done)
    return path


FAULTS = {
    "raising": "raise RuntimeError('planted\\n fault')",
    "full": "raise OSError(28, 'No space left on device', 'tracking/file')",
    "hanging": "import time; time.sleep(10**6)",
    "leaving": "import os; os._exit(0)",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "crashing": "import ctypes; ctypes.string_at(0)",
    "noisy": "import os; [os.write(fd, b'x' * 10**6) for fd in (1, 2)]; os.closerange(0, 64)",
    "absent": "import a_package_that_is_not_there",
}
MODULE = """
    class Tracker:
        def __init__(self, folder):
            if {where!r} == "init":
                {fault}

        def begin(self, run):
            if {where!r} == "begin":
                {fault}
            return self

        def epoch(self, entry):
            if {where!r} == "epoch":
                {fault}

        def end(self, status, summary):
            if {where!r} == "end":
                {fault}
"""
DIARY = """
    import json

    class Tracker:
        def __init__(self, folder):
            self.folder = folder

        def begin(self, run):
            return Log(self.folder / run.run_id)

    class Log:
        def __init__(self, path):
            self.path = path
            path.write_text("")

        def add(self, line):
            with self.path.open("a") as file:
                print(json.dumps(line), file=file)

        def epoch(self, entry):
            self.add(entry["step"])

        def end(self, status, summary):
            self.add([status, summary.get("pruning_zeros")])
"""


def plant(library: Path, name: str, text: str) -> None:
    path = library / "adamwprune" / "trackers" / f"{name}.py"
    path.write_text(textwrap.dedent(text))


@pytest.fixture
def library(tmp_path, monkeypatch) -> Path:
    """A copy of the package that trackers run from; training has the real one."""
    path = tmp_path / "library"
    ignored = shutil.ignore_patterns("__pycache__", "*.npz")
    shutil.copytree(SOURCE_TREE / "lib", path, ignore=ignored)
    monkeypatch.setattr(supervisor, "LIBRARY", path)
    for place in ("init", "begin", "epoch", "end"):
        for fault, code in FAULTS.items():
            plant(path, f"{fault}_{place}", MODULE.format(where=place, fault=code))
    plant(path, "diary", DIARY)
    return path


def ends_within(seconds: float, condition) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not come to an end"
        time.sleep(0.05)


def steps_in_tensorboard(folder: Path) -> list[int]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), purge_orphaned_data=False)
    events.Reload()
    return [each.step for each in events.Scalars("test_accuracy")]
