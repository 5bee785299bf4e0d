"""An experiment is a build: killed, changed, extended, run twice at once, and always made whole."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from adamwprune.records.locks import is_locked
from tests.commands.test_end_to_end import TINY
from tests.support.commands import ROOT, environment, make_here, refused, train_py

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked_workers")]

# One worker: starting one, which imports torch, takes longer than its runs.
ONE = ("JOBS=1", "THREADS=1")
TWO = ("CONFIG=sgd", *TINY, "SEED=0 1", *ONE)
LONG = ("CONFIG=sgd", "DATASET=mnist5k", "SEED=0 1", "EPOCHS=8", *ONE)


def records(output: Path) -> dict[str, dict]:
    """Run id -> its record."""
    found = (json.loads(path.read_text()) for path in output.glob("results/*/result.json"))
    return {record["run_id"]: record for record in found}


def background(output: Path, *arguments: str) -> subprocess.Popen[str]:
    """A ``make`` that goes on beside the test, as the head of its own process group."""
    return subprocess.Popen(
        ["make", f"PYTHON={sys.executable}", "VENV=", f"O={output}", *arguments],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(condition, seconds: float = 180) -> None:
    """Poll; a machine may be slow, so only a hang fails."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)


def succeeds(command: list[str]) -> bool:
    """Whether a command ends with status 0."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """Two seeds of one run, trained once."""
    output = tmp_path_factory.mktemp("two")
    result = make_here(output, *TWO, "matrix")
    assert result.returncode == 0, result.stdout + result.stderr
    return output


@pytest.fixture
def output(two, tmp_path) -> Path:
    """A copy of these results that a test may change."""
    shutil.copytree(two, tmp_path / "out")
    return tmp_path / "out"


def make_stale(output: Path, run_id: str) -> None:
    """As if the code that the run uses had been changed since."""
    path = output / "results" / run_id / "result.json"
    record = json.loads(path.read_text())
    record["code"]["modules"]["adamwprune.optimizers.sgd"] = "0123456789"
    record["code"]["digest"] = "0123456789abcdef"
    path.write_text(json.dumps(record))


# -- staleness -------------------------------------------------------------------------


def test_only_what_other_code_made_is_trained_again(output):
    stale, fresh = sorted(records(output))
    make_stale(output, stale)
    before = records(output)
    plan = make_here(output, *TWO, "plan").stdout
    assert f"stale     {stale}: changed since: optimizers.sgd\n" in plan
    assert f"done      {fresh}\n" in plan
    assert "2 runs: 1 done, 1 stale; 0 dropped" in plan
    result = make_here(output, *TWO, "matrix")
    assert "2 runs, 1 done, 1 to train" in result.stdout
    after = records(output)
    assert after[fresh] == before[fresh]
    assert after[stale]["code"] == after[fresh]["code"]
    assert after[stale]["weights"] == before[stale]["weights"], "the same code gives the same bits"


def test_keep_stale_accepts_and_marks(output):
    stale, _ = sorted(records(output))
    make_stale(output, stale)
    before = {p: p.stat().st_mtime_ns for p in output.rglob("result.json")}
    result = make_here(output, *TWO, "KEEP_STALE=1", "all")
    assert result.returncode == 0, result.stderr
    assert "nothing to train" in result.stdout
    assert "1 of 2 stale" in result.stdout
    assert {p: p.stat().st_mtime_ns for p in output.rglob("result.json")} == before
    assert "KEEP_STALE=maybe" in refused(make_here(output, *TWO, "KEEP_STALE=maybe", "plan"))


def test_why_explains_every_state(output):
    first, second = sorted(records(output))

    def why(run: str, *settings: str) -> str:
        result = make_here(output, *TWO, *settings, f"RUN={run}", "why")
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert why(first).startswith(f"{first}: done: make has nothing to do\nits record is of 20")
    make_stale(output, first)
    assert "stale: changed since: optimizers.sgd; make trains it again" in why(first)
    assert "make KEEP_STALE=1 accepts it, marked" in why(first, "KEEP_STALE=1")
    missing = make_here(output, *TWO, "SEED=7", "plan").stdout.split()[1]
    told = why(missing, "SEED=7")
    assert told.startswith(f"{missing}: missing: make trains it\nthe nearest record is ")
    assert "\n    SEED 0 → 7\n" in told or "\n    SEED 1 → 7\n" in told
    told = why(second, "SEED=7")
    assert f"{second}: done, but no run of defconfig sgd" in told
    assert "from this one to it:\n    SEED" in told
    assert "is the start of 2 runs" in refused(make_here(output, *TWO, "RUN=lenet5-mnist5k", "why"))
    assert "no run starts with 'nosuch'" in refused(make_here(output, *TWO, "RUN=nosuch", "why"))
    assert "needs RUN=" in refused(make_here(output, *TWO, "why"))


# -- faults ----------------------------------------------------------------------------


def test_failures_stay_until_retry_and_make_says_so(tmp_path):
    settings = ("CONFIG=sgd", *TINY, "LR=100 0.01", "WEIGHT_DECAY=1", *ONE)
    result = make_here(tmp_path, *settings, "matrix")
    assert result.returncode != 0
    assert "training diverged: the loss is nan" in result.stdout
    assert "retry" not in result.stdout.replace("make retry", ""), "it would diverge again"
    (failed,) = [run for run, record in records(tmp_path).items() if record["status"] == "failed"]
    assert "end of log.txt:" in records(tmp_path)[failed]["error"]

    again = make_here(tmp_path, *settings, "matrix")
    assert again.returncode != 0
    assert "2 runs, 1 done, 1 failed, 0 to train" in again.stdout
    assert f"failed: {failed}: training diverged: the loss is nan" in again.stdout
    assert "make retry trains it again" in again.stdout
    told = make_here(tmp_path, *settings, f"RUN={failed}", "why").stdout
    assert "failed: make leaves it, make retry trains it again" in told
    assert told.count("Traceback") == 1
    assert "Traceback" in told
    assert f"failed    {failed}  lr100: " in make_here(tmp_path, *settings, "plan").stdout

    before = records(tmp_path)
    retried = make_here(tmp_path, *settings, "retry")
    assert retried.stdout.count("\nstart ") == 1
    after = records(tmp_path)
    changed = [run for run in after if after[run] != before[run]]
    assert changed == [failed]


def test_two_makes_at_once_train_every_run_once(tmp_path):
    settings = ("CONFIG=sgd", *TINY, "SEED=0 1 2", *ONE)
    one, two = background(tmp_path, *settings, "all"), background(tmp_path, *settings, "all")
    outputs = [process.communicate(timeout=300)[0] for process in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), outputs
    assert sum(text.count("\nstart ") for text in outputs) == 3
    assert any(f"is training into {tmp_path}/results: waiting for it" in text for text in outputs)
    assert all("98.71" not in text and text.count("dense") for text in outputs), "both end whole"
    assert len(records(tmp_path)) == 3
    assert all(len(r["environment"]["attempts"]) == 1 for r in records(tmp_path).values())


def test_train_py_waits_for_the_process_that_trains_its_run(tmp_path):
    """The first is halted in its run until the second waits for it."""
    words = ["--dataset", "mnist5k", "--epochs", "4"]
    command = [sys.executable, str(ROOT / "train.py"), *words]
    options = {"cwd": tmp_path, "env": environment(), "text": True, "stdout": subprocess.PIPE}
    first = subprocess.Popen(command, **options)
    wait_for(lambda: list(tmp_path.glob("results/*/progress.json")))
    first.send_signal(signal.SIGSTOP)
    second = subprocess.Popen(command, **options, stderr=subprocess.PIPE)
    waits = f"another process ({first.pid}) is training this run: waiting for it"
    told = list(_until(waits, second.stdout))
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=60)
    rest, errors = second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0), errors
    assert waits in told[-1]
    assert "epoch 1/" not in "".join(told) + rest
    (record,) = records(tmp_path).values()
    assert len(record["environment"]["attempts"]) == 1


def _until(text: str, lines: Iterable[str]) -> Iterator[str]:
    """The lines up to one with this text."""
    for line in lines:
        yield line
        if text in line:
            return


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.long) for n in (2, 9))]
)  # SIGKILL and SIGINT: tests/scheduler/test_pool.py
def test_a_matrix_that_was_stopped_goes_on_from_its_checkpoints(number, tmp_path):
    process = background(tmp_path, *LONG, "matrix")
    wait_for(lambda: len(list(tmp_path.glob("results/*/checkpoint.pt"))) >= 1)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert "stopped: 2 runs, 0 done, 2 to train" in output
        assert "Traceback" not in output
    wait_for(lambda: not _alive(tmp_path))
    status = make_here(tmp_path, *LONG, "status").stdout
    assert "interrupted" in status
    begun = [path.parent.name for path in tmp_path.glob("results/*/checkpoint.pt")]
    told = make_here(tmp_path, *LONG, f"RUN={begun[0]}", "why").stdout
    assert ": interrupted: make trains it on" in told
    assert "it was interrupted at step" in told
    assert "goes on from its checkpoint" in told
    assert re.search(r"interrupted .*: at step", make_here(tmp_path, *LONG, "plan").stdout)
    result = make_here(tmp_path, *LONG, "matrix")
    assert result.returncode == 0, result.stdout
    for run in begun:
        attempts = records(tmp_path)[run]["environment"]["attempts"]
        assert len(attempts) == 2
        assert attempts[1]["from_step"] > 0


def _alive(output: Path) -> bool:
    """Whether a process that works below ``output`` is left."""
    locks = [str(path) for path in output.glob("results/*/.lock")]
    return succeeds(["pgrep", "-f", str(output)]) or any(is_locked(Path(path)) for path in locks)


@pytest.mark.parametrize("second", [False, True])
def test_train_py_stops_at_a_checkpoint_and_goes_on(second, tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), "--dataset", "mnist5k", "--epochs", "5"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for(lambda: list(tmp_path.glob("results/*/checkpoint.pt")))
    if second:
        process.send_signal(signal.SIGSTOP)  # so that both are there before either is looked at
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
    else:
        process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping at a checkpoint; again: at once" in errors
    assert ("goes on from" in output) != second
    assert "Traceback" not in errors
    result = train_py(tmp_path, *command[2:])
    assert result.returncode == 0, result.stderr
    (record,) = records(tmp_path).values()
    assert [bool(a["from_step"]) for a in record["environment"]["attempts"]] == [False, True]


@pytest.fixture
def read_only(tmp_path):
    """Makes a directory read-only for root too; undone by a second call, or in the end."""
    folder = tmp_path / "results"
    folder.mkdir()

    def switch(worker: int = 0) -> None:
        if undo[0]:
            undo[0] = not succeeds(["umount", str(folder)])
        elif shutil.which("mount") and succeeds(["mount", "--bind", str(folder), str(folder)]):
            undo[0] = True
            wait_for(lambda: _remounted(folder, worker))
        else:
            pytest.skip("mounting a file system needs root")

    undo = [False]
    yield switch
    if undo[0]:
        switch()


def _remounted(folder: Path, worker: int) -> bool:
    """Refused while a file is open for writing; a halted worker's run does not end meanwhile."""
    os.kill(worker, signal.SIGSTOP)
    done = succeeds(["mount", "-o", "remount,ro,bind", str(folder)])
    os.kill(worker, signal.SIGCONT)
    return done


def test_results_that_become_read_only_stop_cleanly_and_finished_runs_stay(tmp_path, read_only):
    process = background(tmp_path, *LONG, "matrix")
    wait_for(lambda: records(tmp_path))
    wait_for(lambda: list(tmp_path.glob("results/*/progress.json")))
    (second,) = tmp_path.glob("results/*/progress.json")
    read_only(json.loads(second.read_text())["pid"])
    output, _ = process.communicate(timeout=120)
    assert process.returncode not in (0, None), output
    assert "Read-only file system" in output
    assert "Traceback" not in output
    assert "Read-only file system" in refused(make_here(tmp_path, *LONG, "matrix"))
    assert make_here(tmp_path, *LONG, "plan").returncode == 0
    read_only()
    done = records(tmp_path)
    assert done
    result = make_here(tmp_path, *LONG, "matrix")
    assert result.returncode == 0, result.stdout
    assert {run: records(tmp_path)[run] for run in done} == done


def test_a_retry_that_is_interrupted_is_an_interrupted_run(tmp_path):
    settings = ("CONFIG=sgd", "DATASET=mnist5k", "EPOCHS=30", "RETRIES=0", *ONE)
    process = background(tmp_path, *settings, "matrix")
    wait_for(lambda: list(tmp_path.glob("results/*/checkpoint.pt")))
    (told,) = tmp_path.glob("results/*/progress.json")
    worker = json.loads(told.read_text())["pid"]
    os.kill(worker, signal.SIGKILL)
    assert process.wait(timeout=60) != 0
    assert "1 failed" in make_here(tmp_path, *settings, "plan").stdout
    assert (
        "it was interrupted"
        not in make_here(tmp_path, *settings, "RUN=lenet5-mnist5k", "why").stdout
    )
    retry = background(tmp_path, *settings, "retry")
    wait_for(lambda: list(tmp_path.glob("results/*/progress.json")))
    os.killpg(retry.pid, signal.SIGINT)
    retry.communicate(timeout=60)
    plan = make_here(tmp_path, *settings, "plan").stdout
    assert "goes on from its checkpoint" in plan
    assert "1 interrupted" in plan
    assert "1 interrupted" in make_here(tmp_path, *settings, "status").stdout


# -- provenance ------------------------------------------------------------------------


def test_a_run_is_reproduced_to_the_bit_by_its_record(output):
    run_id = sorted(records(output))[0]
    result = make_here(output, *TWO, f"RUN={run_id}", "reproduce")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "identical: history, final, pruning, weights are equal to the bit" in result.stdout


def test_a_run_that_cannot_be_reproduced_says_from_which_epoch(output):
    run_id = sorted(records(output))[0]
    path = output / "results" / run_id / "result.json"
    record = json.loads(path.read_text())
    record["history"][1]["test_accuracy"] = record["final"]["test_accuracy"] = 0.01
    path.write_text(json.dumps(record))
    result = make_here(output, *TWO, f"RUN={run_id}", "reproduce")
    assert result.returncode != 0
    assert "different: 1.00% and" in result.stdout
    assert "differing from epoch 2 on: test_accuracy by" in result.stdout


def test_a_run_is_repeated_by_its_values_whatever_its_command_means(output):
    run_id = sorted(records(output))[0]
    path = output / "results" / run_id / "result.json"
    record = json.loads(path.read_text())
    record["environment"]["command"] = "rm -rf results"
    path.write_text(json.dumps(record))
    result = make_here(output, *TWO, f"RUN={run_id}", "reproduce")
    assert result.returncode == 0, result.stdout + result.stderr
    assert path.exists()


def test_every_record_is_exported(output):
    result = make_here(output, *TWO, "export")
    assert result.returncode == 0, result.stderr
    with (output / "results" / "export.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["source"] == "run"]
    assert {row["run_id"] for row in rows} == set(records(output))
    for row in rows:
        record = records(output)[row["run_id"]]
        assert float(row["final_test_accuracy"]) == record["final"]["test_accuracy"]
        assert float(row["spec_LR"]) == 0.01


def test_status_tells_what_is_there_when_nothing_runs(output):
    result = make_here(output, *TWO, "SEED=0 1 2", "status")
    assert result.returncode == 0, result.stderr
    assert "2 done" in result.stdout
    assert "1 missing" in result.stdout
