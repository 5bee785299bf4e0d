"""Which devices there are and how many runs each takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adamwprune.base import subprocesses
from adamwprune.base.errors import UserError
from adamwprune.scheduler import devices
from adamwprune.scheduler.devices import Machine, Slot, limits, slots

CPU8 = Machine(8)
GPUS = Machine(8, {"cuda:0": 1 << 30, "cuda:1": 1 << 30})


def test_slots_share_the_cores_out():
    assert slots(CPU8, 0, 0, 100) == [Slot("cpu", 1)] * 8
    assert slots(CPU8, 0, 0, 3) == [Slot("cpu", 2)] * 3
    assert slots(CPU8, 2, 0, 100) == [Slot("cpu", 4)] * 2
    assert slots(CPU8, 0, 0, 1) == [Slot("cpu", 8)]
    assert slots(CPU8, 0, 3, 100) == [Slot("cpu", 3)] * 2
    assert slots(CPU8, 5, 2, 100) == [Slot("cpu", 2)] * 4


@given(
    cores=st.integers(1, 64),
    jobs=st.integers(0, 200),
    threads=st.integers(0, 64),
    runs=st.integers(1, 500),
)
def test_jobs_times_threads_never_exceed_the_cores(cores, jobs, threads, runs):
    if threads > cores:
        with pytest.raises(UserError, match=f"THREADS={threads}: this machine has {cores} core"):
            slots(Machine(cores), jobs, threads, runs)
        return
    found = slots(Machine(cores), jobs, threads, runs)
    assert 1 <= len(found) <= runs
    assert sum(slot.threads for slot in found) <= cores
    if threads:
        assert {slot.threads for slot in found} == {threads}
    limited = len(found) < min(jobs, runs)
    assert not limited or devices.limits(Machine(cores), jobs, threads)


def test_more_jobs_than_cores_are_told():
    assert devices.limits(Machine(2), 5, 0) == ["JOBS=5: 2 cores run 2 at a time"]
    assert devices.limits(Machine(4), 5, 2) == ["JOBS=5: 4 cores run 2 at a time"]
    assert devices.limits(Machine(4), 2, 2) == []
    assert devices.limits(GPUS, 50, 0) == []


def test_slots_spread_runs_over_gpus():
    assert [s.device for s in slots(GPUS, 0, 0, 9)] == ["cuda:0", "cuda:1"] * 2  # 8 cores
    assert [s.device for s in slots(replace(GPUS, cores=64), 0, 0, 9)] == ["cuda:0", "cuda:1"] * 4
    assert [s.device for s in slots(replace(GPUS, cores=1), 0, 0, 9)] == ["cuda:0", "cuda:1"]
    assert [s.device for s in slots(GPUS, 2, 0, 3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert {s.threads for s in slots(GPUS, 2, 0, 9)} == {2}


def test_ranks_of_a_run_have_a_gpu_each_or_their_share_of_the_cores():
    four = Machine(16, {f"cuda:{i}": 1 for i in range(5)})
    assert slots(four, 0, 0, 9, ranks=2) == [Slot("cuda:0", 4, 2), Slot("cuda:2", 4, 2)]
    assert slots(four, 0, 3, 1, ranks=4) == [Slot("cuda:0", 3, 4)]
    with pytest.raises(UserError, match="RANKS=6: there are 5 GPUs here"):
        slots(four, 0, 0, 1, ranks=6)
    cpu = Machine(8)
    assert slots(cpu, 0, 0, 9, ranks=2) == [Slot("cpu", 1, 2)] * 4
    assert slots(cpu, 1, 0, 9, ranks=4) == [Slot("cpu", 2, 4)]
    assert slots(cpu, 0, 3, 9, ranks=2) == [Slot("cpu", 3, 2)]
    with pytest.raises(UserError, match="RANKS=3, THREADS=3: this machine has 8 cores"):
        slots(cpu, 0, 3, 9, ranks=3)
    with pytest.raises(UserError, match="RANKS=9: this machine has 8 cores"):
        slots(cpu, 0, 0, 9, ranks=9)
    assert limits(cpu, 3, 2, ranks=2) == ["JOBS=3: 8 cores run 2 at a time"]
    assert Slot("cpu", 1, 2).words == "cpu, 2 ranks of 1 thread"
    assert Slot("cuda:0", 4).words == "cuda:0, 4 threads"


def test_a_driver_is_asked_and_torch_where_it_does_not_answer(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    asked = []
    answers = {devices._QUESTION: {"cuda:0": 5}, devices._QUESTION_TO_TORCH: {"cuda:0": 7}}
    monkeypatch.setattr(devices, "_answer", lambda it: asked.append(it) or answers[it])
    assert devices._gpus() == {"cuda:0": 5}
    answers[devices._QUESTION] = {}
    assert devices._gpus() == {"cuda:0": 7}
    assert asked == [devices._QUESTION, devices._QUESTION, devices._QUESTION_TO_TORCH]


def test_a_machine_without_a_driver_has_no_gpus():
    if devices._answer(devices._QUESTION_TO_TORCH):
        pytest.skip("there is a GPU")
    assert devices._answer(devices._QUESTION) == {}


def test_what_there_is(monkeypatch):
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(devices, "_gpus", dict)
    assert devices.machine("auto") == CPU8
    with pytest.raises(UserError, match="no CUDA device"):
        devices.machine("cuda")
    monkeypatch.setattr(devices, "_gpus", lambda: dict(GPUS.gpus))
    assert devices.machine("auto") == devices.machine("cuda") == GPUS
    assert devices.machine("cpu") == CPU8


@pytest.mark.parametrize("threads", [1, 2, 64])
def test_threads_sleep_soon_while_they_wait_also_where_a_run_has_all_cores(threads, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    waiting = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
    in_process, child = devices.environment(threads), subprocesses.environment(Path("/lib"))
    assert waiting.items() <= in_process.items()
    assert waiting.items() <= child.items()
    assert in_process["OMP_NUM_THREADS"] == str(threads)
