"""Synthetic records of the real cells of two defconfigs, with plausible numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adamwprune.base.metrics import LOSS, Metric
from adamwprune.config import sources, strict
from adamwprune.config.tree import Tree
from adamwprune.plan import matrix
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult
from benchmarks import fake_cluster
from tests.support.browser import CHROMIUM, DRIVER, FLAGS, Browser

WEIGHTS = 247_000
LAYERS = {
    "conv1.weight": 150,
    "conv2.weight": 2_400,
    "fc1.weight": 48_000,
    "fc2.weight": 10_080,
    "fc3.weight": 840,
}
PRUNABLE = sum(LAYERS.values())
MULTIPLY_ADDS = {
    name: n * (784 if n == 150 else 100 if n == 2_400 else 1) for name, n in LAYERS.items()
}
LOSSES = {0.5: 0.02, 0.7: 0.15, 0.9: 0.8}  # points of accuracy lost to pruning
BITS = Metric("bits_per_byte", "bits per byte", "lower")
Make = Callable[..., RunResult]
# The least that a record of a run that is done holds.
LEAST: dict[str, Any] = {**fake_cluster.LEAST, "seconds": {"total": 1.0}}


def expand(defconfig: str, **settings: str) -> list[RunSpec]:
    """The specs of a defconfig as ``make`` would plan it."""
    tree = Tree()
    strict.apply(tree, sources.read_defconfig(tree, defconfig))
    sources.override(tree, settings)
    return matrix.expand(tree).specs


def synthetic(spec: RunSpec, *, status: str = "done", gpu: bool = False) -> RunResult:
    """A record with the fields that training writes; numbers follow from the spec alone."""
    environment = {
        "commit": "0123abc",
        "dirty": False,
        "device": "cuda:0" if gpu else "cpu",
        "device_name": "Imaginary 9000" if gpu else "Imaginary CPU @ 2.60GHz",
        "threads": 2,
        "torch": "2.14.1",
    }
    if gpu:
        environment["alone"] = True
    if status != "done":
        return RunResult(spec.run_id, status, spec, environment=environment, error="Traceback …")
    history = _history(spec)
    keys = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    return RunResult(
        spec.run_id,
        status,
        spec,
        history=history,
        final={key: history[-1][key] for key in keys},
        pruning=_pruning(spec),
        trace=_trace(spec),
        memory=_memory(spec, gpu),
        seconds={"total": 14.2, "train": 12.0, "evaluate": 1.2, "setup": 1.0},
        speed={"examples": 600_000, "examples_per_second": 50_000.0},
        operations=_operations(spec),
        environment=environment,
    )


def in_bits(record: RunResult) -> RunResult:
    """The same record as a next-token task would have it: one bit per byte at full accuracy, and
    more where accuracy is less, so that whatever was better is better.
    """

    def judged(values: Mapping[str, float]) -> dict[str, float]:
        return {
            name.replace("accuracy", BITS.name): 1 + 8 * (1 - value)
            if "accuracy" in name
            else value
            for name, value in values.items()
        }

    return replace(
        record,
        history=[judged(entry) for entry in record.history],
        final=judged(record.final),
        metrics=[BITS.to_json(), LOSS.to_json()],
        examples=100_000,
    )


def elsewhere(record: RunResult, **environment: object) -> RunResult:
    """The same record, made in another environment."""
    return replace(record, environment={**record.environment, **environment})


def aged(record: RunResult) -> RunResult:
    """The same record as it was before it held a trace, weights in bins, multiply-adds, speed, and
    of an update more than its zeros.
    """
    later = ("histogram", "mean_density")
    pruning = {name: value for name, value in record.pruning.items() if name not in later}
    first = ("step", "target", "zeros")
    updates = [{name: each[name] for name in first} for each in pruning["updates"]]
    pruning["updates"] = updates
    return replace(record, trace={}, speed={}, operations={}, pruning=pruning)


def marked(record: RunResult, *marks: str) -> RunResult:
    """The same record with marks, as a reader gives them."""
    return replace(record, marks=frozenset(marks))


def _zeros(sparsity: float) -> int:
    return math.floor(sparsity * PRUNABLE + 0.5)


def _updates(spec: RunSpec) -> list[dict[str, Any]]:
    if not spec.sparsity:
        return []
    start = spec.steps("PRUNING_WARMUP") if "PRUNING_WARMUP" in spec else 0
    interval, end = spec.steps("PRUNING_INTERVAL"), spec.ramp_end_step
    steps = [*range(start + interval, end, interval), end]
    found = []
    for step in steps:
        target = spec.sparsity * (1 - (1 - (step - start) / (end - start)) ** 3)
        returned = 7 * len(found) if spec["PRUNING_METHOD"] == "movement" else 0
        zeros = _zeros(target)
        changed = zeros - (found[-1]["zeros"] if found else 0) + 2 * returned
        update = {"step": step, "target": target, "zeros": zeros, "returned": returned}
        alike = {"magnitude": 1.0, "movement": 0.4}.get(spec["PRUNING_METHOD"], 0.8)
        measures = {"magnitude_overlap": 1.0, "magnitude_agreement": alike}
        found.append({**update, "changed": changed, **measures})
    return found


def _operations(spec: RunSpec) -> dict[str, Any]:
    """Of LeNet-5; every layer has the sparsity of the whole."""
    total = sum(MULTIPLY_ADDS.values())
    return {
        "multiply_adds": total,
        "multiply_adds_left": round(total * (1 - spec.sparsity)),
        "layers": [{"name": name, "multiply_adds": n} for name, n in MULTIPLY_ADDS.items()],
        "training_flops": 6 * total * 600_000,
        "training_flops_sparse": round(6 * total * 600_000 * (1 - spec.sparsity / 2)),
    }


def _history(spec: RunSpec) -> list[dict[str, float]]:
    noise = random.Random(spec.run_id)
    best = 96.5 if spec["OPTIMIZER"] == "sgd" else 99.0
    if spec["OPTIMIZER"] == "adamwspam" and spec["PRUNING_METHOD"] == "movement":
        best -= 3
    best -= LOSSES.get(spec.sparsity, 0) + noise.gauss(0, 0.08)
    rows = []
    for epoch in range(1, spec["EPOCHS"] + 1):
        step = epoch * spec.steps_per_epoch
        accuracy = (best - 9 * math.exp(-0.9 * epoch) + noise.gauss(0, 0.1)) / 100
        done = [update["zeros"] for update in _updates(spec) if update["step"] <= step]
        cosine = 0.5 * (1 + math.cos(math.pi * epoch / spec["EPOCHS"]))
        rows.append(
            {
                "epoch": epoch,
                "step": step,
                "train_loss": 0.4 * math.exp(-0.4 * epoch) + 0.01,
                "train_accuracy": min(1.0, accuracy + 0.006),
                "test_loss": 0.3 * math.exp(-0.4 * epoch) + 0.03 * (1 + spec.sparsity),
                "test_accuracy": accuracy,
                "sparsity": (done[-1] if done else 0) / PRUNABLE,
                "lr": spec["LR"] * (cosine if spec["LR_SCHEDULE"] == "cosine" else 1),
                "seconds": 1.3,
            }
        )
    return rows


def _pruning(spec: RunSpec) -> dict[str, Any]:
    k = _zeros(spec.sparsity)
    updates = _updates(spec)
    record = {
        "method": spec["PRUNING_METHOD"],
        "requested": spec.sparsity,
        "k": k,
        "zeros": k,
        "prunable": PRUNABLE,
        "mean_density": 1 - spec.sparsity / 2,
        "layers": [
            {"name": name, "numel": n, "zeros": round(spec.sparsity * n)}
            for name, n in LAYERS.items()
        ],
        "updates": updates,
        "returned": sum(update["returned"] for update in updates),
        "histogram": {
            "low": -0.5,
            "high": 0.5,
            "before": [0, 20_000, 41_470, 0] if updates else None,
            "after": [40, PRUNABLE - k - 100, 60, 0],
        },
    }
    return {**record, "mask_storage": spec["MASK_STORAGE"]} if spec.sparsity else record


def _trace(spec: RunSpec) -> dict[str, Any]:
    """Four stretches; a norm and spikes that follow from the seed."""
    interval, seed = spec.total_steps // 4, int(spec["SEED"])
    looks = spec.values.get("SPAM_MODE", "none") == "zscore"
    every = int(spec.values.get("SPAM_INTERVAL", 0))
    return {
        "interval": interval,
        "step": [interval * n for n in (1, 2, 3, 4)],
        "lr": [spec["LR"] / n for n in (1, 2, 3, 4)],
        "norm": [(1.0 + seed) * n for n in (4, 3, 2, 1)],
        "norm_max": [(2.0 + seed) * n for n in (4, 3, 2, 1)],
        "spikes": [0, 3, 0, 1] if looks else None,
        "resets": list(range(every + 1, spec.total_steps + 1, every)) if every else [],
    }


def _memory(spec: RunSpec, gpu: bool) -> dict[str, Any]:
    states = {"exp_avg": WEIGHTS, "exp_avg_sq": WEIGHTS, "step": 56}
    if spec["OPTIMIZER"] == "sgd":
        states = {"momentum_buffer": WEIGHTS}
    elif spec["AMSGRAD"] == "on":
        states["max_exp_avg_sq"] = WEIGHTS
    pruner = {}
    if spec["PRUNING_METHOD"] == "movement":
        pruner = {"scores": 4 * PRUNABLE, "kept_weights": 4 * PRUNABLE}
    if spec.sparsity:
        pruner["masks"] = PRUNABLE if spec["MASK_STORAGE"] == "bool" else 0
    memory: dict[str, Any] = {
        "weights": WEIGHTS,
        "gradients": WEIGHTS,
        "optimizer": states,
        "buffers": 192,
        "pruner": pruner,
    }
    total = 2 * WEIGHTS + 192 + sum(states.values()) + sum(pruner.values())
    timeline = [[10 * i, 0.1 * i, 60_000_000 + total - 4_000 * (i == 0)] for i in range(100)]
    device = {"timeline": timeline, "peak": 75_000_000 + total} if gpu else None
    return {**memory, "total": total, "device": device}


@pytest.fixture(scope="session")
def published() -> list[RunSpec]:
    """The 42 runs of the published comparison."""
    specs = expand("memory-comparison")
    assert len(specs) == 42
    return specs


@pytest.fixture(scope="session")
def quick() -> list[RunSpec]:
    """The ten runs of the quick start."""
    return expand("quickstart")


@pytest.fixture(scope="session")
def make() -> Make:
    """The factory of records."""
    return synthetic


@pytest.fixture(scope="session")
def reseeded() -> Callable[[RunSpec, int], RunSpec]:
    """The same run with another seed."""
    return lambda spec, seed: RunSpec({**spec.values, "SEED": seed})


@pytest.fixture(scope="session")
def source_tree() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests of a module."""
    if not CHROMIUM or not DRIVER:
        pytest.skip("Chromium or its driver is not installed: apt install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield Browser(driver)
    driver.quit()
