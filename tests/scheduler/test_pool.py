"""The local scheduler under real faults: killed workers, failing runs, Ctrl-C, a full disk."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from adamwprune.base.errors import UserError
from adamwprune.plan.job import Job
from adamwprune.records.code import Sources
from adamwprune.records.store import Store
from adamwprune.run import checkpoint
from adamwprune.scheduler import pool
from adamwprune.scheduler.devices import Slot
from adamwprune.scheduler.events import Policy
from adamwprune.scheduler.executors import local
from tests.support.runs import specs, toy_specs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked_workers")]

CPU = Slot("cpu", 1)


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self, on_progress=lambda spec, event: None) -> None:
        self.began, self.finished, self.texts, self.left = [], [], [], []
        self.on_progress = on_progress

    def started(self, spec, slot) -> None:
        self.began.append(spec)

    def progress(self, spec, event) -> None:
        self.on_progress(spec, event)

    def stopped(self, spec) -> None:
        self.left.append(spec)

    def told(self, text) -> None:
        self.texts.append(text)

    def ended(self, spec, result) -> None:
        self.finished.append((spec, result.status))


class Pool(pool.Pool):
    """A pool whose jobs train in the directories of its store."""

    def run(self, jobs):
        return super().run([replace(job, folder=self.store.folder(job.spec)) for job in jobs])


def job_of(spec, **settings) -> Job:
    return Job(spec, Path(), Path("/nowhere"), command="python train.py", **settings)


def tasks(**settings: str) -> list[Job]:
    return [job_of(spec) for spec in specs(**settings)]


def workers_of(pid: int) -> list[int]:
    """The worker processes that ``pid`` has started."""
    # comm: of a forked one; -ww: a long path to the interpreter hides the rest otherwise.
    command = ["ps", "-ww", "-o", "pid=,comm=,args=", "--ppid", str(pid)]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [int(line.split()[0]) for line in listing.splitlines() if "run.worker" in line]


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_runs_are_shared_out_and_recorded(tmp_path):
    todo = tasks(OPTIMIZER="sgd adamw", SEED="0 1")
    recorder = Recorder()
    outcome = Pool(Store(tmp_path), [CPU, CPU], recorder).run(todo)
    assert len(outcome.done) == 4
    assert not outcome.failed
    assert {spec for spec, _ in recorder.finished} == {task.spec for task in todo}
    results = [Store(tmp_path).result(task.spec) for task in todo]
    assert all(result and result.status == "done" for result in results)
    assert {result.environment["threads"] for result in results} == {1}


def test_a_failing_run_does_not_stop_the_others(tmp_path):
    todo = tasks(LR="100 0.01", WEIGHT_DECAY="1")
    outcome = Pool(Store(tmp_path), [CPU], Recorder()).run(todo)
    assert [spec["LR"] for spec in outcome.failed] == [100.0]
    assert [spec["LR"] for spec in outcome.done] == [0.01]
    assert "diverged" in Store(tmp_path).result(outcome.failed[0]).error


def test_a_killed_worker_s_run_is_tried_again_from_its_checkpoint(tmp_path):
    killed = []

    def kill_first(spec, event):
        if not killed and event["epoch"] == 2:
            killed.append(spec)
            os.kill(workers_of(os.getpid())[0], signal.SIGKILL)

    recorder = Recorder(kill_first)
    todo = tasks(SEED="0 1", EPOCHS="3")
    outcome = Pool(Store(tmp_path), [CPU], recorder).run(todo)
    assert outcome.done == [task.spec for task in todo]
    assert recorder.texts == [
        f"retry 1 of 1: {killed[0].slug}: the worker ended in the middle of the run: "
        "signal SIGKILL (out of memory?)"
    ]
    attempts = Store(tmp_path).result(killed[0]).environment["attempts"]
    assert [attempt["from_step"] % 16 for attempt in attempts] == [0, 0]
    assert attempts[1]["from_step"] >= 16
    assert workers_of(os.getpid()) == []


EVERYTHING = toy_specs(
    OPTIMIZER="sgd adam adamw adamwadv adamwspam adamwprune",
    PRUNING_METHOD="none magnitude movement state",
    EPOCHS="4",
)
# Each optimizer with one method, each method with one optimizer at least.
COVER = ("sgd-none", "adam-magnitude", "adamw-movement", "adamwadv-state", "adamwspam-movement")
COVER += ("adamwprune-state",)


@pytest.mark.parametrize(
    "combinations",
    [
        [spec for spec in EVERYTHING if any(f"-{name}-" in spec.slug for name in COVER)],
        pytest.param(EVERYTHING, marks=pytest.mark.long),
    ],
    ids=["cover", "all"],
)
def test_killed_with_sigkill_at_any_step_a_run_ends_with_the_same_bits(
    combinations, toys, tmp_path
):
    """Real processes, really killed, each run once at a random step; then retried by the pool."""
    draw = random.Random(len(combinations))
    at = {spec: draw.randrange(1, spec.total_steps) for spec in combinations}

    def kill(spec, event):
        if event["step"] >= at.get(spec, 1 << 30):
            del at[spec]
            os.kill(workers_of(os.getpid())[0], signal.SIGKILL)

    todo = [job_of(spec, checkpoint_seconds=0) for spec in combinations]
    killed, whole = Store(tmp_path / "killed"), Store(tmp_path / "whole")
    # A kill may come when its run has just ended and hit the next one, which has its own to come.
    policy = Policy(retries=2)
    outcome = Pool(killed, [CPU], Recorder(kill), policy).run(todo)
    assert set(outcome.done) == set(combinations)
    Pool(whole, [CPU], Recorder()).run(todo)
    resumed = 0
    for spec in combinations:
        one, two = killed.result(spec), whole.result(spec)
        assert one.weights == two.weights
        assert [without_times(e) for e in one.history] == [without_times(e) for e in two.history]
        for name in ("final", "pruning", "param_groups", "memory"):
            assert getattr(one, name) == getattr(two, name), (spec.slug, name)
        resumed += one.environment["attempts"][-1]["from_step"] > 0
    assert resumed >= len(combinations) // 2, "the kills came too early or too late"


def without_times(entry):
    return {name: value for name, value in entry.items() if name != "seconds"}


def test_a_run_that_keeps_dying_is_recorded_and_costs_itself_alone(tmp_path):
    todo = tasks(SEED="0 1", EPOCHS="3")
    doomed = todo[0].spec

    def kill(spec, event):
        if spec == doomed and event["epoch"] == 2:
            os.kill(workers_of(os.getpid())[0], signal.SIGKILL)

    recorder = Recorder(kill)
    policy = Policy(retries=2)
    outcome = Pool(Store(tmp_path), [CPU], recorder, policy).run(todo)
    assert outcome.failed == [doomed]
    assert outcome.done == [todo[1].spec]
    assert [text[:12] for text in recorder.texts] == ["retry 1 of 2", "retry 2 of 2"]
    result = Store(tmp_path).result(doomed)
    assert result.error.splitlines()[-1].endswith(
        "in the middle of the run: signal SIGKILL (out of memory?)"
    )
    assert "end of log.txt:" in result.error
    assert "epoch 1/3" in result.error
    assert result.code == Sources().of(doomed).to_json()
    # The checkpoint stays: tried once more, the run goes on from there.
    assert Pool(Store(tmp_path), [CPU], Recorder()).run(todo[:1]).done == [doomed]
    assert Store(tmp_path).result(doomed).environment["attempts"][-1]["from_step"] >= 16


def test_a_worker_that_somebody_terminates_loses_nothing(tmp_path):
    """As guards of a machine's memory do: its run goes on, and none is left out."""
    told = []

    def terminate(spec, event):
        if not told and event["step"] > 3:
            told.append(spec)
            os.kill(workers_of(os.getpid())[0], signal.SIGTERM)

    todo, recorder = tasks(SEED="0 1 2", EPOCHS="3"), Recorder(terminate)
    outcome = Pool(Store(tmp_path), [CPU], recorder).run(todo)
    assert set(outcome.done) == {task.spec for task in todo}
    assert recorder.texts == [
        f"retry 1 of 1: {told[0].slug}: its worker was told to stop (SIGTERM), not by make"
    ]
    assert Store(tmp_path).result(told[0]).environment["attempts"][1]["from_step"] > 3


def test_workers_that_cannot_start_are_not_the_runs_failure(tmp_path, monkeypatch):
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text("import sys; sys.exit('no licence today')\n")
    monkeypatch.setenv("PYTHONPATH", str(hook))
    store = Store(tmp_path / "results")
    with pytest.raises(UserError, match=r"(?s)workers cannot start: .*no licence today"):
        Pool(store, [CPU], Recorder()).run(tasks(SEED="0 1"))
    assert not list(store.root.glob("*/result.json"))


OLD = '"dampening": 0.0,'


def test_code_that_is_edited_while_a_matrix_runs_is_told_and_recorded(tmp_path, monkeypatch):
    """A copy of the package, its SGD changed during the first run: the second is made by it."""
    shutil.copytree(ROOT / "lib", tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "Kconfig", tmp_path / "Kconfig")
    monkeypatch.setattr(local, "LIBRARY", tmp_path / "lib")
    monkeypatch.setattr(pool, "Sources", lambda: Sources(tmp_path / "lib"))
    path = tmp_path / "lib" / "adamwprune" / "optimizers" / "sgd.py"
    taken = []

    def edit(spec, event):
        text = path.read_text()
        if OLD in text:
            path.write_text(text.replace(OLD, '"dampening": 0.5,'))

    def source():
        taken.append(OLD in path.read_text())
        return {"commit": "c", "dirty": not taken[-1], "diff": None}

    todo, recorder, store = tasks(SEED="0 1"), Recorder(edit), Store(tmp_path / "results")
    Pool(store, [CPU], recorder, source=source).run(todo)
    assert taken == [True, False]
    assert recorder.texts == ["the code was changed: runs that start from now on use it"]
    one, two = (store.result(task.spec) for task in todo)
    assert (one.environment["dirty"], two.environment["dirty"]) == (False, True)
    assert one.code == Sources().of(todo[0].spec).to_json()
    assert two.code == Sources(tmp_path / "lib").of(todo[1].spec).to_json() != one.code


def test_a_worker_that_hangs_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "SILENCE", 1.5)

    def hang(spec, event):
        (pid,) = workers_of(os.getpid())
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(6, os.kill, [pid, signal.SIGCONT]).start()
        recorder.on_progress = lambda spec, event: None

    recorder = Recorder(hang)
    (task,) = tasks()
    assert Pool(Store(tmp_path), [CPU], recorder).run([task]).done == [task.spec]
    assert any("no word from its worker for" in text for text in recorder.texts)


def test_a_directory_that_is_moved_while_its_run_trains_is_not_made_again(tmp_path):
    store = Store(tmp_path / "results")

    def move(spec, event):
        if store.root.exists() and event["step"] > 3:
            store.root.rename(tmp_path / "elsewhere")

    with pytest.raises(UserError, match="was moved, removed or replaced while its run trained"):
        Pool(store, [CPU], Recorder(move)).run(tasks(EPOCHS="40"))
    assert not store.root.exists()


CRASHES = {
    "segmentation fault": (
        "import ctypes; ctypes.string_at(0)",
        "signal SIGSEGV",
        "Fatal Python error: Segmentation fault",
    ),
    "exception": (
        "raise RuntimeError('of the moment')",
        "RuntimeError: of the moment",
        "Traceback",
    ),
    "out of memory": (
        "torch.empty(1 << 50, dtype=torch.uint8)",
        "can't allocate memory",
        "Traceback",
    ),
}


@pytest.mark.parametrize("kind", CRASHES)
def test_a_real_crash_is_told_and_recorded_with_its_traceback(kind, tmp_path, monkeypatch):
    """Under a model that does it at the second call of its second epoch."""
    crash, reason, trace = CRASHES[kind]
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import sys, importlib.abc\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name != 'adamwprune.run.runner': return None\n"
        "        sys.meta_path.remove(self)\n"
        "        import adamwprune.train.loop as training, torch\n"
        "        whole = training.evaluate\n"
        "        calls = []\n"
        "        def evaluate(*arguments):\n"
        "            calls.append(0)\n"
        f"            if len(calls) == 2: {crash}\n"
        "            return whole(*arguments)\n"
        "        training.evaluate = evaluate\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(hook), os.environ["PYTHONPATH"]]))
    (task,) = tasks(EPOCHS="3")
    recorder, store = Recorder(), Store(tmp_path / "results")
    outcome = Pool(store, [CPU], recorder, Policy(retries=0)).run([task])
    assert outcome.failed == [task.spec]
    error = store.result(task.spec).error
    assert reason in error.splitlines()[-1]
    assert trace in error
    assert "evaluate" in error
    # From its checkpoint the second epoch's evaluation is the worker's first: it goes on.
    outcome = Pool(store, [CPU], recorder, Policy(retries=1)).run([task])
    assert outcome.done == [task.spec]


def test_fail_fast_stops_the_others_at_a_checkpoint(tmp_path):
    todo = tasks(LR="100 0.01", WEIGHT_DECAY="1", EPOCHS="200")
    recorder = Recorder()
    made = Pool(Store(tmp_path), [CPU, CPU], recorder, Policy(fail_fast=True))
    outcome = made.run(todo)
    assert [spec["LR"] for spec in outcome.failed] == [100.0]
    assert outcome.done == []
    assert "FAIL_FAST=y: stopping the other runs at a checkpoint" in recorder.texts
    assert not (tmp_path / todo[1].spec.run_id / "result.json").exists()
    if todo[1].spec in recorder.began:
        assert checkpoint.read(tmp_path / todo[1].spec.run_id / checkpoint.NAME)
    assert workers_of(os.getpid()) == []


def test_stray_output_of_a_worker_is_no_event(tmp_path, monkeypatch):
    """Whatever start-up code prints, in whatever encoding, the run goes on and is recorded."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import sys\nprint('hello'); print(5)\n"
        "sys.stderr.buffer.write(b'\\xff' * 200_000 + b'\\n')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(hook))
    (task,) = tasks()
    outcome = Pool(Store(tmp_path / "results"), [CPU], Recorder()).run([task])
    assert outcome.done == [task.spec]


def test_a_missing_data_set_stops_the_matrix_with_one_message(tmp_path):
    todo = tasks(DATASET="mnist", BATCH_SIZE="512", SEED="0 1")
    with pytest.raises(UserError, match="DATASET=mnist5k"):
        Pool(Store(tmp_path / "results"), [CPU], Recorder()).run(todo)
    assert not list((tmp_path / "results").glob("*/result.json"))
    assert workers_of(os.getpid()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_workers_at_a_checkpoint(tmp_path, number):
    def interrupt(spec, event):
        if len(recorder.finished) == 1 and event["step"] > 3:
            os.kill(os.getpid(), number)

    recorder = Recorder(interrupt)
    todo = tasks(SEED="0 1 2", EPOCHS="20")
    todo[0] = tasks(SEED="0", EPOCHS="1")[0]
    with pytest.raises(KeyboardInterrupt):
        Pool(Store(tmp_path), [CPU], recorder).run(todo)
    done = [Store(tmp_path).result(task.spec) is not None for task in todo]
    assert done == [True, False, False]
    assert recorder.texts == ["stopping the runs at a checkpoint; again: at once"]
    state = checkpoint.read(tmp_path / todo[1].spec.run_id / checkpoint.NAME)
    assert state["training"]["step"] > 3
    assert workers_of(os.getpid()) == []


def test_a_second_interrupt_ends_everything_at_once(tmp_path, monkeypatch):
    """Also a worker that does not stop, which the first would have waited for."""
    monkeypatch.setattr(pool, "GRACE", 3600)
    monkeypatch.setattr(local, "GRACE", 3600)

    def interrupt_twice(spec, event):
        os.kill(workers_of(os.getpid())[0], signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGINT)
        threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()

    (task,) = tasks(EPOCHS="200")
    with pytest.raises(KeyboardInterrupt):
        Pool(Store(tmp_path), [CPU], Recorder(interrupt_twice)).run([task])
    assert workers_of(os.getpid()) == []


def test_a_worker_that_does_not_stop_in_time_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "GRACE", 0.5)

    def interrupt(spec, event):
        os.kill(workers_of(os.getpid())[0], signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGTERM)

    (task,) = tasks(EPOCHS="200")
    with pytest.raises(KeyboardInterrupt):
        Pool(Store(tmp_path), [CPU], Recorder(interrupt)).run([task])
    assert workers_of(os.getpid()) == []


def test_workers_end_by_themselves_when_the_scheduler_is_killed(tmp_path):
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.scheduler.test_pool import *\n"
        "todo = tasks(EPOCHS='500', SEED='0 1')\n"
        "Pool(Store(Path(sys.argv[1])), [CPU, CPU], Recorder()).run(todo)\n"
    )
    scheduler = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, env=ENV)
    _wait_for(lambda: len(list(tmp_path.glob("*/metrics.jsonl"))) == 2)
    workers = workers_of(scheduler.pid)
    assert len(workers) == 2
    scheduler.kill()
    scheduler.wait()
    _wait_for(lambda: not any(alive(pid) for pid in workers))
    # They went at a checkpoint: nothing is lost.
    for folder in {path.parent for path in tmp_path.glob("*/metrics.jsonl")}:
        assert checkpoint.read(folder / checkpoint.NAME)["training"]["step"] > 0


ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "lib"), str(ROOT)])}


def _wait_for(condition, seconds: float = 120) -> None:
    """Poll; a machine may be slow, so only a hang fails."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of eight megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_cleanly_and_finished_runs_stay(small_disk):
    todo = tasks(SEED=" ".join(map(str, range(8))), EPOCHS="1")
    store, filled = Store(small_disk), threading.Event()

    def fill(spec, event):
        if len(recorder.finished) == 2 and not filled.is_set():
            filled.set()
            with contextlib.suppress(OSError), (small_disk / "ballast").open("wb") as stream:
                while True:
                    stream.write(b"\0" * 4096)
                    stream.flush()

    recorder = Recorder(fill)
    with pytest.raises(UserError, match="No space left on device"):
        Pool(store, [CPU], recorder).run(todo)
    done = [task for task in todo if store.result(task.spec)]
    assert len(done) == 2
    (small_disk / "ballast").unlink()
    assert not list(small_disk.glob("*/*.tmp"))
    rest = [task for task in todo if task not in done][:1]
    assert Pool(store, [CPU], Recorder()).run(rest).done == [rest[0].spec]
