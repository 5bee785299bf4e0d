"""One run: what its record holds is what happened."""

from __future__ import annotations

import gc
import json
import math
import os
import platform
import subprocess
import sys

import pytest
import torch

from adamwprune import tasks
from adamwprune.base.errors import ConfigError, UserError
from adamwprune.base.metrics import ACCURACY, LOSS
from adamwprune.base.sparsity import count
from adamwprune.models.lenet5 import FusedLeNet5, LeNet5
from adamwprune.records.record import RunResult
from adamwprune.run import runner
from adamwprune.train.data import loaded, network_for
from adamwprune.train.evaluation import evaluate
from adamwprune.train.loop import Training
from tests.support.runs import SOURCES, specs

CAPTURED = {
    "capture_output": True,
    "text": True,
    "env": {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
}
EVERYTHING = specs(
    OPTIMIZER="sgd adam adamw adamwadv adamwspam adamwprune",
    PRUNING_METHOD="none magnitude movement state",
)


@pytest.mark.parametrize("spec", EVERYTHING, ids=[spec.slug for spec in EVERYTHING])
def test_every_optimizer_with_every_method(spec, train):
    result = train(spec)
    assert result.status == "done", result.error
    pruning = result.pruning
    assert pruning["k"] == pruning["zeros"] == count(spec.sparsity, 61_470)
    assert sum(layer["zeros"] for layer in pruning["layers"]) == pruning["zeros"]
    assert sum(layer["numel"] for layer in pruning["layers"]) == pruning["prunable"] == 61_470
    assert pruning["requested"] == spec.sparsity
    assert (pruning["returned"] > 0) == (spec["PRUNING_METHOD"] == "movement")
    group = result.param_groups[0]
    assert group["weight_decay"] == spec["WEIGHT_DECAY"]
    assert group["initial_lr"] == spec["LR"]
    assert group["max_grad_norm"] == spec["MAX_GRAD_NORM"]
    if "AMSGRAD" in spec:
        assert group["amsgrad"] == (spec["AMSGRAD"] == "on")
        assert tuple(group["betas"]) == (spec["BETA1"], spec["BETA2"])
    expected_lr = 0.0 if spec["LR_SCHEDULE"] == "cosine" else spec["LR"]
    assert group["lr"] == pytest.approx(expected_lr, abs=1e-12)


@pytest.mark.parametrize(
    "words",
    [
        {"PRUNING_METHOD": "movement"},
        {"PRUNING_METHOD": "state", "MASK_STORAGE": "packed"},
        {"PRUNING_METHOD": "state", "RELEASE_GRADIENTS": "y"},
        {"PRUNING_METHOD": "rigl"},
    ],
    ids=lambda words: "-".join(words.values()),
)
def test_nothing_of_a_run_is_left_in_its_process(train, words):
    (spec,) = specs(OPTIMIZER="adamw", MAX_GRAD_NORM="0", EPOCHS="1", **words)
    assert train(spec).status == "done"
    gc.collect()
    kinds = [type(each) for each in gc.get_objects()]
    left = [each for each in kinds if issubclass(each, (Training, LeNet5))]
    assert left == []


def test_the_record_holds_what_a_mask_update_took(train):
    """The scores of 61,470 weights by layer and in one tensor; nothing without an update."""
    found = {
        method: train(specs(OPTIMIZER="adamw", PRUNING_METHOD=method)[0], name=method).memory
        for method in ("none", "magnitude", "state")
    }
    assert found["none"]["mask_update"] is None
    for method in ("magnitude", "state"):
        taken = found[method]["mask_update"]
        assert taken["peak"] >= taken["transient"] >= 2 * 4 * 61_470
        assert taken["transient"] < 16 * 61_470


def test_the_record_is_the_last_epoch_and_survives_json(train, tmp_path):
    source = {"commit": "0" * 40, "dirty": False, "diff": None}
    (spec,) = specs(OPTIMIZER="adamw", PRUNING_METHOD="magnitude", TARGET_SPARSITY="0.7")
    result = train(spec, source=source)
    assert [entry["epoch"] for entry in result.history] == [1, 2]
    assert [entry["step"] for entry in result.history] == [16, 32]
    assert result.final == {name: result.history[-1][name] for name in result.final}
    assert set(result.final) == {
        f"{on}_{m}" for on in ("train", "test") for m in ("accuracy", "loss")
    }
    assert result.pruning["updates"][-1] == {
        "step": 26,
        "target": 0.7,
        "zeros": 43_029,
        "returned": 0,
        "changed": 43_029 - result.pruning["updates"][-2]["zeros"],
        "magnitude_overlap": 1.0,
        "magnitude_agreement": 1.0,
    }
    stored = RunResult.from_json(json.loads((tmp_path / "run" / "result.json").read_text()))
    assert stored == RunResult.from_json(json.loads(json.dumps(result.to_json())))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.history
    assert source.items() <= result.environment.items()
    assert {"torch", "device", "threads", "host", "started", "ended"} <= result.environment.keys()
    assert result.environment["command"] == "python train.py --device cpu --threads 1"
    assert result.code == SOURCES.of(spec).to_json()


def test_the_weights_on_disk_are_the_ones_that_were_tested(train, tmp_path):
    spec = specs(OPTIMIZER="adamwprune", PRUNING_METHOD="state")[0]
    result = train(spec)
    model = network_for(spec.settings)
    weights = torch.load(tmp_path / "run" / "weights.pt", weights_only=True)
    model.module.load_state_dict(weights)
    data = loaded(spec.settings, tmp_path, model.takes, "cpu")
    assert evaluate(model.module, tasks.build(spec.settings, data), data) == pytest.approx(
        {name: result.final[f"test_{name}"] for name in ("loss", "accuracy")}
    )
    assert result.judged_by == (ACCURACY, LOSS)
    assert result.examples == 1_000
    zeros = sum(int((w == 0).sum()) for name, w in weights.items() if w.dim() > 1)
    assert zeros == result.pruning["zeros"]


def test_an_evaluation_goes_by_the_running_statistics_and_leaves_them(tmp_path):
    (spec,) = specs(OPTIMIZER="sgd", PRUNING_METHOD="none")
    network = network_for(spec.settings)
    data = loaded(spec.settings, tmp_path, network.takes, "cpu")
    model = network.module.train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    found = evaluate(model, tasks.build(spec.settings, data), data)
    assert before
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    model.eval()
    with torch.no_grad():
        batches = list(data.evaluation())
        right = sum(int((model(b.inputs).argmax(1) == b.targets).sum()) for b in batches)
    assert found["accuracy"] == pytest.approx(right / sum(map(len, batches)))


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(train):
    first, again, other = (
        train(spec, name=name)
        for spec, name in zip(
            specs(OPTIMIZER="adamwprune", PRUNING_METHOD="state")
            + specs(OPTIMIZER="adamwprune", PRUNING_METHOD="state")
            + specs(OPTIMIZER="adamwprune", PRUNING_METHOD="state", SEED="1"),
            "abc",
            strict=True,
        )
    )

    def bits(result):
        return [{k: v for k, v in e.items() if k != "seconds"} for e in result.history]

    assert bits(first) == bits(again)
    assert bits(first) != bits(other)


def test_bytes_are_counted_by_owner(train):
    result = {
        name: train(specs(OPTIMIZER=optimizer, PRUNING_METHOD=method)[0], name=name).memory
        for name, optimizer, method in (
            ("adamw", "adamw", "none"),
            ("state", "adamwprune", "state"),
            ("magnitude", "adamwprune", "magnitude"),
            ("movement", "adamw", "movement"),
        )
    }
    assert result["adamw"]["weights"] == result["adamw"]["gradients"] == 247_000
    # 61,750 parameters of 4 bytes each, twice, and 14 step counters.
    assert sum(result["adamw"]["optimizer"].values()) == 494_056
    found = result["state"]["optimizer"]
    states = {k: v for k, v in found.items() if not k.startswith("spam_")}
    assert sum(states.values()) == 741_056, "AMSGrad keeps a third state"
    assert result["state"]["pruner"] == {}
    assert result["magnitude"]["pruner"] == {"masks": 61_470}
    assert result["movement"]["pruner"] == {
        "scores": 245_880,
        "kept_weights": 245_880,
        "masks": 61_470,
    }
    for memory in result.values():
        parts = memory["weights"] + memory["buffers"] + memory["gradients"]
        parts += sum(memory["optimizer"].values()) + sum(memory["pruner"].values())
        assert memory["total"] == parts


def test_lenet5_has_the_papers_size():
    module = FusedLeNet5()
    assert sum(p.numel() for p in module.parameters()) == 61_750
    assert sum(p.numel() for p in module.parameters() if p.dim() > 1) == 61_470


def test_progress_tells_how_far_the_run_is(train, monkeypatch):
    events = []
    monkeypatch.setattr(runner, "HEARTBEAT", 0)
    train(specs(LR="0.01")[0], events.append)
    told = [e for e in events if e["event"] == "progress"]
    steps = [e["step"] for e in told]  # those of an evaluation are told with each of its batches
    assert steps == sorted(steps)
    assert set(steps) == set(range(33))
    assert {e["epoch"] for e in told} == {1, 2}
    assert {(e["steps"], e["epochs"], e["threads"], e["device"]) for e in told} == {
        (32, 2, 1, "cpu")
    }
    assert [metric["name"] for metric in told[0]["metrics"]] == ["accuracy", "loss"]
    assert told[0]["train_loss"] is None
    assert told[0]["test_accuracy"] is None
    assert all(0 < e["train_loss"] < 3 for e in told[1:])
    assert all(0 < e["train_accuracy"] <= 1 for e in told[1:])
    assert told[-1]["test_accuracy"] > 0.3
    assert told[-1]["rate"] > 0


def test_a_run_that_diverges_is_recorded_as_failed(train, tmp_path):
    result = train(specs(LR="100", WEIGHT_DECAY="1")[0])
    assert result.status == "failed"
    assert "training diverged: the loss is" in result.error
    assert "Traceback" in result.error
    stored = json.loads((tmp_path / "run" / "result.json").read_text())
    assert stored["status"] == "failed"
    assert "failed" in (tmp_path / "run" / "log.txt").read_text()


def test_a_run_that_diverges_between_mask_updates_is_recorded_as_failed(train):
    """The update is the first to look at the weights; as NaNs they have no order."""
    result = train(specs(LR="100", WEIGHT_DECAY="1", PRUNING_METHOD="magnitude")[0])
    assert result.status == "failed"
    assert "weights are NaN" in result.error


def test_a_violated_contract_fails_the_run(train, monkeypatch):
    from adamwprune.pruning.pruned import PrunedWeights

    monkeypatch.setattr(PrunedWeights, "zeroed", lambda self, name: [])  # a forgotten mask
    result = train(specs(OPTIMIZER="adamw", PRUNING_METHOD="magnitude")[0])
    assert result.status == "failed"
    assert "ContractViolation" in result.error


def test_missing_data_is_nobodys_failed_run(train, tmp_path):
    spec = specs(DATASET="mnist", BATCH_SIZE="512")[0]
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="DATA_DIR"):
        train(spec)
    assert not (tmp_path / "run" / "result.json").exists()


def test_the_cosine_schedule_ends_at_zero_and_none_stays(train):
    cosine = train(specs(OPTIMIZER="adamwadv")[0], name="a").history
    assert cosine[0]["lr"] == pytest.approx(0.001 * (1 + math.cos(math.pi / 2)) / 2)
    assert cosine[1]["lr"] == pytest.approx(0, abs=1e-12)
    assert [e["lr"] for e in train(specs(OPTIMIZER="sgd")[0], name="b").history] == [0.001] * 2


class Reads(dict):
    """A mapping that notes which of its keys were asked for."""

    def __init__(self, values):
        super().__init__(values)
        self.names = set()

    def __getitem__(self, name):
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        self.names.add(name)
        return super().get(name, default)


SPAM = {"SPAM_ENABLE_CLIP": "y", "SPAM_THETA": "100", "SPAM_INTERVAL": "20"}


@pytest.mark.parametrize(
    "settings",
    [
        {"OPTIMIZER": "adamwprune", "PRUNING_METHOD": "state", **SPAM},
        {"OPTIMIZER": "sgd", "PRUNING_METHOD": "movement"},
        {"OPTIMIZER": "adam"},
    ],
    ids=lambda settings: settings["OPTIMIZER"],
)
def test_no_value_of_a_spec_is_ignored(settings, train):
    """Every symbol that makes a run another run is read on the way to its result."""
    (spec,) = specs(**settings)
    reads = Reads(spec.values)
    object.__setattr__(spec, "values", reads)
    assert train(spec).status == "done"
    assert set(reads) - reads.names == set()


def test_a_validation_split_is_trained_without_and_measured_instead_of_the_test_set(train):
    (spec,) = specs(VALIDATION_EXAMPLES="400")
    assert (spec.train_examples, spec.steps_per_epoch, spec.held_out) == (3_600, 15, "validation")
    result = train(spec)
    assert result.history[-1]["step"] == 30
    hits = result.final["test_accuracy"] * 400
    assert hits == pytest.approx(round(hits)), "a fraction of 400 images"
    assert result.final != train(specs()[0], name="test").final
    with pytest.raises(ConfigError, match="VALIDATION_EXAMPLES=4000 leaves nothing of 4000"):
        specs(VALIDATION_EXAMPLES="4000")


ROUNDS = """
import ctypes, resource
from adamwprune.run.process_settings import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
{}
def a_round():
    blocks = [ctypes.c_void_p(libc.malloc(1 << 20)) for _ in range(64)]
    for block in blocks:
        ctypes.memset(block, 1, 1 << 20)
    for block in reversed(blocks):
        libc.free(block)
for _ in range(3):
    a_round()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
a_round()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.slow
def test_freed_memory_is_not_given_back_and_taken_again():
    """Page faults of taking 64 MiB again, which are 16,384 pages of 4 KiB."""

    def faults(call: str) -> int:
        command = [sys.executable, "-c", ROUNDS.format(call)]
        return int(subprocess.run(command, check=True, **CAPTURED).stdout)

    assert faults("keep_freed_memory()") < 100
    assert faults("") > 10_000
