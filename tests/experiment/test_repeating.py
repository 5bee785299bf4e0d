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
    **{"DEVICE": "cpu", "JOBS": "2", "THREADS": "1", "RANKS": "2", "SHARD": "y"},
    **{"SHARE_GPUS": "n", "RETRIES": "3"},
    **{"CHECKPOINT_SECONDS": "7", "FAIL_FAST": "y", "TRACKER_TENSORBOARD": "y"},
    **{"DATA_DIR": "/data", "RESULTS_DIR": "/runs"},
}
AGENTS = {"AGENTS": "3", "AGENT_CPUS": "4", "AGENT_GPUS": "0.5", "AGENT_MEMORY": "8G"}
SLURM = {"SLURM_PARTITION": "short", "SLURM_MINUTES": "30", "SLURM_ACCOUNT": "ours"}
CLUSTERS = (
    {"EXECUTOR": "slurm", **AGENTS, "LEASE_SECONDS": "90", **SLURM, "SLURM_OPTIONS": "qos=low"},
    {"EXECUTOR": "ray", **AGENTS, "RAY_ADDRESS": "head:6379"},
)


def test_every_operational_setting_is_tried() -> None:
    tree = Tree()
    names = {name for name in tree.setting_names if tree.is_operational(name)}
    trackers = {name for name in names if name.startswith("TRACKER_")}
    assert names == {*OPERATIONAL, *trackers}.union(*CLUSTERS)


@pytest.mark.parametrize("root", [None, registry.PACKAGE], ids=["tree", "installed"])
@pytest.mark.parametrize(
    "given",
    [{}, *({name: value} for name, value in OPERATIONAL.items()), OPERATIONAL, *CLUSTERS],
    ids=" ".join,
)
def test_the_command_of_a_record_runs_as_it_stands(given, root, monkeypatch) -> None:
    """Whatever operational settings were given, it means the run and nothing else."""
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
