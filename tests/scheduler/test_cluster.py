"""Agents that share runs: real processes, really killed, whose runs compute nothing."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from dataclasses import replace

import pytest

from adamwprune.base.errors import UserError
from adamwprune.plan.job import Job
from adamwprune.records import lease
from adamwprune.records.code import Sources
from adamwprune.records.store import Store
from adamwprune.scheduler import agent, cluster, engines, spool
from adamwprune.scheduler.cluster import Cluster
from adamwprune.scheduler.executors.slurm import Slurm
from adamwprune.scheduler.spool import Settings, Spool
from benchmarks.fake_cluster import TRAININGS, Processes, trainer
from tests.scheduler.test_pool import Recorder
from tests.support.runs import specs

SETTINGS = Settings(device="cpu", jobs=1, lease_seconds=1.0, versions=spool.versions())


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    for name, value in {"LOOK": 0.05, "ASK": 0.1, "END": 20.0}.items():
        monkeypatch.setattr(cluster, name, value)


@pytest.fixture
def engine():
    engine = Processes()
    yield engine
    engine.close()


def jobs_of(store: Store, count: int, **settings: str) -> list[Job]:
    seeds = " ".join(map(str, range(count)))
    return [
        Job(spec, store.folder(spec), store.root / "data")
        for spec in specs(SEED=seeds, EPOCHS="1", **settings)
    ]


def driver(store: Store, engine, agents: int = 2, recorder=None, **settings) -> Cluster:
    recorder = recorder or Recorder()
    return Cluster(store, engine, agents, replace(SETTINGS, **settings), recorder)


def add(places: Spool, job: Job) -> None:
    """Submit a run by the code that is here."""
    places.add(job, Sources().of(job.spec).digest)


def trainings(store: Store, job: Job) -> list[dict]:
    """What the attempts at a run noted."""
    path = store.folder(job.spec) / TRAININGS
    return [json.loads(line) for line in path.read_text().splitlines()]


def published(store: Store, jobs: list[Job]) -> list[int]:
    """How often each run was published."""
    return [sum("published" in line for line in trainings(store, job)) for job in jobs]


def test_agents_share_the_runs_and_each_is_trained_once(tmp_path, engine):
    store, recorder = Store(tmp_path), Recorder()
    jobs = jobs_of(store, 12)
    outcome = driver(store, engine, 3, recorder).run(jobs)
    assert set(outcome.done) == {job.spec for job in jobs}
    assert not outcome.failed
    assert {status for _, status in recorder.finished} == {"done"}
    assert [len(trainings(store, job)) for job in jobs] == [2] * 12
    assert Spool(tmp_path).left() == []
    hosts = {store.result(job.spec).environment["attempt"] for job in jobs}
    assert hosts == {"1"}
    # Nothing is begun anew: there is nothing left.
    engine.close()
    for job in jobs:  # an agent may have taken one that another had just finished
        done, *others = (attempt.released for attempt in lease.attempts(job.folder))
        assert done == "done"
        assert set(others) <= {"none was needed"}


@pytest.mark.slow
def test_agents_that_are_killed_at_any_moment_lose_no_run_and_none_counts_twice(tmp_path, engine):
    """Rounds of kill -9 and of suspended agents that wake after they were taken over."""
    draw = random.Random(7)
    store, recorder = Store(tmp_path), Recorder()
    engine.seconds, engine.steps = 1.5, 30
    jobs = jobs_of(store, 32)
    made = driver(store, engine, 4, recorder, retries=9)
    counts = {"killed": 0, "suspended": 0}

    def midway() -> list[int]:
        """The processes of agents that are in the middle of a run."""
        specs = {job.spec.run_id: job.spec for job in jobs}
        runs = {each["runs"][0]: each["pid"] for each in made.spool.agents() if each["runs"]}
        steps = {run: (store.progress(specs[run]) or {}).get("step", 0) for run in runs}
        return [pid for run, pid in runs.items() if 3 < steps[run] < 20]

    def harm():
        harmed = set()
        while made.specs and counts["killed"] < 5:
            time.sleep(0.05)
            alive = {each.pid: each for each in engine.agents if each.poll() is None}
            working = [pid for pid in midway() if pid in alive and pid not in harmed]
            if not working:
                continue
            victim = alive[draw.choice(working)]
            harmed.add(victim.pid)
            if counts["suspended"] < counts["killed"]:
                counts["suspended"] += 1
                victim.send_signal(signal.SIGSTOP)
                threading.Timer(2.5, victim.send_signal, [signal.SIGCONT]).start()
            else:
                counts["killed"] += 1
                victim.kill()
                engine.start(tmp_path)
            time.sleep(0.5)

    made.specs = {job.spec.run_id: job.spec for job in jobs}
    thread = threading.Thread(target=harm, daemon=True)
    thread.start()
    outcome = made.run(jobs)
    thread.join()
    assert set(outcome.done) == {job.spec for job in jobs}
    assert published(store, jobs) == [1] * 32
    assert counts["killed"] >= 3
    assert counts["suspended"] >= 2
    resumed = [line for job in jobs for line in trainings(store, job) if line.get("from")]
    assert len(resumed) >= 3, "the harm came too early or too late"


def test_whoever_submitted_may_go_and_another_make_follows(tmp_path, engine):
    store = Store(tmp_path)
    jobs = jobs_of(store, 6)
    engine.seconds, engine.outlives = 0.3, True
    first = driver(store, engine)
    first.make_has_gone = lambda: True
    with pytest.raises(KeyboardInterrupt):
        first.run(jobs)
    assert first.observer.texts == [
        "fake 2: 2 agents",
        "the runs go on without this make: make status shows them, make follows them again, "
        "make stop stops them",
    ]
    second = driver(store, engine)
    assert len(second.run(jobs).done) == 6
    assert second.observer.texts == [
        "fake 2: 2 agents of an earlier make are there and take these runs too"
    ]
    assert published(store, jobs) == [1] * 6


def test_stop_ends_the_agents_at_a_checkpoint_and_make_goes_on(tmp_path, engine, monkeypatch):
    monkeypatch.setattr(agent, "LOOK", 0.1)
    store = Store(tmp_path)
    jobs = jobs_of(store, 2)
    engine.seconds, engine.steps = 60, 600

    def stop(spec, event):
        if event.get("step", 0) > 1:
            made.spool.stop()

    made = driver(store, engine, recorder=Recorder(stop))
    with pytest.raises(UserError, match="make stop has stopped 2 runs"):
        made.run(jobs)
    assert {lease.attempts(job.folder)[-1].released for job in jobs} == {"stopped"}
    engine.seconds = 0.0
    assert len(driver(store, engine).run(jobs).done) == 2
    assert all(trainings(store, job)[1]["from"] > 0 for job in jobs)


def test_a_driver_whose_agents_end_with_it_stops_them_first(tmp_path, engine):
    store = Store(tmp_path)
    jobs = jobs_of(store, 2)
    engine.seconds, engine.steps = 60, 600
    made = driver(store, engine)
    made.make_has_gone = lambda: bool(made.running)
    with pytest.raises(KeyboardInterrupt):
        made.run(jobs)
    ends = {process.wait(60) for process in engine.agents}
    assert ends <= {0, -signal.SIGTERM}  # one that had just been started
    released = {lease.attempts(job.folder)[-1].released for job in jobs}
    assert released <= {"stopped", *([None] if -signal.SIGTERM in ends else [])}


def test_a_run_whose_agents_keep_dying_at_the_same_step_has_failed(tmp_path, monkeypatch):
    store = Store(tmp_path)
    (job,) = jobs_of(store, 1)
    places = Spool(tmp_path)
    places.begin(anew=True)
    places.write_settings(replace(SETTINGS, lease_seconds=0.01))
    add(places, job)
    for host in "ab":
        taken = None
        while taken is None:
            time.sleep(0.02)
            taken = taken or LEASES[host].take(job.folder, step=0, host=host)
    monkeypatch.setattr(agent, "LOOK", 0.02)
    assert agent.serve(str(tmp_path), trainer(0.0, 1)) == "done"
    result = store.result(job.spec)
    assert result.status == "failed"
    assert "2 attempts died at step 0 without a word" in result.error
    assert "a, process" in result.error
    assert "b, process" in result.error
    assert places.left() == []


LEASES = {host: lease.Leases(duration=0.01) for host in "ab"}


# -- what is wrong is said in one line -----------------------------------------------------


def test_a_directory_that_the_nodes_do_not_share_is_said(tmp_path, engine):
    with pytest.raises(UserError, match="is not there; the directory of results must be the same"):
        agent.serve(str(tmp_path / "elsewhere"))
    store, start = Store(tmp_path / "here"), engine.start
    engine.start = lambda root: start(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"no agent of it has written to .*: is the directory shar"):
        driver(store, engine).run(jobs_of(store, 1))


def run_until_stopped(made: Cluster, jobs: list[Job]) -> None:
    with pytest.raises(UserError, match="make stop has stopped"):
        made.run(jobs)


def test_a_second_cluster_on_one_directory_is_refused(tmp_path, engine):
    store = Store(tmp_path)
    jobs = jobs_of(store, 1)
    engine.seconds, engine.steps = 60, 600

    first = driver(store, engine)
    thread = threading.Thread(target=run_until_stopped, args=[first, jobs], daemon=True)
    thread.start()
    end = time.monotonic() + 60
    while not first.running:
        assert time.monotonic() < end
        time.sleep(0.05)
    with pytest.raises(UserError, match=r"fake cluster here is training into it; make stop ends"):
        driver(store, Processes(cluster="there")).run(jobs)
    first.spool.stop()
    thread.join(60)


def test_a_cluster_beside_another_whose_agents_wait_is_refused(tmp_path, engine, monkeypatch):
    places = Spool(tmp_path)
    places.begin(anew=True)
    places.write_engine({"engine": "slurm", "cluster": "debug", "ids": ["7"], "agents": 3})
    asked = []
    monkeypatch.setattr(Slurm, "alive", lambda self, ids: asked.append(ids) or 3)
    engines.refuse_another(places, engine)  # nothing is left to train
    places.add(jobs_of(Store(tmp_path), 1)[0], "0123")
    engines.refuse_another(places, Slurm())  # its own agents take these runs too
    assert not asked
    with pytest.raises(UserError, match="3 agents of slurm cluster debug may still come to train"):
        engines.refuse_another(places, engine)
    assert asked == [["7"]]
    monkeypatch.setattr(Slurm, "alive", lambda self, ids: None)  # it cannot be asked from here
    engines.refuse_another(places, engine)


def test_code_that_is_not_what_was_submitted_trains_nothing(tmp_path, engine):
    store = Store(tmp_path)
    jobs = jobs_of(store, 1)
    places = Spool(tmp_path)
    places.begin(anew=True)
    places.write_settings(SETTINGS)
    places.add(jobs[0], "0123")
    with pytest.raises(UserError, match="the code here is not what was submitted; make submits"):
        agent.serve(str(tmp_path), trainer(0.0, 1))
    (told,) = places.agents()
    assert told["state"] == "refused"
    assert "not what was submitted" in told["why"]
    assert not (store.folder(jobs[0].spec) / lease.FOLDER).exists()


def test_a_node_with_another_torch_is_named_and_its_runs_marked(tmp_path, monkeypatch):
    store = Store(tmp_path)
    (job,) = jobs_of(store, 1)
    places = Spool(tmp_path)
    places.begin(anew=True)
    places.write_settings(replace(SETTINGS, versions={**spool.versions(), "torch": "1.0"}))
    add(places, job)
    monkeypatch.setattr(time, "time", lambda: 3600.0 + REAL())
    agent.serve(str(tmp_path), trainer(0.0, 1))
    (told,) = places.agents()
    (_, versions), (_, clock) = told["notes"]
    assert "1.0 there: its runs' records say so" in versions
    assert "its clock is 60 min ahead of the file server's" in clock
    assert "torch" in store.result(job.spec).environment["other_versions"]


REAL = time.time
