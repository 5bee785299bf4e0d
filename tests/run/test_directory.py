"""A run's directory: it is that of one run, and nothing in it leads elsewhere."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import pytest
import yaml

from adamwprune.base.errors import UserError
from adamwprune.plan.job import Job
from adamwprune.plan.spec import RunSpec
from adamwprune.records import lease
from adamwprune.records.store import (
    LOCK,
    LOG,
    METRICS,
    RESULT,
    SPEC,
    Store,
    check_identity,
    prepare,
    publish_failure,
)
from adamwprune.run import runner
from tests.support.runs import SOURCES, job_of, specs


def test_a_job_that_other_code_named_is_refused_before_anything_is_written(tmp_path):
    """The scheduler's code named the directory, and the worker's calls the run otherwise."""
    (spec,) = specs()
    plain = json.loads(json.dumps(job_of(spec, tmp_path / "run").to_json()))
    assert Job.from_json(plain) == job_of(spec, tmp_path / "run")
    with pytest.raises(UserError, match=f"the code here calls this run {spec.run_id}; .* start"):
        Job.from_json({**plain, "run_id": "lenet5-of-before"})
    assert list((tmp_path / "run").iterdir()) == []


def test_a_directory_of_another_run_is_left_alone(train, tmp_path):
    (spec,) = specs()
    other = RunSpec({**spec.values, "SEED": 99})
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / SPEC).write_text(yaml.safe_dump(dict(other.values)))
    with pytest.raises(
        UserError, match=f"is the directory of {other.run_id}, not of {spec.run_id}"
    ):
        train(spec)
    assert [path.name for path in folder.iterdir()] == [SPEC]
    (folder / SPEC).write_text("{")  # damaged: it is written anew
    check_identity(folder, spec)


@pytest.mark.parametrize("name", [LOCK, LOG, METRICS])
def test_nothing_is_opened_through_a_link(train, tmp_path, name):
    folder, outside = tmp_path / "run", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("of somebody")
    (folder / name).symlink_to(outside)
    (spec,) = specs(EPOCHS="1")
    if name == METRICS:  # it is replaced as a whole
        train(spec)
        assert not (folder / METRICS).is_symlink()
    else:
        with pytest.raises(UserError, match=r"is a link to .*: nothing is opened through a link"):
            train(spec)
        assert not (folder / RESULT).exists()
    assert outside.read_text() == "of somebody"


@pytest.mark.parametrize("name", [LOCK, LOG])
def test_nothing_is_written_to_a_file_that_has_another_name(train, tmp_path, name):
    folder, outside = tmp_path / "run", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("of somebody")
    os.link(outside, folder / name)
    (spec,) = specs(EPOCHS="1")
    with pytest.raises(UserError, match=rf"{name}: .*has another name too \(a hard link\)"):
        train(spec)
    assert outside.read_text() == "of somebody"
    assert not (folder / RESULT).exists()


@pytest.mark.parametrize("name", [LOCK, LOG, RESULT])
def test_a_pipe_is_neither_waited_for_nor_replaced_by_a_record(train, tmp_path, name):
    folder = tmp_path / "run"
    folder.mkdir()
    os.mkfifo(folder / name)
    (spec,) = specs(EPOCHS="1")
    with pytest.raises(UserError, match="is no regular file"):
        train(spec)
    assert (folder / name).is_fifo()


def test_a_directory_that_cannot_be_made_was_not_moved(tmp_path):
    (spec,) = specs()
    (tmp_path / "results").write_text("")
    job = replace(job_of(spec, tmp_path / "run"), folder=tmp_path / "results" / "run")
    with pytest.raises(UserError, match="results/run: Not a directory"):
        runner.run(job, SOURCES.of(spec))


def test_a_failure_quotes_no_file_that_a_link_leads_to(tmp_path):
    (spec,) = specs()
    folder = tmp_path / spec.run_id
    folder.mkdir()
    (tmp_path / "secret").write_text("of somebody")
    (folder / LOG).symlink_to(tmp_path / "secret")
    assert publish_failure(folder, spec, "the error", {}, {}).error == "the error"


def test_a_failure_is_not_recorded_in_the_directory_of_another_run(tmp_path):
    (spec,) = specs()
    other = RunSpec({**spec.values, "SEED": 99})
    prepare(tmp_path / "run", other)
    with pytest.raises(UserError, match=f"is the directory of {other.run_id}"):
        publish_failure(tmp_path / "run", spec, "the error", {}, {})
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(UserError, match="is a link; a run is trained in a directory of its own"):
        publish_failure(tmp_path / "link", other, "the error", {}, {})
    assert not (tmp_path / "run" / RESULT).exists()


def test_a_file_that_is_written_does_not_follow_a_link_of_its_temporary_name(train, tmp_path):
    folder, outside = tmp_path / "run", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("of somebody")
    for name in (RESULT, SPEC, "progress.json"):
        (folder / f".{name}.{os.getpid()}.tmp").symlink_to(outside)
    (spec,) = specs(EPOCHS="1")
    assert train(spec).status == "done"
    assert outside.read_text() == "of somebody"


def test_a_directory_that_is_a_link_is_refused(train, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link; a run is trained in a directory of its own"):
        train(specs()[0])
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_lock_of_a_results_directory_is_no_link(tmp_path):
    outside, store = tmp_path / "outside", Store(tmp_path / "results")
    outside.write_text("of somebody")
    store.root.mkdir()
    (store.root / LOCK).symlink_to(outside)
    told = pytest.raises(UserError, match="nothing is opened through a link")
    with told, store.locked(print):
        pass
    assert outside.read_text() == "of somebody"


# -- runs whose directory several hosts share --------------------------------------------


def taken_over(folder):
    """As if another host had taken the run over: it removes what the attempt writes in."""
    shutil.rmtree(folder / lease.FOLDER / "1" / lease.WORK)


def test_a_leased_run_takes_no_lock_and_gives_the_same_bits(train, tmp_path):
    (spec,) = specs(EPOCHS="1")
    held = lease.Leases().take(tmp_path / "leased")
    result = train(spec, name="leased", work=str(held.work))
    assert result.weights == train(spec).weights
    assert {path.name for path in (tmp_path / "leased").iterdir()} == {
        *(path.name for path in (tmp_path / "run").iterdir()),
        lease.FOLDER,
    } - {LOCK}
    assert not {path.name for path in held.work.iterdir()} & {RESULT, "weights.pt"}


@pytest.mark.parametrize("when", ["at a heartbeat", "at its record"])
def test_an_attempt_that_lost_its_lease_ends_and_publishes_nothing(
    train, tmp_path, monkeypatch, when
):
    (spec,) = specs(EPOCHS="2")
    folder = tmp_path / "run"
    held = lease.Leases().take(folder)
    known = {}

    monkeypatch.setattr(runner, "HEARTBEAT", 0)

    def progress(event):
        if event["event"] == "progress" and any(folder.glob("*.pt")) and not known:
            if when == "at a heartbeat":
                taken_over(folder)
            known.update({path.name: path.read_bytes() for path in folder.glob("*.pt")})

    if when == "at its record":
        write = runner.weights.write

        def write_and_lose(where, state):
            digest = write(where, state)
            taken_over(folder)
            return digest

        monkeypatch.setattr(runner.weights, "write", write_and_lose)
    with pytest.raises(runner.Lost, match="another attempt has taken the run over"):
        train(spec, progress, work=str(held.work))
    assert not (folder / RESULT).exists()
    assert known
    if when == "at a heartbeat":
        assert {path.name: path.read_bytes() for path in folder.glob("*.pt")} == known


def test_a_local_run_of_a_leased_directory_waits_for_the_lease_and_fences_who_held_it(
    train, tmp_path
):
    (spec,) = specs(EPOCHS="1")
    folder, told = tmp_path / "run", []
    held = lease.Leases().take(folder)

    def progress(event):
        told.append(event)
        if event["event"] == "waiting":
            held.release("stopped")

    assert train(spec, progress).status == "done"
    assert told[0] == {"event": "waiting", "pid": lease.named(lease.holder())}
    assert [each.released for each in lease.attempts(folder)] == ["stopped", "ended"]
    assert not held.work.exists()


def test_where_agents_may_come_later_a_local_run_has_a_lease_that_they_see(train, tmp_path):
    """A cluster's agents may wait in its queue while another make trains the runs here."""
    (spec,) = specs(EPOCHS="1")
    (tmp_path / lease.CLUSTER).mkdir()
    seen = []

    def progress(event):
        if event["event"] == "progress":
            seen.append(lease.Leases().take(tmp_path / "run"))

    assert train(spec, progress).status == "done"
    assert seen
    assert set(seen) == {None}
    assert lease.Leases().take(tmp_path / "run") is not None
