"""``make EXECUTOR=slurm`` on a real cluster, whose controller is killed, as is make itself.

And what is said where there is no cluster.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adamwprune.records import lease
from adamwprune.records.store import RESULT
from tests.support import slurm
from tests.support.commands import ROOT, environment, make_here, refused
from tests.support.engines import ON_RAY, ON_SLURM, on

SMALL = ("CONFIG=quickstart", "DATASET=mnist5k", "EPOCHS=20", "BATCH_SIZE=256", "OPTIMIZER=adamw",
         "PRUNING_METHOD=none movement", "TARGET_SPARSITY=0.7", "PRUNING_WARMUP=3",
         "PRUNING_INTERVAL=4", "THREADS=1", "DEVICE=cpu")  # fmt: skip
THERE = ("EXECUTOR=slurm", "AGENTS=2", "LEASE_SECONDS=5", "CHECKPOINT_SECONDS=0")


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    with slurm.cluster(tmp_path) as made:
        monkeypatch.setenv("SLURM_CONF", str(made.config))
        yield made


def started(output: Path, *words: str) -> subprocess.Popen[bytes]:
    """make in a process group of its own; it says what it does in a file."""
    with (output / "said").open("ab") as said:
        return subprocess.Popen(
            ["make", f"PYTHON={sys.executable}", "VENV=", f"O={output}", *words, "matrix"],
            cwd=ROOT, env=environment(), stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip


def wait_for(condition: Callable[[], bool], output: Path) -> None:
    """Poll; a machine may be slow, so only a hang fails."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, (output / "said").read_text()
        time.sleep(0.1)


def steps(output: Path) -> list[int]:
    """How far each run is that has begun."""
    found = [path.read_text() for path in output.glob("results/*/progress.json")]
    return [json.loads(text).get("step", 0) for text in found]


def releases(output: Path) -> set[str | None]:
    return {lease.attempts(path)[-1].released for path in output.glob("results/lenet5*")}


@on(ON_SLURM)
def test_make_on_slurm_survives_make_s_death_and_the_controller_s(cluster, tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    first = started(output, *SMALL, *THERE)
    wait_for(lambda: len(steps(output)) == 2 and min(steps(output)) > 0, output)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    cluster.kill_controller()
    before = steps(output)
    wait_for(
        lambda: all(now > then for now, then in zip(steps(output), before, strict=True)), output
    )
    assert "2 runs: 2 running" in make_here(output, *SMALL, "status").stdout
    stopped = make_here(output, *SMALL, "stop")
    assert stopped.returncode == 0, stopped.stderr
    assert "slurm 1: the agents stop their runs at a checkpoint; make goes on" in stopped.stdout
    assert "slurm 1: what waits in the queue stays there, and ends as it starts" in stopped.stdout
    wait_for(lambda: releases(output) == {"stopped"}, output)
    assert "2 runs: 2 interrupted" in make_here(output, *SMALL, "status").stdout
    assert "nothing to train" not in (output / "said").read_text()
    cluster.start_controller()
    cluster.wait_for(lambda: set(cluster.states().values()) == {"idle"})
    last = started(output, *SMALL, *THERE)
    assert last.wait(300) == 0, (output / "said").read_text()
    assert "[2/2] done" in (output / "said").read_text()
    assert releases(output) == {"done"}
    # The bits are those of runs that this machine trained without a break.
    here = tmp_path / "here"
    here.mkdir()
    assert started(here, *SMALL).wait(300) == 0
    theirs, ours = (weights(place) for place in (output, here))
    assert len(ours) == 2
    assert theirs == ours


def weights(output: Path) -> dict[str, str]:
    """The digest of each run's weights."""
    records = [json.loads(path.read_text()) for path in output.glob(f"results/*/{RESULT}")]
    return {record["run_id"]: record["weights"] for record in records}


def error_of(output: Path, *words: str) -> str:
    """The one line that says what is wrong."""
    told = refused(make_here(output, *SMALL, *words, "matrix"))
    (line,) = [line for line in told.splitlines() if "error: " in line]
    assert told.rstrip().endswith(line)
    assert not (output / "results/.cluster").exists(), "something was handed over"
    return line


def test_stop_says_that_nothing_trains(tmp_path):
    told = make_here(tmp_path, *SMALL, "stop")
    assert told.stdout == f"nothing is training into {tmp_path}/results\n"


def test_stop_asks_the_make_on_this_machine(tmp_path):
    script = (
        "import sys, time; from pathlib import Path\n"
        "from adamwprune.records.store import Store\n"
        "with Store(Path(sys.argv[1])).locked(print):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    root = str(tmp_path / "results")
    words = [sys.executable, "-c", script, root]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        told = make_here(tmp_path, *SMALL, "stop")
        asked = f"make (process {holder.pid}) was asked to stop its runs at a checkpoint\n"
        assert told.stdout == asked
        assert holder.wait(60) == -signal.SIGTERM
    assert make_here(tmp_path, *SMALL, "stop").stdout.startswith("nothing is training")


def test_an_absent_slurm_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    line = error_of(tmp_path, "EXECUTOR=slurm")
    assert line == "error: EXECUTOR=slurm: there is no sbatch here; make it on a login node"


@pytest.mark.parametrize(("engine", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_an_engine_that_is_not_installed_is_said_in_one_line(
    tmp_path, monkeypatch, engine, package
):
    (tmp_path / "sbatch").touch(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setitem(sys.modules, package, None)
    line = error_of(tmp_path, f"EXECUTOR={engine}")
    told = f"EXECUTOR={engine} needs {package}: pip install 'adamwprune[{engine}]', or {package}"
    assert line == f"error: {told}"


@on(ON_RAY)
def test_an_absent_ray_cluster_is_said_in_one_line(tmp_path):
    line = error_of(tmp_path, "EXECUTOR=ray", "RAY_ADDRESS=127.0.0.1:1")
    assert line == "error: EXECUTOR=ray: RAY_ADDRESS=127.0.0.1:1: Connection refused"
    line = error_of(tmp_path, "EXECUTOR=ray")
    assert line.startswith("error: EXECUTOR=ray: RAY_ADDRESS=auto: Could not find any running Ray")
