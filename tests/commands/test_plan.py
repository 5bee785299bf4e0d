"""make plan says how long what is missing takes, and refuses a device that is not there."""

import pytest

from adamwprune.base.errors import UserError
from adamwprune.commands import plan
from adamwprune.config.sources import Workspace
from adamwprune.experiment.experiment import Experiment
from adamwprune.records.store import Store, publish
from adamwprune.scheduler import devices
from tests.support.records import elsewhere, synthetic

ONE = {"CONFIG": "sgd", "DATASET": "mnist5k", "EPOCHS": "2"}


def test_a_device_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_gpus", dict)
    with pytest.raises(UserError, match="DEVICE=cuda: there is no CUDA device"):
        plan.main(Workspace({**ONE, "O": str(tmp_path), "DEVICE": "cuda"}), None)


def test_the_time_is_estimated_from_records(tmp_path, capsys):
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
