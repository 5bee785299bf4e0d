"""A run's files, followed: live, resumed, stale, damaged."""

import json
import os
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from adamwprune.base.errors import UserError
from adamwprune.config.tree import SOURCE_TREE, Tree
from adamwprune.records.locks import lock
from adamwprune.records.record import RunResult
from adamwprune.records.store import LOCK, publish
from adamwprune.run import runner
from adamwprune.trackers._follower import Follower
from tests.support.records import BITS
from tests.support.runs import SOURCES, job_of, specs
from tests.trackers.conftest import MEMBERS, entry, record, write_live


def test_a_member_is_a_module_a_symbol_and_an_extra():
    tree, folder = Tree(), SOURCE_TREE / "lib/adamwprune/trackers"
    symbols = {name: option for name, option in tree.options.items() if name.startswith("TRACKER_")}
    assert sorted(symbols) == [f"TRACKER_{name.upper()}" for name in MEMBERS]
    assert all(option.operational and option.type.kind == "bool" for option in symbols.values())
    assert not any(tree.is_on(name) for name in symbols), "off by default"
    assert sorted(path.suffix[1:] for path in folder.glob("Kconfig.*")) == MEMBERS
    project = tomllib.loads((SOURCE_TREE / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    every = [line for name in MEMBERS for line in extras[name]]
    assert sorted(extras["trackers"]) == sorted(every)
    assert not set(every) & set(project["dependencies"]), "the base installation stays small"


class Diary:
    """A tracker that keeps what it is told, log after log."""

    def __init__(self) -> None:
        self.logs: list[dict] = []

    def begin(self, run):
        self.logs.append({"run": run, "steps": [], "end": None, "summary": {}})
        return Page(self.logs[-1])


class Page:
    def __init__(self, log):
        self.log = log

    def epoch(self, entry):
        assert self.log["end"] is None
        self.log["steps"].append(entry["step"])

    def end(self, status, summary):
        self.log.update(end=status, summary=summary)


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / specs()[0].run_id


@pytest.fixture
def follower(diary, tmp_path) -> Follower:
    return Follower(diary, tmp_path, "study")


def test_a_run_is_followed_from_its_first_epoch_to_its_record(diary, follower, folder):
    done = record()
    write_live(folder, [], code=done.code["digest"])
    follower.look(folder.name)
    write_live(folder, done.history[:2], done.code["digest"], more='{"epoch": 3, "st')
    follower.look(folder.name)
    follower.look(folder.name)
    assert [log["steps"] for log in diary.logs] == [[8, 16]], "half a line is not one"
    (folder / "progress.json").unlink()
    publish(folder, done)
    follower.look(folder.name)
    (log,) = diary.logs
    assert log["steps"] == [8, 16, 24]
    assert log["end"] == log["summary"]["status"] == "done"
    run = log["run"]
    assert (run.run_id, run.group, run.begun) == (folder.name, "study", 990.0)
    assert run.config == {**done.spec.values, "run_id": folder.name, "code": "0123456789abcdef"}
    assert log["summary"] == {
        "status": "done",
        "final_test_accuracy": 0.8,
        "pruning_method": "none",
        "pruning_requested": 0.0,
        "pruning_k": 0,
        "pruning_zeros": 12,
        "pruning_prunable": 61_470,
        "memory_total_bytes": 1000,
        "memory_weights_bytes": 600,
        "memory_gradients_bytes": 0,
        "memory_buffers_bytes": 0,
        "memory_optimizer_exp_avg_bytes": 400,
        "seconds_total": 6.0,
    }


def test_metrics_go_by_their_own_names(diary, follower, folder):
    entries = [{"epoch": 1, "step": 8, "test_bits_per_byte": 1.25, "seconds": 1.0}]
    done = replace(record(1), history=entries, final={"test_bits_per_byte": 1.25},
                   metrics=[BITS.to_json()], examples=500)  # fmt: skip
    folder.mkdir()
    publish(folder, done)
    follower.look(folder.name)
    (log,) = diary.logs
    assert log["summary"]["final_test_bits_per_byte"] == 1.25
    assert not any("accuracy" in name for name in log["summary"])


def test_a_resumed_run_whose_epoch_was_written_already_is_begun_anew(diary, follower, folder):
    write_live(folder, [entry(1), entry(2)])
    follower.look(folder.name)
    write_live(folder, [entry(1)])  # killed before the checkpoint of epoch 2
    follower.look(folder.name)
    assert [log["steps"] for log in diary.logs] == [[8, 16]], "it may come to agree"
    write_live(folder, [entry(1), entry(2, seconds=3.0)])
    follower.look(folder.name)
    assert [(log["steps"], log["end"]) for log in diary.logs] == [
        ([8, 16], "unfinished"),
        ([8, 16], None),
    ]


def test_a_resumed_run_that_agrees_goes_on(diary, follower, folder):
    for epochs in ([1, 2], [1], [1, 2, 3]):
        write_live(folder, [entry(epoch) for epoch in epochs])
        follower.look(folder.name)
    follower.close()
    assert [(log["steps"], log["end"]) for log in diary.logs] == [([8, 16, 24], "unfinished")]


def test_an_older_record_does_not_stand_for_the_training_under_way(diary, follower, folder):
    write_live(folder, [entry(1, seconds=9.0)], code="new")
    publish(folder, record())
    with lock(folder / LOCK, print):
        follower.look(folder.name)
    assert diary.logs[0]["steps"] == [8]
    assert diary.logs[0]["run"].code == "new"
    assert diary.logs[0]["end"] is None


@pytest.mark.parametrize("killed", ["checkpointed", "before it had a checkpoint", "at its end"])
def test_of_a_killed_training_and_a_record_the_one_that_stands_is_written(
    killed, diary, follower, folder
):
    """As ``make status`` counts: what goes on from a checkpoint that is newer than the record."""
    write_live(folder, [entry(1, seconds=9.0)], code="new")
    if killed != "before it had a checkpoint":
        (folder / "checkpoint.pt").touch()
    publish(folder, record())
    told = (folder / "progress.json").stat().st_mtime_ns
    ended = told + 10**9 if killed == "at its end" else told - 10**9
    os.utime(folder / "result.json", ns=(ended, ended))
    follower.look(folder.name)
    (log,) = diary.logs
    goes_on = killed == "checkpointed"
    assert (log["steps"], log["end"]) == (([8], None) if goes_on else ([8, 16, 24], "done"))


def test_what_has_ended_is_written_once_and_again_when_it_was_trained_again(
    diary, follower, folder
):
    """A slow tracker has a hint for each epoch in its queue when the run has ended long since."""
    folder.mkdir()
    publish(folder, record())
    for _ in range(12):
        follower.look(folder.name)
    assert [log["steps"] for log in diary.logs] == [[8, 16, 24]]
    publish(folder, replace(record(), seconds={"total": 7.0}))
    for _ in range(12):
        follower.look(folder.name)
    assert [log["summary"]["seconds_total"] for log in diary.logs] == [6.0, 7.0]
    write_live(folder, [entry(1)])
    with lock(folder / LOCK, print):
        follower.look(folder.name)
    (folder / "progress.json").unlink()
    follower.look(folder.name)
    assert [log["end"] for log in diary.logs] == ["done", "done", "unfinished", "done"]


def test_who_hears_of_progress_finds_it_in_the_file(tmp_path):
    """A record beside it is an older one's: without the file it would count."""
    (spec,), found = specs(), []

    def look(event):
        if event["event"] == "progress":
            found.append(json.loads((tmp_path / "run/progress.json").read_text()) == event)

    runner.run(job_of(spec, tmp_path / "run"), SOURCES.of(spec), look)
    assert len(found) >= 2
    assert all(found)


def test_a_failed_run_ends_with_its_error(diary, follower, folder):
    failed = RunResult(folder.name, "failed", specs()[0], error="Traceback\nDiverged: loss is nan")
    folder.mkdir()
    publish(folder, failed)
    follower.look(folder.name)
    assert diary.logs[0]["summary"] == {"status": "failed", "error": "Diverged: loss is nan"}
    assert diary.logs[0]["end"] == "failed"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("progress.json", "{}"),
        ("progress.json", "[" * 100_000),
        ("progress.json", '{"code": "c", "updated": "now", "seconds": 1}'),
        ("spec.yaml", ""),
        ("spec.yaml", "- 1"),
        ("spec.yaml", "a: [\n"),
        ("spec.yaml", "MODEL: lenet5"),
        ("metrics.jsonl", "1\n"),
        ("metrics.jsonl", '{"epoch": 1\n'),
        ("metrics.jsonl", '{"epoch": 1, "seconds": 1}\n'),
        ("metrics.jsonl", '{"step": 8, "seconds": null}\n'),
        ("metrics.jsonl", '{"step": NaN, "seconds": 1}\n'),
    ],
)
def test_a_damaged_run_under_way_is_named(name, text, diary, follower, folder):
    write_live(folder, [])
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=folder.name):
        follower.look(folder.name)
    assert not diary.logs


@pytest.mark.parametrize(
    "what",
    [
        {"schema": 0},
        {"environment": {"started": "yesterday"}},
        {"environment": []},
        {"code": None},
        {"history": [{"epoch": 1, "seconds": 2.0}]},
        {"history": [{"step": "8", "seconds": 2.0}]},
        {"history": [8]},
        {"error": 3},
    ],
)
def test_a_damaged_record_is_named(what, diary, follower, folder):
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps({**record().to_json(), **what}))
    with pytest.raises(UserError, match=folder.name):
        follower.look(folder.name)
    assert not diary.logs


def test_files_that_are_not_there_or_another_run_s_are_named(follower, folder, tmp_path):
    with pytest.raises(UserError, match=f"{folder.name}: there is neither"):
        follower.look(folder.name)
    (tmp_path / "copied").mkdir()
    publish(tmp_path / "copied", record())
    with pytest.raises(UserError, match=f"copied: .* another run, {folder.name}"):
        follower.look("copied")
