"""What only a GPU can show; skipped where there is none. The captured step: test_graphs.py."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adamwprune.pruning.select import radix
from adamwprune.run import runner
from adamwprune.train.loop import Training
from adamwprune.train.measure.phase_peaks import FIRST_STEP, INIT, MASK_UPDATE, STEADY
from tests.pruning.held import lowest
from tests.support.runs import specs

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

RUNS = [
    *specs(OPTIMIZER="adamwprune", PRUNING_METHOD="none magnitude state", EPOCHS="4"),
    *specs(OPTIMIZER="adamw", PRUNING_METHOD="movement", EPOCHS="4"),
    *specs(OPTIMIZER="adamw", PRUNING_METHOD="state rigl", EPOCHS="4", MASK_STORAGE="packed"),
    *specs(
        OPTIMIZER="adamw",
        PRUNING_METHOD="state",
        EPOCHS="4",
        MASK_STORAGE="packed",
        RELEASE_GRADIENTS="y",
    ),
]
GPT = {
    "MODEL": "gpt", "GPT_LAYERS": "2", "GPT_WIDTH": "32", "GPT_HEADS": "2", "BLOCK": "32",
    "DATASET": "shakespeare", "STEPS": "60", "BATCH_SIZE": "8",
}  # fmt: skip
STABLE = [spec for spec in RUNS if spec["PRUNING_METHOD"] in ("none", "magnitude")]


def first_losses(spec, device: str, steps: int = 3) -> list[float]:
    """The sum of the losses after each of the first ``steps`` steps."""
    losses: list[float] = []

    class Watch:
        def stepped(self, training):
            losses.append(training.sums.read()["loss"])
            if training.step == steps:
                raise runner.Stopped

    training = Training(spec, Path("/nowhere"), device)
    with contextlib.suppress(runner.Stopped):
        training.train(Watch())
    return losses


def test_a_process_that_has_not_touched_the_gpu_trains_on_it(tmp_path):
    flags = ["--dataset", "mnist5k", "--epochs", "1", "--device", "cuda", "--results-dir"]
    command = [sys.executable, ROOT / "train.py", *flags, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("spec", RUNS, ids=lambda spec: spec.run_id)
def test_the_first_steps_on_a_gpu_are_those_on_a_cpu(spec):
    """Later ones amplify rounding: what they reach is compared below, where it is stable."""
    assert first_losses(spec, "cuda") == pytest.approx(first_losses(spec, "cpu"), rel=1e-3)


@pytest.mark.parametrize("spec", RUNS, ids=lambda spec: spec.run_id)
def test_a_gpu_prunes_and_keeps_what_a_cpu_does(spec, train):
    here = train(spec, name="cpu")
    there = train(spec, name="cuda", device="cuda:0")
    assert there.status == "done", there.error
    assert there.pruning["zeros"] == here.pruning["zeros"]
    assert there.memory["weights"] == here.memory["weights"]
    # On a CPU packed states are filled up: seven numbers of a layer at most.
    assert there.memory["optimizer"] == pytest.approx(here.memory["optimizer"], abs=5 * 7 * 4)
    if spec in STABLE:
        difference = abs(there.final["test_accuracy"] - here.final["test_accuracy"])
        assert difference < 0.03


def test_the_allocators_peaks_are_recorded_by_phase(train):
    (spec,) = specs(OPTIMIZER="adamwprune", PRUNING_METHOD="state")
    device = train(spec, device="cuda:0").memory["device"]
    peaks = device["phases"]
    assert peaks.keys() == {INIT, FIRST_STEP, MASK_UPDATE, STEADY}
    assert device["peak"] == max(peaks.values()) >= peaks[INIT] > 0
    assert device["reserved"] >= device["peak"]
    assert all(bytes_ > 0 for _, _, bytes_ in device["timeline"])


def test_a_run_that_was_stopped_on_a_gpu_goes_on_there(train):
    (spec,) = specs(OPTIMIZER="adamwprune", PRUNING_METHOD="state", EPOCHS="4")
    whole = train(spec, name="whole", device="cuda:0")
    asked = iter([False] * 20 + [True] * 99)
    with pytest.raises(runner.Stopped):
        train(spec, name="stopped", device="cuda:0", should_stop=lambda: next(asked))
    resumed = train(spec, name="stopped", device="cuda:0")
    assert resumed.environment["attempts"][-1]["from_step"] == 21
    difference = abs(whole.final["test_accuracy"] - resumed.final["test_accuracy"])
    assert difference < 0.03


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("model", ["lenet5", "gpt"])
def test_a_run_on_two_gpus_is_that_of_one_but_for_rounding(train, model, shards):
    """NCCL, DDP or FSDP2, and torch's synchronised batch normalisation."""
    words = {"lenet5": {"MODEL": "lenet5"}, "gpt": GPT}[model]
    (spec,) = specs(OPTIMIZER="adamw", PRUNING_METHOD="state", MASK_STORAGE="implied", **words)
    one = train(spec, name="one", device="cuda:0")
    two = train(spec, name="two", device="cuda:0", ranks=2, shards=shards)
    assert two.status == "done", two.error
    assert two.pruning["zeros"] == one.pruning["zeros"]
    name = one.judged_by[0].name
    assert two.final[f"test_{name}"] == pytest.approx(one.final[f"test_{name}"], rel=0.03)


@pytest.mark.parametrize("numel", [1000, 3_000_000])
def test_a_gpu_chooses_the_same_weights(numel):
    scores = torch.randn(numel).round(decimals=2)  # ties
    k = numel * 9 // 10
    chosen = lowest({"w": scores.cuda()}, k)["w"].cpu()
    assert torch.equal(chosen, lowest({"w": scores}, k)["w"])
    found = radix.threshold(lambda: iter(scores.cuda().split(1_000_000)), k)
    assert found.score == scores.kthvalue(k).values
    assert found.ties == (scores == found.score).sum()
