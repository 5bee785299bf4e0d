"""On a real Ray cluster of several nodes on this machine, which are really killed."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from adamwprune.base.errors import UserError
from adamwprune.records import lease
from adamwprune.records.store import Store
from adamwprune.scheduler.executors.ray import Ray
from tests.scheduler.test_cluster import jobs_of, published, trainings
from tests.scheduler.test_pool import Recorder, _wait_for
from tests.support.engines import ON_RAY, driver, driver_elsewhere, kill_agent_of, look_often

pytestmark = ON_RAY


@pytest.fixture(scope="module")
def nodes():
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster as Nodes

    made = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.workers = [made.add_node(num_cpus=1) for _ in range(2)]
    yield made
    import ray

    ray.shutdown()
    made.shutdown()


@pytest.fixture
def engine(nodes, monkeypatch):
    look_often(monkeypatch)
    return Ray(nodes.address, module="benchmarks.fake_cluster")


def test_tasks_of_one_driver_train_all_runs(tmp_path, engine):
    store = Store(tmp_path)
    jobs = jobs_of(store, 6)
    assert len(driver(store, engine, agents=2).run(jobs).done) == 6
    assert published(store, jobs) == [1] * 6


def test_kill_9_of_an_agent_and_of_a_node_lose_nothing(tmp_path, engine, nodes):
    (tmp_path / ".fake-runs").write_text("6 60")
    store = Store(tmp_path)
    jobs = jobs_of(store, 4)
    done = []

    def harm(spec, event):
        if not done and event.get("step", 0) > 10 and kill_agent_of(made, spec):
            done.append("agent")
        elif done == ["agent"] and event.get("step", 0) > 40:
            done.append("node")
            nodes.add_node(num_cpus=1)
            nodes.remove_node(nodes.workers.pop(), allow_graceful=False)

    made = driver(store, engine, Recorder(harm), agents=2)
    assert len(made.run(jobs).done) == 4
    assert done == ["agent", "node"]
    assert published(store, jobs) == [1] * 4
    assert max(len(lease.attempts(job.folder)) for job in jobs) > 1


def test_kill_9_of_the_driver_stops_its_agents_and_make_goes_on(tmp_path, engine):
    (tmp_path / ".fake-runs").write_text("60 600")
    store = Store(tmp_path)
    jobs = jobs_of(store, 2)
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.scheduler.test_ray import *\n"
        "store = Store(Path(sys.argv[1]))\n"
        "ray = Ray(sys.argv[2], module='benchmarks.fake_cluster')\n"
        "driver(store, ray, agents=2).run(jobs_of(store, 2))\n"
    )
    first = driver_elsewhere(script, str(tmp_path), engine.address)
    _wait_for(lambda: all((store.begun(job.spec) or {}).get("step", 0) > 3 for job in jobs))
    first.kill()
    first.wait()
    _wait_for(lambda: {lease.attempts(job.folder)[-1].released for job in jobs} == {"stopped"})
    (tmp_path / ".fake-runs").write_text("0 600")
    assert len(driver(store, engine, agents=2).run(jobs).done) == 2
    assert published(store, jobs) == [1] * 2
    assert all(trainings(store, job)[1]["from"] > 3 for job in jobs)


def test_what_ray_cannot_do_is_said_in_one_line(tmp_path, engine):
    store = Store(tmp_path)
    jobs = jobs_of(store, 1)
    with pytest.raises(UserError, match=r"EXECUTOR=ray: no node of .* has 1 CPU, 0.5 GPU for an a"):
        driver(store, replace(engine, gpus=0.5), agents=2).run(jobs)


def test_a_cluster_that_is_not_there_is_said_in_one_line(tmp_path, monkeypatch):
    import ray

    ray.shutdown()
    with pytest.raises(UserError, match=r"EXECUTOR=ray: RAY_ADDRESS=127.0.0.1:1: ") as told:
        _ = Ray("127.0.0.1:1").cluster
    assert "\n" not in str(told.value)
