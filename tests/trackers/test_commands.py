"""Trackers as a user has them: make, make track, train.py, kill -9, Ctrl-C."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import ROOT, environment, make, refused, train_py
from tests.test_docs import copied
from tests.trackers.conftest import (
    DIARY,
    FAULTS,
    MODULE,
    TINY,
    ends_within,
    needs,
    plant,
    steps_in_tensorboard,
)

pytestmark = pytest.mark.slow


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
    one = make(tmp_path, "TRACKER_TENSORBOARD=y", f"RUN={run.name[:-4]}", "track")
    assert one.returncode == 0, one.stderr


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
