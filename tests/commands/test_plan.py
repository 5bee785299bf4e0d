"""make plan says how long what is missing takes, and refuses a device that is not there."""

from argparse import Namespace
from dataclasses import replace
from types import SimpleNamespace

import pytest

from adamwprune.base.errors import UserError
from adamwprune.commands import matrix, plan, status
from adamwprune.config.sources import Workspace
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.launch import Launch
from adamwprune.progress import steps
from adamwprune.records.store import Store, publish
from adamwprune.scheduler import devices
from tests.support.records import elsewhere, synthetic

ONE = {"CONFIG": "sgd", "DATASET": "mnist5k", "EPOCHS": "2"}


def test_a_device_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_gpus", dict)
    with pytest.raises(UserError, match="DEVICE=cuda: there is no CUDA device"):
        plan.main(Workspace({**ONE, "O": str(tmp_path), "DEVICE": "cuda"}), None)


def test_the_time_is_estimated_from_records(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(steps, "_STEP", SimpleNamespace(known=lambda values: None, of=_no_answer))
    workspace = Workspace({**ONE, "O": str(tmp_path), "SEED": "0 1 2", "DEVICE": "cpu"})
    plan.main(workspace, None)
    assert capsys.readouterr().out.splitlines()[-1] == "eta     not known yet"
    experiment = Experiment.load(workspace)
    first = experiment.matrix.specs[0]
    folder = Store(experiment.root).folder(first)
    folder.mkdir(parents=True)
    publish(folder, elsewhere(synthetic(first), host="here"))
    plan.main(workspace, None)
    assert "if make starts now" in capsys.readouterr().out.splitlines()[-1]


def test_what_a_cluster_costs_is_estimated_for_its_agents_and_not_for_this_machine(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(devices, "_gpus", dict)
    seeds = " ".join(map(str, range(8)))
    on_slurm = {"EXECUTOR": "slurm", "AGENTS": "4", "AGENT_CPUS": "2", "JOBS": "1"}
    given = {**ONE, "O": str(tmp_path), "SEED": seeds, **on_slurm}
    experiment = Experiment.load(Workspace(given))
    first = experiment.matrix.specs[0]
    folder = Store(experiment.root).folder(first)
    folder.mkdir(parents=True)
    record = elsewhere(synthetic(first), host="a node", device="cuda:0", threads=2)
    hours = {"total": 7200.0, "train": 7200.0, "setup": 0.0}
    publish(folder, replace(record, seconds=hours))

    def planned(**more: str) -> tuple[str, ...]:
        plan.main(Workspace({**given, **more}), None)
        return tuple(capsys.readouterr().out.splitlines()[-2:])

    eta, cost = planned(AGENT_GPUS="0.5", DEVICE="cuda")  # a login node has no GPU
    # 8 runs, one of which has a record of other code; 4 at a time.
    assert eta.startswith("eta     4:00:06 (P90 ")
    assert eta.endswith("if make starts now, 4 at a time")
    assert cost.startswith("cost    8 GPU hours (P90 ")  # 4 agents x 0.5 GPU x 4 hours
    assert cost.endswith("4 agents with 0.5 GPU")
    assert planned()[-1] == "eta     not known yet"  # on CPUs
    publish(folder, replace(elsewhere(record, device="cpu"), seconds=hours))
    eta, cost = planned()
    assert eta.startswith("eta     4:00:06 (P90 ")
    assert cost.startswith("cost    32 core hours (P90 ")
    assert cost.endswith("4 agents with 2 cores")
    status.main(Workspace(given), None)
    assert tuple(capsys.readouterr().out.splitlines()[-2:]) == (eta, cost)
    with pytest.raises(UserError, match="THREADS=3: an agent has AGENT_CPUS=2"):
        planned(THREADS="3")
    status.main(Workspace({**given, "THREADS": "3"}), None)
    assert capsys.readouterr().out.splitlines()[-1] == "eta     not known yet"


def _no_answer(values):
    raise UserError("no such network")


def test_without_records_it_is_estimated_from_a_step(tmp_path, capsys, monkeypatch):
    asked = []
    answers = SimpleNamespace(
        known=lambda values: None, of=lambda values: asked.append(values) or {"seconds": 2.0}
    )
    monkeypatch.setattr(steps, "_STEP", answers)
    plan.main(Workspace({**ONE, "O": str(tmp_path), "DEVICE": "cpu", "JOBS": "1"}), None)
    *_, step, eta = capsys.readouterr().out.splitlines()
    assert step == "step    lenet5 on mnist5k, batch 64: 2 s, measured on cpu"
    assert eta.startswith("eta     5:21 "), "126 steps of 2 s and a quarter, and the start"
    assert len(asked) == 1


def test_the_time_is_told_before_anything_is_trained(tmp_path, capsys, monkeypatch):
    """memory-comparison measures a step; a plain make says what is known without."""
    known = {}
    answers = SimpleNamespace(
        known=lambda values: known.get("it"),
        of=lambda values: known.setdefault("it", {"seconds": 1.0}),
    )
    monkeypatch.setattr(steps, "_STEP", answers)
    told = []
    monkeypatch.setattr(Launch, "train", lambda *own, **how: told.append(capsys.readouterr().out))
    workspace = Workspace({**ONE, "O": str(tmp_path), "DEVICE": "cpu", "JOBS": "1"})
    for memory in (False, True, False):
        given = Namespace(defconfig="", choose=Catalogue.missing, report=False, memory=memory)
        matrix.main(workspace, given)
    assert ["eta " in each for each in told] == [False, True, True]
    assert "step    lenet5 on mnist5k, batch 64: 1 s," in told[1]
