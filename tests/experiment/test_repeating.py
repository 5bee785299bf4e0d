"""The command that a record holds repeats its run, and needs no word more."""

from __future__ import annotations

import shlex

import pytest

from adamwprune.base import registry
from adamwprune.config import flags, sources, strict
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree
from adamwprune.experiment.experiment import Experiment
from adamwprune.plan.matrix import configs_of, expand

OPERATIONAL = {
    **{"DEVICE": "cpu", "JOBS": "2", "THREADS": "1", "SHARE_GPUS": "n", "RETRIES": "3"},
    **{"CHECKPOINT_SECONDS": "7", "FAIL_FAST": "y", "TRACKER_TENSORBOARD": "y"},
    **{"DATA_DIR": "/data", "RESULTS_DIR": "/runs"},
}


def test_every_operational_setting_is_tried() -> None:
    tree = Tree()
    names = {name for name in tree.setting_names if tree.is_operational(name)}
    trackers = {name for name in names if name.startswith("TRACKER_")}
    assert names == {*OPERATIONAL, *trackers}


@pytest.mark.parametrize("root", [None, registry.PACKAGE], ids=["tree", "installed"])
@pytest.mark.parametrize("names", [(), *((name,) for name in OPERATIONAL), tuple(OPERATIONAL)])
def test_the_command_of_a_record_runs_as_it_stands(names, root, monkeypatch) -> None:
    """Whatever operational settings were given, it means the run and nothing else."""
    given = {name: OPERATIONAL[name] for name in names}
    experiment = Experiment.load(Workspace({"CONFIG": "adamw-magnitude-90", **given}))
    (cell,) = experiment.matrix.cells
    minimal, _ = configs_of(experiment.tree, cell)
    if root is not None:
        monkeypatch.setattr(experiment.tree, "root", root)
    program, *words = shlex.split(
        sources.placed(sources.repeat_command(experiment.tree, minimal), "cpu", 2)
    )
    if program == "python":
        assert words.pop(0) == "train.py"
        repeated = Tree()
        found = flags.parse(repeated, words, "").settings
        strict.apply(repeated, strict.command_line(repeated, found, "test"))
    else:
        assert words.pop(0) == "train"
        repeated = Experiment.load(Workspace(dict(word.split("=", 1) for word in words))).tree
    assert expand(repeated).specs == [cell.spec]
    assert (repeated.text("THREADS"), repeated.selected("DEVICE")) == ("2", ["cpu"])
