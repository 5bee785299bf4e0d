"""Trackers: what they write is read back, and nothing that they do touches a run."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import textwrap
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from adamwprune import registry, runner, tracking
from adamwprune.config.tree import SOURCE_TREE, Tree
from adamwprune.errors import UserError
from adamwprune.record import RunResult
from adamwprune.scheduler.local import Pool
from adamwprune.store import Store, publish
from adamwprune.trackers._follower import Follower
from adamwprune.tracking import Tracked, Tracking
from tests.scheduler.test_local import CPU, Recorder, alive, tasks
from tests.test_docs import copied
from tests.test_end_to_end import ROOT, environment, make, refused, train_py
from tests.training.conftest import SOURCES, job_of, specs

MEMBERS = registry.members("adamwprune.trackers")
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
        memory={"total": 1000, "weights": 600, "optimizer": {"exp_avg": 400}},
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


# -- members -----------------------------------------------------------------------


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


# -- following a run's files -----------------------------------------------------------


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
        "memory_optimizer_exp_avg_bytes": 400,
        "seconds_total": 6.0,
    }


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
    follower.look(folder.name)
    assert diary.logs[0]["steps"] == [8]
    assert diary.logs[0]["run"].code == "new"
    assert diary.logs[0]["end"] is None


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


@pytest.mark.parametrize("what", ["nothing", "record", "progress"])
def test_damaged_files_are_named(what, follower, folder):
    folder.mkdir()
    if what != "nothing":
        name = {"record": "result.json", "progress": "progress.json"}[what]
        (folder / name).write_text("{}")
        (folder / "spec.yaml").write_text("{}")
    with pytest.raises(UserError, match=folder.name):
        follower.look(folder.name)


# -- what each writes, read back -----------------------------------------------------------


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


def written_twice(name: str, run: Path) -> Path:
    """The tracker's folder after two exports, the first of a run with other epochs."""
    publish(run, record(epochs=4))
    assert written(name, run.parent, run.name) == []
    publish(run, record())
    assert written(name, run.parent, run.name) == []
    return run.parent / "tracking" / name


STEPS = [8, 16, 24]


@needs("tensorboard")
def test_tensorboard_s_event_files(recorded):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    folder = written_twice("tensorboard", recorded)
    assert [path.name for path in folder.iterdir()] == [recorded.name]
    events = EventAccumulator(str(folder / recorded.name))
    events.Reload()
    accuracy = events.Scalars("test_accuracy")
    assert [(each.step, round(each.value, 6)) for each in accuracy] == [
        (8, 0.6),
        (16, 0.7),
        (24, 0.8),
    ]
    assert [each.wall_time - 1767323045 for each in accuracy] == [2, 4, 6], "started, and seconds"
    assert events.Scalars("summary/pruning_zeros")[0].value == 12
    assert events.Scalars("summary/memory_optimizer_exp_avg_bytes")[0].value == 400
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.group_name == recorded.name
    assert start.hparams["OPTIMIZER"].string_value == "sgd"
    assert start.hparams["EPOCHS"].number_value == 2


def wandb_records(path: Path) -> Iterator:
    """The records of a .wandb file: a LevelDB log of protocol buffers after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), 7, b""
    while at < len(data):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole one, or the last part of one
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def wandb_run(path: Path) -> dict:
    """Config, history, summary and exit status of an offline run."""
    found: dict = {"config": {}, "history": [], "summary": {}}
    for each in wandb_records(path):
        if each.HasField("run") and not found.get("run"):
            found["run"] = each.run
            found["config"] = {e.key: json.loads(e.value_json) for e in each.run.config.update}
        if each.HasField("history"):
            row = {"/".join(i.nested_key) or i.key: i.value_json for i in each.history.item}
            found["history"].append({k: json.loads(v) for k, v in row.items()})
        if each.HasField("summary"):
            for item in each.summary.update:
                key = "/".join(item.nested_key) or item.key
                found["summary"][key] = json.loads(item.value_json)
        if each.HasField("exit"):
            found["exit"] = each.exit.exit_code
    return found


@needs("wandb")
def test_wandb_s_offline_run(recorded, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    folder = written_twice("wandb", recorded)
    (run,) = folder.glob("offline-run-*")
    found = wandb_run(next(run.glob("*.wandb")))
    assert (found["run"].display_name, found["run"].run_group) == (recorded.name, "study")
    assert found["run"].project == "adamwprune"
    assert found["config"]["OPTIMIZER"] == "sgd"
    assert found["config"]["run_id"] == recorded.name
    assert [row["_step"] for row in found["history"]] == STEPS
    assert [row["test_accuracy"] for row in found["history"]] == [0.6, 0.7, 0.8]
    assert found["summary"]["pruning_zeros"] == 12
    assert found["summary"]["memory_optimizer_exp_avg_bytes"] == 400
    assert found["exit"] == 0


@needs("wandb")
def test_wandb_mode_is_the_user_s(recorded, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert written("wandb", recorded.parent, recorded.name) == []
    assert not list((recorded.parent / "tracking/wandb").glob("*run*"))


@needs("trackio")
def test_trackio_s_database(recorded):
    folder = written_twice("trackio", recorded)
    with contextlib.closing(sqlite3.connect(folder / "adamwprune.db")) as database:
        rows = list(database.execute("select run_name, step, metrics from metrics order by id"))
        ((config,),) = database.execute("select config from configs")
    assert {name for name, _, _ in rows} == {recorded.name}
    assert [step for _, step, _ in rows] == [*STEPS, 24], "the summary is at the last step"
    metrics = [json.loads(text) for _, _, text in rows]
    assert [row.get("test_accuracy") for row in metrics] == [0.6, 0.7, 0.8, None]
    assert metrics[-1]["summary/pruning_zeros"] == 12
    found = json.loads(config)
    assert (found["OPTIMIZER"], found["_Group"]) == ("sgd", "study")


SPY = """
import os, sys

def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
        if not isinstance(arguments[1], (str, bytes)) or event == "socket.getaddrinfo":
            with open(os.environ["SPY"], "a") as file:
                print(event, arguments[1:], file=file)

sys.addaudithook(note)
"""


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs(n)) for n in MEMBERS])
def test_nothing_is_sent(name, recorded, tmp_path, monkeypatch):
    """Not even by one who is logged in everywhere; Unix sockets are no network."""
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy/sitecustomize.py").write_text(SPY)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path / "spy"), os.environ["PYTHONPATH"]])
    )
    monkeypatch.setenv("SPY", str(tmp_path / "sent"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for token in ("WANDB_API_KEY", "HF_TOKEN", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.setenv(token, "x" * 40)
    assert written(name, recorded.parent, recorded.name) == []
    assert not (tmp_path / "sent").exists(), (tmp_path / "sent").read_text()
    probe = "import socket; socket.getaddrinfo('localhost', 1)"
    subprocess.run([sys.executable, "-c", probe], check=True)
    assert (tmp_path / "sent").exists(), "the spy does its work"


# -- faulty trackers -------------------------------------------------------------------------

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
    monkeypatch.setattr(tracking, "LIBRARY", path)
    for place in ("init", "begin", "epoch", "end"):
        for fault, code in FAULTS.items():
            plant(path, f"{fault}_{place}", MODULE.format(where=place, fault=code))
    plant(path, "diary", DIARY)
    return path


def trained(root: Path, trackers: list[str]):
    """The records of two short runs, with these trackers, and what was told."""
    recorder, todo = Recorder(), tasks(SEED="0 1", PRUNING_METHOD="magnitude")
    with Tracking(trackers, root, "", recorder.told, 60.0) as tracked:
        pool = Pool(Store(root), [CPU], Path("/nowhere"), Tracked(recorder, tracked))
        outcome = pool.run(todo)
    assert len(outcome.done) == 2
    assert not any(alive(each._process.pid) for each in tracked.processes)
    return [Store(root).result(task.spec) for task in todo], recorder.texts


def bits(result: RunResult) -> dict:
    """What of a record is not about its time and place."""
    plain = result.to_json()
    for epoch in plain["history"]:
        del epoch["seconds"]
    return {k: v for k, v in plain.items() if k not in ("seconds", "environment")}


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
    assert "pip install -e" in told["absent_init"]
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
        assert process.is_behind
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
    (told,) = written("diary", recorded.parent, "broken", recorded.name)
    assert "broken/result.json" in told
    assert (
        (recorded.parent / "tracking/diary" / recorded.name).read_text().endswith('["done", 12]\n')
    )


def test_a_tracker_does_not_outlive_the_one_who_started_it(tmp_path, library):
    """kill -9 of make: who hangs ends itself."""
    script = f"""
import sys, time
from pathlib import Path
from adamwprune import tracking
tracking.LIBRARY, tracking.ALONE = Path({str(library)!r}), 0.5
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


def ends_within(seconds: float, condition) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not come to an end"
        time.sleep(0.05)


# -- as a user has it ---------------------------------------------------------------------------


@needs("tensorboard")
def test_make_trains_tracks_and_tracks_again(tmp_path):
    before = make(tmp_path, *TINY, "matrix")
    assert before.returncode == 0, before.stderr
    assert not (tmp_path / "results/tracking").exists(), "off by default"
    (run,) = (path.parent for path in tmp_path.glob("results/*/result.json"))
    again = make(tmp_path, *TINY, "TRACKER_TENSORBOARD=y", "matrix")
    assert "1 done, 0 to train" in again.stdout, "it is no part of a run's identity"
    assert "make track" in again.stdout
    result = make(tmp_path, *TINY, "TRACKER_TENSORBOARD=y", "track")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "results/tracking/tensorboard"
    assert result.stdout.strip().endswith(f"{folder}: 1 run")
    assert steps_in_tensorboard(folder / run.name) == [8, 16]
    one = make(tmp_path, "TRACKER_TENSORBOARD=y", f"RUN={run.name[:20]}", "track")
    assert one.returncode == 0, one.stderr


def steps_in_tensorboard(folder: Path) -> list[int]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), purge_orphaned_data=False)
    events.Reload()
    return [each.step for each in events.Scalars("test_accuracy")]


def test_what_cannot_be_tracked_is_said(tmp_path):
    assert "no tracker is on: set one of TRACKER_TENSORBOARD=y" in refused(
        make(tmp_path, *TINY, "track")
    )
    says = refused(make(tmp_path, *TINY, "TRACKER_TENSORBOARD=y", "track"))
    assert "no run has a record to track" in says
    says = refused(make(tmp_path, *TINY, "TRACKER_TENSORBOARD=y", "RUN=lenet9", "track"))
    assert "no run starts with 'lenet9'" in says
    assert "TRACKER_TENSORBOARD?" in refused(make(tmp_path, "TRACKER_TENSORBORD=y", "plan"))


@needs("tensorboard")
def test_train_py_tracks_its_run(tmp_path):
    flags = ("--dataset", "mnist5k", "--epochs", "2", "--batch-size", "512")
    result = train_py(tmp_path, *flags, "--tracker-tensorboard", "--threads", "1")
    assert result.returncode == 0, result.stderr
    (run,) = (path.parent for path in tmp_path.glob("results/*/result.json"))
    assert steps_in_tensorboard(tmp_path / "results/tracking/tensorboard" / run.name) == [8, 16]


@needs("tensorboard")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_stopped_and_resumed_has_each_point_once(how, tmp_path):
    words = [f"O={tmp_path}", *TINY[:2], "EPOCHS=4", *TINY[3:], "TRACKER_TENSORBOARD=y",
             "CHECKPOINT_SECONDS=0"]  # fmt: skip
    command = ["make", f"PYTHON={sys.executable}", "VENV=", *words, "matrix"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), start_new_session=True, stdout=subprocess.PIPE
    ) as started:
        ends_within(300, lambda: any(p.stat().st_size for p in tmp_path.rglob("metrics.jsonl")))
        os.killpg(started.pid, how)
    ends_within(60, lambda: not processes(str(tmp_path)))
    assert not list(tmp_path.glob("results/*/result.json")), "it was stopped"
    result = make(tmp_path, *words[1:], "matrix")
    assert result.returncode == 0, result.stderr
    (run,) = (path.parent for path in tmp_path.glob("results/*/result.json"))
    attempts = json.loads((run / "result.json").read_text())["environment"]["attempts"]
    assert len(attempts) == 2
    folder = tmp_path / "results/tracking/tensorboard" / run.name
    assert steps_in_tensorboard(folder) == [8, 16, 24, 32]


def processes(word: str) -> list[int]:
    """The processes that have a word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found


KCONFIG = """
config TRACKER_{name}
    bool "A planted one"
    help
      A tracker that is planted here.
      @operational
"""


def test_a_file_and_a_symbol_make_a_tracker_and_ctrl_c_ends_it(tmp_path):
    tree, output = tmp_path / "tree", tmp_path / "output"
    copied(tree)
    name = "hanging"
    plant(tree / "lib", name, MODULE.format(where="init", fault=FAULTS["hanging"]))
    plant(tree / "lib", "diary", DIARY)
    with (tree / "lib/adamwprune/trackers/Kconfig").open("a") as file:
        file.write(KCONFIG.format(name="HANGING") + KCONFIG.format(name="DIARY"))
    words = ("TRACKER_HANGING=y", "TRACKER_DIARY=y", "EPOCHS=1000", f"O={output}")
    command = ["make", f"PYTHON={sys.executable}", "VENV=", *TINY[:2], *TINY[3:], *words, "matrix"]
    with subprocess.Popen(
        command, cwd=tree, env=environment(), start_new_session=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    ) as started:  # fmt: skip
        ends_within(300, lambda: any(p.stat().st_size for p in output.glob("**/tracking/diary/*")))
        os.killpg(started.pid, signal.SIGINT)
        said, _ = started.communicate(timeout=120)
    assert started.returncode != 0
    assert "Traceback" not in said
    assert "tracker hanging: has not ended in 5 s" in said
    ends_within(60, lambda: not processes(str(output)))
    (page,) = output.glob("results/tracking/diary/*")
    assert json.loads(page.read_text().splitlines()[-1]) == ["unfinished", None]
