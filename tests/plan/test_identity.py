"""What a run's identity depends on, and what may change without making old records void."""

from __future__ import annotations

import json

import pytest

from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.plan import spec as specs
from adamwprune.plan.lineage import NEUTRAL, RENAMED
from adamwprune.plan.matrix import expand
from adamwprune.plan.spec import RunSpec
from adamwprune.records.published import read_published
from adamwprune.records.record import RunResult
from adamwprune.records.store import Store, prepare, publish
from tests.support.records import LEAST


def of(**settings: str) -> RunSpec:
    """The one run of the tree's defaults and these settings."""
    tree = Tree()
    strict.apply(tree, strict.command_line(tree, settings, "test"))
    (spec,) = expand(tree).specs
    return spec


def record(spec: RunSpec) -> RunResult:
    return RunResult(spec.run_id, "done", spec, **LEAST)


def test_equal_values_have_one_identity_however_they_are_written():
    assert of(LR="1e-3").run_id == of(LR="0.001").run_id == of(LR="0.0010").run_id
    assert of(LR="1e-3").run_id != of(LR="2e-3").run_id
    assert of(SEED="+1").run_id == of(SEED="1").run_id


OPERATIONAL = {
    "DATA_DIR": "elsewhere",
    "JOBS": "7",
    "SHARE_GPUS": "n",
    "THREADS": "3",
    "RANKS": "2",
    "SHARD": "y",
    "CHECKPOINT_SECONDS": "5",
    "RETRIES": "9",
    "FAIL_FAST": "y",
    "RESULTS_DIR": "x",
    "DEVICE": "cpu",
    "TRACKER_TENSORBOARD": "y",
    "TRACKER_WANDB": "y",
    "TRACKER_TRACKIO": "y",
}


ON_A_CLUSTER = (
    {"EXECUTOR": "slurm", "AGENTS": "3", "AGENT_CPUS": "4", "AGENT_GPUS": "0.5"},
    {"EXECUTOR": "slurm", "AGENT_MEMORY": "8G", "LEASE_SECONDS": "90", "SLURM_MINUTES": "30"},
    {"EXECUTOR": "slurm", "SLURM_PARTITION": "a", "SLURM_ACCOUNT": "b", "SLURM_OPTIONS": "qos=c"},
    {"EXECUTOR": "ray", "RAY_ADDRESS": "head:6379"},
)


@pytest.mark.parametrize(
    "settings", [*({name: value} for name, value in OPERATIONAL.items()), *ON_A_CLUSTER]
)
def test_how_and_where_to_run_is_no_part_of_it(settings):
    assert of(**settings).run_id == of().run_id


def test_that_is_all_that_is_operational():
    tree = Tree()
    names = [*tree.options, *tree.families]
    found = {name for name in names if tree.is_operational(name)}
    assert found == {*OPERATIONAL}.union(*ON_A_CLUSTER)


def test_the_data_and_the_form_of_the_record_are(monkeypatch):
    spec = of()
    other = RunSpec({**spec.values, "DATASET_DIGEST": "0" * 16})
    assert other.run_id != spec.run_id
    monkeypatch.setattr(specs, "SCHEMA", 2)
    assert RunSpec(spec.values).run_id != spec.run_id


def test_a_new_symbol_that_means_the_old_behaviour_keeps_old_records(tmp_path, monkeypatch):
    old, store = of(), Store(tmp_path)
    publish(prepare(store.folder(old), old), record(old))
    new = RunSpec({**old.values, "SHARPNESS": 0.0})
    assert store.result(new) is None, "without a neutral value every record would be void"

    monkeypatch.setitem(NEUTRAL, "SHARPNESS", 0.0)
    new = RunSpec({**old.values, "SHARPNESS": 0.0})
    sharper = RunSpec({**old.values, "SHARPNESS": 0.1})
    assert new == old
    assert new.run_id == old.run_id != sharper.run_id
    found = store.result(new)
    assert found is not None
    assert found.spec["SHARPNESS"] == 0.0, "who reads the record finds the new symbol"
    assert store.result(sharper) is None


def test_a_renamed_symbol_keeps_old_records(tmp_path, monkeypatch):
    old, store = of(), Store(tmp_path)
    publish(prepare(store.folder(old), old), record(old))
    monkeypatch.setitem(RENAMED, "SEED_OF_EVERYTHING", "SEED")
    values = dict(old.values)
    new = RunSpec({**values, "SEED_OF_EVERYTHING": values.pop("SEED"), **values})
    new = RunSpec({k: v for k, v in new.values.items() if k != "SEED"})
    assert new.digest == old.digest
    assert new == old


def test_tables_of_renamed_and_neutral_symbols_name_declared_ones():
    tree = Tree()
    known = {*tree.options, *tree.cell_symbols}
    assert set(RENAMED) <= known
    assert not set(RENAMED.values()) & known, "a first name that is used again is two symbols"
    assert set(NEUTRAL) <= known


def test_published_ids_are_what_they_were(repository):
    """The ids of the published records: a change of them would void everybody's results."""
    for result in read_published(repository / "results" / "published"):
        assert RunSpec(json.loads(json.dumps(dict(result.spec.values)))).run_id == result.run_id
