"""make plan says how long what is missing takes, and refuses a device that is not there."""

from types import SimpleNamespace

import pytest

from adamwprune.base.errors import UserError
from adamwprune.commands import plan
from adamwprune.config.sources import Workspace
from adamwprune.experiment.experiment import Experiment
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
    assert step == "step    lenet5 on mnist5k, batch 64: 2e+03 ms, measured on cpu"
    assert eta.startswith("eta     5:21 "), "126 steps of 2 s and a quarter, and the start"
    assert len(asked) == 1
