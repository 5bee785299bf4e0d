"""On a real Slurm cluster: three nodes on loopback, whose daemons are really killed."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from dataclasses import replace

import pytest

from adamwprune.base.errors import UserError
from adamwprune.records import lease
from adamwprune.records.store import Store
from adamwprune.scheduler.executors.slurm import Slurm
from adamwprune.scheduler.spool import Spool
from benchmarks import fake_cluster
from tests.scheduler.test_cluster import jobs_of, published, trainings
from tests.scheduler.test_pool import Recorder, _wait_for
from tests.support import slurm
from tests.support.engines import (
    ON_SLURM,
    Once,
    driver,
    driver_elsewhere,
    kill_agent_of,
    look_often,
)

pytestmark = ON_SLURM


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as made:
        yield made


@pytest.fixture
def engine(cluster, monkeypatch):
    """Slurm, on a cluster whose nodes are idle."""
    look_often(monkeypatch)
    monkeypatch.setenv("SLURM_CONF", str(cluster.config))
    cluster.wait_for(lambda: set(cluster.states().values()) == {"idle"})
    engine = Slurm(run=fake_cluster.serve)
    yield engine
    cluster.ask("scancel", "--user=root")
    cluster.wait_for(lambda: not cluster.ask("squeue", "--noheader").strip())


def taking(monkeypatch, seconds: float, steps: int) -> None:
    monkeypatch.setenv("FAKE_RUNS", f"{seconds} {steps}")


def test_one_array_job_trains_all_runs(tmp_path, engine, cluster):
    store, recorder = Store(tmp_path), Recorder()
    jobs = jobs_of(store, 9)
    made = driver(store, engine, recorder)
    assert set(made.run(jobs).done) == {job.spec for job in jobs}
    assert published(store, jobs) == [1] * 9
    assert len(made.ids) == 1
    assert recorder.texts == [f"slurm {made.ids[0]}: 3 agents"]
    assert engine.cluster == "loopback"


def test_whoever_submitted_is_killed_and_make_follows_from_another_shell(
    tmp_path, engine, cluster, monkeypatch
):
    taking(monkeypatch, 3, 30)
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.scheduler.test_slurm import *\n"
        "store = Store(Path(sys.argv[1]))\n"
        "driver(store, Slurm(run=fake_cluster.serve)).run(jobs_of(store, 6))\n"
    )
    first = driver_elsewhere(script, str(tmp_path))
    store = Store(tmp_path)
    jobs = jobs_of(store, 6)
    _wait_for(lambda: any(store.is_running(job.spec) for job in jobs))
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = driver(store, engine)
    assert len(second.run(jobs).done) == 6
    assert second.observer.texts[0].endswith("of an earlier make are there and take these runs too")
    assert published(store, jobs) == [1] * 6


def test_kill_9_of_a_node_s_daemons_and_of_the_controller(tmp_path, engine, cluster, monkeypatch):
    """The node goes down, its task is requeued, and the agent on it lives on all the same."""
    taking(monkeypatch, 16, 80)
    store = Store(tmp_path)
    jobs = jobs_of(store, 6)
    done: list[str] = []

    def harm(spec, event):
        if not done and event.get("step", 0) > 3:
            done.append("node")
            assert cluster.steps_on("n1")
            cluster.kill_node("n1")
        elif len(done) == 1:
            cluster.wait_for(lambda: cluster.states()["n1"].startswith("down"))
            done.append("controller")
            cluster.kill_controller()
            threading.Timer(4, cluster.start_controller).start()

    made = driver(store, engine, Recorder(harm))
    try:
        outcome = made.run(jobs)
    finally:
        cluster.start_node("n1")
    assert done == ["node", "controller"]
    assert set(outcome.done) == {job.spec for job in jobs}
    assert published(store, jobs) == [1] * 6


def test_an_agent_whose_process_is_killed_is_taken_over_from(
    tmp_path, engine, cluster, monkeypatch
):
    taking(monkeypatch, 4, 40)
    store = Store(tmp_path)
    jobs = jobs_of(store, 3)
    killed = []

    def kill(spec, event):
        if not killed and event.get("step", 0) > 10 and kill_agent_of(made, spec):
            killed.append(spec)

    made = driver(store, engine, Recorder(kill))
    assert len(made.run(jobs).done) == 3
    assert published(store, jobs) == [1] * 3
    (victim,) = [job for job in jobs if job.spec == killed[0]]
    assert trainings(store, victim)[1]["from"] > 10


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        # What Slurm sends a minute before the limit, and what PreemptMode=REQUEUE does.
        (("scancel", "--signal=USR2"), "limit"),
        (("scontrol", "requeue"), "stopped"),
    ],
    ids=["time-limit", "preempted"],
)
def test_an_agent_that_must_go_stops_at_a_checkpoint_and_goes_on_from_the_queue(
    words, outcome, tmp_path, engine, cluster, monkeypatch
):
    taking(monkeypatch, 5, 50)
    store = Store(tmp_path)
    jobs = jobs_of(store, 1)
    told = Once(lambda: cluster.ask(*words, made.ids[0]))
    made = driver(store, engine, Recorder(told), agents=1)
    assert len(made.run(jobs).done) == 1
    assert len(made.ids) == 1, "another job was submitted"
    assert [each.released for each in lease.attempts(jobs[0].folder)] == [outcome, "done"]
    assert trainings(store, jobs[0])[1]["from"] > 10


def test_scancel_stops_at_a_checkpoint_and_make_goes_on(tmp_path, engine, cluster, monkeypatch):
    taking(monkeypatch, 30, 300)
    store = Store(tmp_path)
    jobs = jobs_of(store, 2)

    def cancel():
        made.spool.stop()
        engine.cancel(made.ids)

    made = driver(store, engine, Recorder(Once(cancel, step=3)), agents=2)
    with pytest.raises(UserError, match="make stop has stopped 2 runs"):
        made.run(jobs)
    released = {lease.attempts(job.folder)[-1].released for job in jobs if trained(job)}
    assert released == {"stopped"}
    taking(monkeypatch, 0, 300)
    assert len(driver(store, engine, agents=2).run(jobs).done) == 2


def trained(job) -> bool:
    return (job.folder / fake_cluster.TRAININGS).exists()


def test_a_drained_node_takes_no_more_agents(tmp_path, engine, cluster):
    cluster.ask("scontrol", "update", "nodename=n2", "state=drain", "reason=test")
    try:
        store = Store(tmp_path)
        jobs = jobs_of(store, 4)
        assert len(driver(store, engine).run(jobs).done) == 4
    finally:
        cluster.ask("scontrol", "update", "nodename=n2", "state=resume")


def test_what_slurm_refuses_is_said_in_one_line(tmp_path, engine, monkeypatch):
    store = Store(tmp_path)
    jobs = jobs_of(store, 1)
    with pytest.raises(UserError, match=r"EXECUTOR=slurm: sbatch: .*Invalid partition") as told:
        driver(store, replace(engine, partition="nowhere")).run(jobs)
    assert "\n" not in str(told.value)
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "nowhere.conf"))
    with pytest.raises(UserError, match=r"EXECUTOR=slurm: the cluster does not answer: .+"):
        driver(store, Slurm()).run(jobs)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="there is no sbatch here; make it on a login node"):
        driver(store, Slurm()).run(jobs)


def test_agents_that_end_at_once_are_no_endless_loop(tmp_path, engine):
    store = Store(tmp_path)
    made = driver(store, replace(engine, run=os.path.basename), agents=1)
    with pytest.raises(UserError, match=r"slurm \d+: ended, and no agent of it has written to"):
        made.run(jobs_of(store, 1))
    assert Spool(tmp_path).left()
