"""MPS for several runs on one GPU: a daemon that is there as long as the matrix, and no longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adamwprune.scheduler.devices import Slot
from adamwprune.scheduler.executors import mps

SHARED = [Slot("cuda:0", 1), Slot("cuda:0", 1)]
CONTROL = """#!/bin/sh
if [ "$1" = -d ]; then
    echo "start $CUDA_MPS_PIPE_DIRECTORY" >> "{log}"
    exit {status}
fi
read words
echo "$words $CUDA_MPS_PIPE_DIRECTORY" >> "{log}"
"""


@pytest.fixture
def control(tmp_path, monkeypatch):
    """Put a control program on the PATH; returns a function that makes it, and one for its log."""
    monkeypatch.delenv(mps.PIPES, raising=False)
    monkeypatch.setattr(mps, "DEFAULT_PIPES", tmp_path / "nobody")
    log = tmp_path / "log"

    def make(status: int = 0) -> Path:
        program = tmp_path / "bin" / mps.CONTROL
        program.parent.mkdir()
        program.write_text(CONTROL.format(log=log, status=status))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return log

    return make


def test_a_daemon_of_our_own_is_there_while_runs_share_a_gpu(control):
    log, told = control(), []
    with mps.sharing(SHARED, told.append) as environment:
        folder = environment[mps.PIPES]
        assert Path(folder).is_dir()
        assert log.read_text().split() == ["start", folder]
    assert log.read_text().split() == ["start", folder, "quit", folder]
    assert not Path(folder).exists()
    assert told == []


@pytest.mark.parametrize(
    "slots", [[Slot("cuda:0", 1), Slot("cuda:1", 1)], [Slot("cpu", 1), Slot("cpu", 1)]]
)
def test_no_daemon_where_every_run_has_its_gpu_or_none(control, slots):
    log = control()
    with mps.sharing(slots, print) as environment:
        assert environment == {}
    assert not log.exists()


def test_a_daemon_that_is_there_is_used(control, monkeypatch, tmp_path):
    log = control()
    monkeypatch.setenv(mps.PIPES, str(tmp_path))
    with mps.sharing(SHARED, print) as environment:
        assert environment == {}
    monkeypatch.delenv(mps.PIPES)
    monkeypatch.setattr(mps, "DEFAULT_PIPES", tmp_path)
    (tmp_path / "control").touch()
    with mps.sharing(SHARED, print) as environment:
        assert environment == {}
    assert not log.exists()


def test_without_mps_and_where_it_does_not_start_runs_take_turns(control):
    told = []
    with mps.sharing(SHARED, told.append) as environment:
        assert environment == {}
    assert told == []
    control(status=3)
    with mps.sharing(SHARED, told.append) as environment:
        assert environment == {}
    assert told == [
        "MPS does not start, runs on one GPU take turns: nvidia-cuda-mps-control -d: exit status 3"
    ]


def test_the_daemon_ends_with_a_scheduler_that_is_killed(control, tmp_path):
    log = control()
    library = Path(mps.__file__).parents[3]
    code = (
        "from pathlib import Path; import time\n"
        "from adamwprune.scheduler.executors import mps\n"
        "from adamwprune.scheduler.devices import Slot\n"
        f"mps.DEFAULT_PIPES = Path({str(tmp_path / 'nobody')!r})\n"
        "with mps.sharing([Slot('cuda:0', 1)] * 2, print):\n"
        "    print('ready', flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(library)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 60
    while "quit" not in log.read_text() and time.monotonic() < until:
        time.sleep(0.05)
    assert "quit" in log.read_text()
