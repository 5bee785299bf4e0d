"""The local scheduler under real faults: killed workers, failing runs, Ctrl-C, a full disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from adamwprune.errors import UserError
from adamwprune.scheduler import devices
from adamwprune.scheduler.devices import Slot
from adamwprune.scheduler.local import Pool, Task
from adamwprune.store import Store
from tests.training.conftest import specs

CPU = Slot("cpu", 1)


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self, on_progress=lambda spec: None) -> None:
        self.began, self.finished, self.on_progress = [], [], on_progress

    def started(self, spec, slot) -> None:
        self.began.append(spec)

    def progress(self, spec, event) -> None:
        self.on_progress(spec)

    def ended(self, spec, result) -> None:
        self.finished.append((spec, result.status))


def tasks(**settings: str) -> list[Task]:
    return [Task(spec, "", "", "python train.py") for spec in specs(**settings)]


def workers_of(pid: int) -> list[int]:
    """The worker processes that ``pid`` has started."""
    listing = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return [int(line.split()[0]) for line in listing.splitlines() if "scheduler.worker" in line]


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_runs_are_shared_out_and_recorded(tmp_path):
    todo = tasks(OPTIMIZER="sgd adamw", SEED="0 1")
    recorder = Recorder()
    outcome = Pool(Store(tmp_path), [CPU, CPU], Path("/nowhere"), recorder).run(todo)
    assert len(outcome.done) == 4
    assert not outcome.failed
    assert {spec for spec, _ in recorder.finished} == {task.spec for task in todo}
    results = [Store(tmp_path).result(task.spec) for task in todo]
    assert all(result and result.status == "done" for result in results)
    assert {result.environment["threads"] for result in results} == {1}


def test_a_failing_run_does_not_stop_the_others(tmp_path):
    todo = tasks(LR="100 0.01", WEIGHT_DECAY="1")
    outcome = Pool(Store(tmp_path), [CPU], Path("/nowhere"), Recorder()).run(todo)
    assert [spec["LR"] for spec in outcome.failed] == [100.0]
    assert [spec["LR"] for spec in outcome.done] == [0.01]
    assert "diverged" in Store(tmp_path).result(outcome.failed[0]).error


def test_a_killed_worker_costs_its_run_alone(tmp_path):
    killed = []

    def kill_first(spec):
        if not killed:
            killed.append(spec)
            os.kill(workers_of(os.getpid())[0], signal.SIGKILL)

    todo = tasks(SEED="0 1 2", EPOCHS="3")
    outcome = Pool(Store(tmp_path), [CPU], Path("/nowhere"), Recorder(kill_first)).run(todo)
    assert outcome.failed == killed
    assert len(outcome.done) == 2
    result = Store(tmp_path).result(killed[0])
    assert "signal SIGKILL" in result.error
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
    outcome = Pool(Store(tmp_path / "results"), [CPU], Path("/x"), Recorder()).run([task])
    assert outcome.done == [task.spec]


def test_a_second_scheduler_is_refused(tmp_path):
    store = Store(tmp_path)
    with store.locked(), pytest.raises(UserError, match="another make is training"):
        Pool(store, [CPU], Path("/x"), Recorder()).run(tasks())
    assert not list(tmp_path.glob("*/result.json"))


def test_a_missing_data_set_stops_the_matrix_with_one_message(tmp_path):
    todo = tasks(DATASET="mnist", BATCH_SIZE="512", SEED="0 1")
    with pytest.raises(UserError, match="DATASET=mnist5k"):
        Pool(Store(tmp_path / "results"), [CPU], tmp_path / "data", Recorder()).run(todo)
    assert not list((tmp_path / "results").glob("*/result.json"))
    assert workers_of(os.getpid()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_workers_and_keeps_finished_runs(tmp_path, number):
    def interrupt(spec):
        if len(recorder.finished) == 1:
            os.kill(os.getpid(), number)

    recorder = Recorder(interrupt)
    todo = tasks(SEED="0 1 2", EPOCHS="4")
    with pytest.raises(KeyboardInterrupt):
        Pool(Store(tmp_path), [CPU], Path("/nowhere"), recorder).run(todo)
    assert [Store(tmp_path).status(task.spec) for task in todo] == ["done", "missing", "missing"]
    assert workers_of(os.getpid()) == []


def test_workers_end_by_themselves_when_the_scheduler_is_killed(tmp_path):
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.scheduler.test_local import *\n"
        "todo = tasks(EPOCHS='500', SEED='0 1')\n"
        "Pool(Store(Path(sys.argv[1])), [CPU, CPU], Path('/x'), Recorder()).run(todo)\n"
    )
    scheduler = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, env=ENV)
    _wait_for(lambda: len(list(tmp_path.glob("*/metrics.jsonl"))) == 2)
    workers = workers_of(scheduler.pid)
    assert len(workers) == 2
    scheduler.kill()
    scheduler.wait()
    _wait_for(lambda: not any(alive(pid) for pid in workers))


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

    def fill(spec):
        if len(recorder.finished) == 2 and not filled.is_set():
            filled.set()
            with contextlib.suppress(OSError), (small_disk / "ballast").open("wb") as stream:
                while True:
                    stream.write(b"\0" * 4096)
                    stream.flush()

    recorder = Recorder(fill)
    with pytest.raises(UserError, match="No space left on device"):
        Pool(store, [CPU], Path("/nowhere"), recorder).run(todo)
    done = [task for task in todo if store.status(task.spec) == "done"]
    assert len(done) == 2
    (small_disk / "ballast").unlink()
    assert not list(small_disk.glob("*/*.tmp"))
    rest = [task for task in todo if task not in done][:1]
    assert Pool(store, [CPU], Path("/nowhere"), Recorder()).run(rest).done == [rest[0].spec]


def test_slots_share_the_cores_out(monkeypatch):
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(devices, "_cuda_devices", list)
    assert devices.slots("auto", 0, 100) == [Slot("cpu", 1)] * 8
    assert devices.slots("auto", 0, 3) == [Slot("cpu", 2)] * 3
    assert devices.slots("cpu", 2, 100) == [Slot("cpu", 4)] * 2
    assert devices.slots("cpu", 0, 1) == [Slot("cpu", 8)]
    with pytest.raises(UserError, match="no CUDA device"):
        devices.slots("cuda", 0, 1)


def test_slots_spread_runs_over_gpus(monkeypatch):
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(devices, "_cuda_devices", lambda: ["cuda:0", "cuda:1"])
    assert [s.device for s in devices.slots("auto", 0, 9)] == ["cuda:0", "cuda:1"]
    assert [s.device for s in devices.slots("cuda", 2, 3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert devices.slots("cpu", 1, 9)[0].device == "cpu"
