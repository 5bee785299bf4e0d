"""Nothing that a tracker does touches a run: planted ones raise, hang, crash, fill the disk."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from adamwprune.records.record import RunResult
from adamwprune.records.store import Store, publish
from adamwprune.trackers.supervisor import Tracked, Tracking
from tests.scheduler.test_pool import CPU, Pool, Recorder, alive, tasks
from tests.support.runs import specs
from tests.trackers.conftest import ends_within, entry, record, write_live, written

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked_workers")]


def trained(root: Path, trackers: list[str]):
    """The records of two short runs, with these trackers, and what was told."""
    recorder, todo = Recorder(), tasks(SEED="0 1", PRUNING_METHOD="magnitude")
    with Tracking(trackers, root, "", recorder.told, 60.0) as tracked:
        pool = Pool(Store(root), [CPU], Tracked(recorder, tracked))
        outcome = pool.run(todo)
    assert len(outcome.done) == 2
    assert not any(alive(each._process.pid) for each in tracked.processes)
    return [Store(root).result(task.spec) for task in todo], recorder.texts


def bits(result: RunResult) -> dict:
    """What of a record is not about its time and place."""
    plain = result.to_json()
    for epoch in plain["history"]:
        del epoch["seconds"]
    return {k: v for k, v in plain.items() if k not in ("seconds", "speed", "environment")}


def test_no_fault_of_a_tracker_touches_a_run(tmp_path, library):
    plain, _ = trained(tmp_path / "plain", [])
    faults = ["absent_init", "killed_init", "raising_begin", "leaving_begin", "crashing_begin"]
    faults += ["noisy_begin", "full_epoch", "raising_end"]
    root = tmp_path / "tracked"
    tracked, texts = trained(root, ["diary", *faults])
    assert [bits(result) for result in tracked] == [bits(result) for result in plain]
    for result in tracked:
        diary = (root / "tracking/diary" / result.run_id).read_text().splitlines()
        steps = [json.dumps(each["step"]) for each in result.history]
        assert diary == [*steps, json.dumps(["done", result.pruning["zeros"]])]
    texts = [text for text in texts if not text.startswith("waiting for trackers: ")]
    told = {text.split()[1].rstrip(":"): text.partition(": ")[2] for text in texts}
    assert len(texts) == len(told), f"one line each: {texts}"
    assert set(faults) - {"noisy_begin"} <= set(told) <= set(faults)
    assert told["raising_begin"] == told["raising_end"] == "RuntimeError: planted fault"
    assert "No space left on device" in told["full_epoch"]
    assert told["killed_init"] == f"was ended by SIGKILL; {root}/tracking/killed_init.log"
    assert "SIGSEGV" in told["crashing_begin"]
    assert "Segmentation fault" in (root / "tracking/crashing_begin.log").read_text()
    assert "exit status 0" in told["leaving_begin"]
    assert "pip install" in told["absent_init"]
    assert "[absent_init]" in told["absent_init"]


@pytest.mark.parametrize("place", ["init", "epoch", "end"])
def test_a_tracker_that_hangs_is_ended(place, library, recorded):
    told: list[str] = []
    with Tracking([f"hanging_{place}", "diary"], recorded.parent, "", told.append, 1.0) as tracked:
        tracked.news(recorded.name)
    rest = "has not ended in 1 s; make track writes what it lacks"
    assert f"tracker hanging_{place}: {rest}" in told
    assert not any(alive(each._process.pid) for each in tracked.processes)


def test_who_tells_a_stopped_tracker_never_waits(tmp_path, library):
    """Two hundred thousand words, where a pipe takes sixty-four thousand bytes."""
    (tmp_path / "results").mkdir()
    told: list[str] = []
    with Tracking(["diary"], tmp_path / "results", "", told.append, None) as tracked:
        (process,) = tracked.processes
        os.kill(process._process.pid, signal.SIGSTOP)
        for number in range(20_000):
            tracked.news(f"run-{number % 10_000}")
        assert process.waiting
        os.kill(process._process.pid, signal.SIGCONT)
    assert len(set(told)) == 10_000, "and nothing is lost"
    assert all("neither a record nor a run under way" in text for text in told)


def test_a_tracker_without_a_place_to_write_says_so(library, recorded):
    (recorded.parent / "tracking").write_text("a file")
    (told,) = written("diary", recorded.parent, recorded.name)
    assert "tracking/diary" in told


def test_a_record_that_is_damaged_does_not_leave_others_out(tmp_path, library, recorded):
    broken = recorded.with_name("broken")
    broken.mkdir()
    (broken / "result.json").write_text("{")
    (spec,) = specs(SEED="1")
    stepless = replace(record(), run_id=spec.run_id, spec=spec, history=[{"epoch": 1}])
    recorded.with_name(spec.run_id).mkdir()
    publish(recorded.with_name(spec.run_id), stepless)
    told = written("diary", recorded.parent, "broken", spec.run_id, recorded.name)
    assert len(told) == 2
    assert "broken/result.json" in told[0]
    assert f"{spec.run_id}: cannot be read: KeyError: 'step'" in told[1]
    assert (
        (recorded.parent / "tracking/diary" / recorded.name).read_text().endswith('["done", 12]\n')
    )


def test_a_tracker_that_leaves_is_not_complete_whatever_it_has_said(library, recorded):
    told = written("leaving_end", recorded.parent, "missing", recorded.name)
    assert len(told) == 2
    assert "missing: there is neither a record nor a run under way" in told[0]
    log = recorded.parent / "tracking/leaving_end.log"
    assert told[1] == f"tracker leaving_end: ended itself with exit status 0; {log}"


def test_one_process_at_a_time_writes_to_a_tracker(library, tmp_path):
    """make track beside make: what make's tracker writes stays, then all of it is written anew."""
    (spec,) = specs()
    run, page = tmp_path / spec.run_id, tmp_path / "tracking/diary" / spec.run_id
    told: list[str] = []
    second = Tracking(["diary"], tmp_path, "", told.append, None)

    def track() -> None:
        with second:
            second.news(spec.run_id)

    with Tracking(["diary"], tmp_path, "", told.append, None) as first:
        write_live(run, [entry(1)])
        first.news(spec.run_id)
        ends_within(60, lambda: page.exists() and page.read_text() == "8\n")
        beside = threading.Thread(target=track)
        beside.start()
        ends_within(60, lambda: told)
        write_live(run, [entry(1), entry(2)])
        first.news(spec.run_id)
        ends_within(60, lambda: page.read_text() == "8\n16\n")
        (process,) = first.processes
        by = f"another process ({process._process.pid}) writes to {page.parent}"
        assert told == [f"tracker diary: {by}: waiting for it"]
        assert beside.is_alive()
    beside.join(60)
    assert (len(told), second.failed) == (1, False)
    assert page.read_text() == '8\n16\n["unfinished", null]\n'


def test_a_tracker_does_not_outlive_the_one_who_started_it(tmp_path, library):
    """kill -9 of make: who hangs ends itself."""
    script = f"""
import sys, time
from pathlib import Path
from adamwprune.trackers import supervisor as tracking
tracking.LIBRARY, tracking.ORPHAN_GRACE = Path({str(library)!r}), 0.5
with tracking.Tracking(["hanging_init"], Path({str(tmp_path)!r}), "", print, 0.5) as tracked:
    print(tracked.processes[0]._process.pid, flush=True)
    time.sleep(100)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as started:
        pid = int(started.stdout.readline())
        assert alive(pid)
        started.kill()
        ends_within(60, lambda: not alive(pid))
