"""Records: whole or not there, found by name, failed ones never counted as done."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from adamwprune.base.errors import UserError
from adamwprune.base.files import write_text
from adamwprune.config.tree import Tree
from adamwprune.plan.matrix import expand
from adamwprune.plan.spec import RunSpec
from adamwprune.records.locks import lock
from adamwprune.records.published import each_published, read_published, write_published
from adamwprune.records.record import RunResult
from adamwprune.records.store import LOCK, Store, only, prepare, publish
from adamwprune.report import export
from tests.support.records import LEAST


@pytest.fixture
def spec() -> RunSpec:
    return expand(Tree()).specs[0]


def record(spec: RunSpec, status: str = "done") -> RunResult:
    return RunResult(spec.run_id, status, spec, **LEAST)


def test_a_run_is_done_when_its_record_is_there(tmp_path, spec):
    store = Store(tmp_path)
    assert store.result(spec) is None
    folder = prepare(store.folder(spec), spec, "minimal", "full")
    assert store.result(spec) is None
    publish(folder, record(spec, "failed"))
    assert store.result(spec) == record(spec, "failed")
    prepare(store.folder(spec), spec, "minimal", "full")
    assert store.result(spec) is None, "a new try forgets a failure"
    publish(folder, record(spec))
    prepare(store.folder(spec), spec, "minimal", "full")
    assert store.result(spec) == record(spec), "another one stays until it is replaced"
    assert sorted(p.name for p in folder.iterdir()) == [
        "config",
        "defconfig",
        "result.json",
        "spec.yaml",
    ]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / "results").symlink_to(tmp_path / "gone")
    told = f"cannot write to {tmp_path}/results: {tmp_path}/results is a link to {tmp_path}/gone, "
    with pytest.raises(UserError, match=re.escape(told) + "which is not there"):
        Store(tmp_path / "results").check_writable()


def test_runs_are_found_by_the_start_of_their_name():
    named = {"lenet5-s0-aa": 1, "lenet5-s1-bb": 2, "lenet5-s1-bb-copy": 3}
    assert only("lenet5-s0-aa", named) == only("lenet5-s0", named) == 1
    assert only("lenet5-s1-bb", named) == 2, "a whole name is that run"
    assert only("resnet", named) is None
    with pytest.raises(UserError, match="start of 3 runs"):
        only("lenet5", named)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[1]",
        '{"schema": 99}',
        '{"schema": 1, "x": 2}',
        '{"schema": 1, "run_id": "x", "status": "done", "spec": []}',
        '{"schema": 1, "run_id": "x", "status": "done", "spec": {}}',
        '{"schema": 1, "run_id": "x", "status": "dnoe", "spec": {}}',
    ],
)
def test_what_is_no_record_is_refused_by_name(tmp_path, spec, content):
    folder = tmp_path / spec.run_id
    folder.mkdir()
    (folder / "result.json").write_text(content)
    with pytest.raises(UserError, match=r"result\.json: .*; remove it to train the run again"):
        Store(tmp_path).result(spec)


def test_a_record_of_another_run_is_not_believed(tmp_path, spec):
    other = RunSpec({**spec.values, "SEED": 1})
    publish(prepare(Store(tmp_path).folder(spec), spec), record(other))
    with pytest.raises(UserError, match="is the record of another run"):
        Store(tmp_path).result(spec)


HOLDS = """
import sys, time
from pathlib import Path
from adamwprune.records.store import Store
with Store(Path(sys.argv[1])).locked(print):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(root: Path) -> subprocess.Popen[str]:
    """Another process that holds the directory until its standard input ends, or it dies."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("end", ["exit", "kill -9"])
def test_a_second_scheduler_waits_for_the_first_says_so_and_goes_on(tmp_path, end):
    other, told = holder(tmp_path), []

    def wait(pid: str) -> None:
        told.append(pid)
        if end == "exit":
            other.stdin.close()
        else:
            other.kill()

    with Store(tmp_path).locked(wait):
        assert told, "it was not waited for"
        assert other.wait(60) == (0 if end == "exit" else -9)
    assert told == [str(other.pid)]
    with Store(tmp_path).locked(wait):
        assert len(told) == 1, "there is nobody to wait for"


def test_whether_a_run_is_being_trained_can_be_seen_from_outside(tmp_path, spec):
    store = Store(tmp_path)
    assert not store.is_running(spec)
    folder = prepare(store.folder(spec), spec)
    assert not store.is_running(spec)
    with lock(folder / LOCK, print):
        assert store.is_running(spec)
    assert not store.is_running(spec)


@pytest.mark.parametrize("content", ["", "{", "[]", "NaN", "\udcff"])
def test_damaged_progress_is_no_progress(tmp_path, spec, content):
    store = Store(tmp_path)
    assert store.progress(spec) is None
    folder = prepare(store.folder(spec), spec)
    (folder / "checkpoint.pt").touch()
    (folder / "progress.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert store.progress(spec) is None
    (folder / "progress.json").write_text('{"step": 3}')
    assert store.progress(spec) == store.begun(spec) == {"step": 3}
    (folder / "checkpoint.pt").unlink()
    assert store.begun(spec) is None, "there is nothing to go on from"


def test_published_records_are_verbatim(tmp_path, spec):
    results = [record(RunSpec({**spec.values, "SEED": seed})) for seed in (2, 0, 1)]
    write_published(tmp_path / "published" / "x.jsonl", results)
    again = read_published(tmp_path / "published")
    assert sorted(again, key=lambda r: r.run_id) == sorted(results, key=lambda r: r.run_id)


def test_of_a_run_that_was_published_twice_a_study_takes_its_own(tmp_path, spec):
    there, here = (replace(record(spec), final={"test_accuracy": a}) for a in (0.5, 0.25))
    write_published(tmp_path / "a.jsonl", [there])
    write_published(tmp_path / "b.jsonl", [here])
    assert read_published(tmp_path) == read_published(tmp_path, "a") == [there]
    assert read_published(tmp_path, "b") == [here]


def test_a_damaged_published_record_is_named_by_its_line(tmp_path, spec):
    path = tmp_path / "x.jsonl"
    write_published(path, [record(spec)])
    path.write_text(path.read_text() + '{"schema": 1')
    with pytest.raises(UserError, match=r"x\.jsonl:2: "):
        read_published(tmp_path)


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"{\xe9}", b"[" * 100_000])
def test_bytes_that_are_no_text_are_a_damaged_line_too(tmp_path, spec, damage):
    path = tmp_path / "x.jsonl"
    write_published(path, [record(spec)])
    path.write_bytes(path.read_bytes() + damage)
    with pytest.raises(UserError, match=r"x\.jsonl:2: "):
        read_published(tmp_path)
    problems: list[str] = []
    assert list(export.sound(each_published(tmp_path), problems)) == [record(spec)]
    assert [each.startswith(f"{path}:2: ") for each in problems] == [True]


def test_what_a_killed_write_left_goes_when_the_directory_is_held(tmp_path):
    """Not what another process is writing, and nothing that has another name."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old = [tmp_path / f".index.json.{number}.tmp" for number in (gone.pid, os.getpid())]
    kept = [tmp_path / name for name in (f".index.json.{os.getppid()}.tmp", ".mine.tmp", "a.1.tmp")]
    for path in (*old, *kept):
        path.write_text("half")
    with Store(tmp_path).locked(print):
        assert [path for path in old if path.exists()] == []
        assert all(path.exists() for path in kept)


def test_identity_is_of_parsed_values_and_not_of_their_order(spec):
    shuffled = dict(reversed(list(spec.values.items())))
    assert RunSpec(shuffled).run_id == spec.run_id
    assert (
        RunSpec({**spec.values, "LR": 1e-2}).run_id == RunSpec({**spec.values, "LR": 0.01}).run_id
    )
    assert RunSpec({**spec.values, "LR": 0.02}).run_id != spec.run_id


def test_an_identity_is_a_safe_file_name(spec):
    evil = RunSpec({**spec.values, "OPTIMIZER": "../../x; rm -rf $HOME"})
    assert "/" not in evil.run_id
    assert Path(evil.run_id).name == evil.run_id
    assert set(evil.run_id) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")


def test_a_directory_that_cannot_be_written_is_refused_at_once(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="is not a directory"):
        Store(blocked).check_writable()
    with pytest.raises(UserError, match="cannot write to"):
        Store(blocked / "results").check_writable()


def test_a_spec_has_no_fall_back_values(spec):
    with pytest.raises(KeyError):
        spec["TARGET_SPARSITY"]
    assert json.loads(json.dumps(dict(spec.values))) == dict(spec.values)
