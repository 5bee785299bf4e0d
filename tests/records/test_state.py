"""What a run's directory says of the run, in each of its situations."""

from __future__ import annotations

import errno
import json
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adamwprune.plan.spec import RunSpec
from adamwprune.records.code import Code
from adamwprune.records.locks import lock
from adamwprune.records.state import State, decide
from adamwprune.records.store import (
    CHECKPOINTS,
    LOCK,
    PROGRESS,
    RESULT,
    TROUBLE,
    Store,
    publish,
    record_paths,
)
from tests.support.records import expand, synthetic

HERE = Code({"adamwprune.train.loop": "0123456789"})
OTHER = Code({"adamwprune.train.loop": "9876543210"})
CHANGED = "changed since: train.loop"


@pytest.fixture
def spec() -> RunSpec:
    return expand("quickstart")[0]


def left(root: Path, spec: RunSpec, **what: Any) -> Store:
    """A directory with a record of a ``status`` and ``code``, a checkpoint of ``begun`` code."""
    store, folder = Store(root), root / spec.run_id
    folder.mkdir()
    if code := what.get("code"):
        made = replace(synthetic(spec, status=what.get("status", "done")), code=code.to_json())
        publish(folder, made)
        os.utime(folder / RESULT, (1000, 1000))
    if begun := what.get("begun"):
        (folder / CHECKPOINTS[0]).touch()
        (folder / PROGRESS).write_text(json.dumps({"step": 30, "code": begun.digest}))
        when = what.get("when", 2000)
        os.utime(folder / PROGRESS, (when, when))
    return store


@pytest.mark.parametrize(
    ("what", "name", "why", "is_due"),
    [
        ({}, "missing", "", True),
        ({"code": HERE}, "done", "", False),
        ({"code": OTHER}, "stale", CHANGED, True),
        ({"code": HERE, "status": "failed"}, "failed", "Traceback …", False),
        ({"code": OTHER, "status": "failed"}, "stale", f"Traceback … ({CHANGED})", True),
        ({"begun": HERE}, "interrupted", "at step 30 of {}, goes on from its checkpoint", True),
        ({"begun": OTHER}, "missing", "interrupted at step 30 of {}, by other code: it starts anew",
         True),
        ({"code": OTHER, "begun": HERE}, "interrupted",
         "at step 30 of {}, goes on from its checkpoint", True),
        ({"code": OTHER, "begun": OTHER}, "stale",
         CHANGED + "; interrupted at step 30 of {}, by other code: it starts anew", True),
        ({"code": OTHER, "begun": HERE, "when": 500}, "stale", CHANGED, True),
        ({"code": HERE, "begun": HERE}, "done", "", False),  # a repetition that was stopped
        ({"code": HERE, "status": "failed", "begun": HERE, "when": 500}, "failed",
         "Traceback …", False),
    ],
)  # fmt: skip
def test_a_directory_has_one_state(tmp_path, spec, what, name, why, is_due):
    store = left(tmp_path, spec, **what)
    state = decide(store, spec, HERE)
    expected = (name, why.format(spec.total_steps), is_due)
    assert (state.name, state.why, state.is_due) == expected
    assert state.counts == (name in ("done", "failed"))
    with lock(tmp_path / spec.run_id / LOCK, print):
        running = decide(store, spec, HERE)
    assert (running.name, running.is_due) == ("running", is_due), "whatever is there of it"
    assert running.worth == ("missing" if not what.get("code") else state.worth)


def test_a_stale_record_may_be_accepted_and_a_published_one_taken(tmp_path, spec):
    store = left(tmp_path, spec, code=OTHER, begun=HERE)

    def found(**rules: bool) -> tuple[str, bool, bool]:
        state: State = decide(store, spec, HERE, **rules)
        return state.name, state.is_due, state.counts

    assert found(accepts_stale=True) == ("stale", False, True), "make leaves the checkpoint alone"
    assert found(published=True) == ("published", False, False)
    (tmp_path / spec.run_id / RESULT).unlink()
    assert found(published=True) == ("published", False, False)
    with ExitStack() as held:
        held.enter_context(lock(tmp_path / spec.run_id / LOCK, print))
        assert found(published=True) == ("running", False, False)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1,\n"code": {},\n}\n'])
def test_a_damaged_record_is_a_state_of_its_own(tmp_path, spec, content):
    store = left(tmp_path, spec)
    path = tmp_path / spec.run_id / RESULT
    path.write_text(content)
    state = decide(store, spec, HERE)
    assert (state.name, state.is_due, state.counts) == ("damaged", False, False)
    assert state.why.startswith(f"{path}: ")
    assert state.why.endswith("; remove it to train the run again")
    assert decide(store, spec, HERE, published=True).name == "damaged"


@pytest.mark.parametrize("step", ["x", None, float("nan"), -3, 10**400, []])
def test_a_step_that_makes_no_sense_is_the_first(tmp_path, spec, step):
    store = left(tmp_path, spec, begun=HERE)
    told = json.dumps({"step": step, "code": HERE.digest})
    (tmp_path / spec.run_id / PROGRESS).write_text(told)
    assert decide(store, spec, HERE).why.startswith(f"at step 0 of {spec.total_steps}")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda folder: folder.symlink_to(folder), "is a link to"),
        (lambda folder: folder.write_text("a file"), "Not a directory"),
        (lambda folder: (folder.mkdir(), os.mkfifo(folder / RESULT)), "is no regular file"),
    ],
)
def test_what_cannot_be_read_is_named_and_never_missing(tmp_path, spec, make, why):
    make(tmp_path / spec.run_id)
    state = decide(Store(tmp_path), spec, HERE)
    assert (state.name, state.is_due) == ("damaged", False)
    assert f"{tmp_path / spec.run_id}" in state.why
    assert why in state.why
    assert "remove" not in state.why


def test_a_directory_without_permission_is_named(tmp_path, spec, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("adamwprune.records.store.os.listdir", refuse)
    state = decide(Store(tmp_path), spec, HERE)
    assert (state.name, state.why) == ("damaged", f"{tmp_path / spec.run_id}: Permission denied")
    assert [str(found) for found in record_paths(tmp_path)] == [f"{tmp_path}: Permission denied"]


LEFT = [*CHECKPOINTS, PROGRESS, f"{CHECKPOINTS[0]}.unusable", TROUBLE]


@pytest.mark.parametrize("names", [*([name] for name in LEFT), LEFT])
def test_what_a_kill_left_of_a_run_that_is_done_is_swept(tmp_path, spec, names):
    store = left(tmp_path, spec, code=HERE)
    folder = tmp_path / spec.run_id
    before = {path.name for path in folder.iterdir()}
    assert not decide(store, spec, HERE).littered
    for name in names:
        (folder / name).write_text("{}")
        os.utime(folder / name, (500, 500))  # before the record
    if PROGRESS not in names:  # it goes last
        (folder / PROGRESS).write_text("{}")
        os.utime(folder / PROGRESS, (500, 500))
    assert decide(store, spec, HERE).littered
    with lock(folder / LOCK, print):
        store.sweep([spec])
        assert (folder / names[0]).exists(), "a process is at work there"
    store.sweep([spec])
    assert {path.name for path in folder.iterdir()} == {*before, LOCK}


def test_what_make_measure_was_stopped_at_is_not_swept(tmp_path, spec):
    store = left(tmp_path, spec, code=HERE, begun=HERE)
    assert decide(store, spec, HERE).name == "done"
    store.sweep([spec])
    assert (tmp_path / spec.run_id / CHECKPOINTS[0]).exists()
    assert (tmp_path / spec.run_id / PROGRESS).exists()


def test_probes_and_half_files_beside_the_runs_are_swept(tmp_path):
    for name in (".probe", ".probe.99999999", ".probe.1.tmp", ".export.csv.99999999.tmp"):
        (tmp_path / name).write_text("")
    (tmp_path / ".eta.jsonl").write_text("")
    Store(tmp_path).sweep([])
    assert {path.name for path in tmp_path.iterdir()} == {".eta.jsonl", LOCK}
