"""torch.compile: the same training where it works, and a run that says so where it does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adamwprune import pruning
from adamwprune.models.lenet5 import FusedLeNet5
from adamwprune.train import compiling
from adamwprune.train.compiling import compiled
from adamwprune.train.loop import Training
from tests.pruning.wanda import Wanda
from tests.support.runs import job_of, specs, toy_specs
from tests.support.runs import toys as toys
from tests.train.test_loop import CAPTURED

pytestmark = pytest.mark.slow

PRUNED = {"OPTIMIZER": "adamwprune", "PRUNING_METHOD": "state"}


@pytest.fixture
def backend(monkeypatch):
    """torch's compiler up to the code that needs no compiler; counts what is compiled."""
    torch.compiler.reset()
    shapes = []

    def compile_nothing(graph, inputs):
        shapes.append([tuple(value.shape) for value in inputs if value.dim() == 4])
        return graph

    monkeypatch.setattr(compiling, "BACKEND", compile_nothing)
    return shapes


def test_a_compiled_network_is_the_network(backend):
    torch.manual_seed(3)
    module = FusedLeNet5()
    images = torch.randn(8, 1, 32, 32)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    fast = compiled(module, [images, images[:3]])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(param.grad is None for param in module.parameters())
    count = len(backend)
    assert count
    for batch in (images, images[:3], images.flip(0)):
        torch.testing.assert_close(fast(batch), module(batch))
    assert len(backend) == count, "compiled in a step"


def test_one_network_after_the_other_is_compiled_in_one_process(monkeypatch):
    """torch's own limit is eight variants of a function, and past it nothing is told."""
    torch.compiler.reset()
    calls = []

    def counted(graph, inputs):
        def call(*values):
            calls.append(1)
            return graph(*values)

        return call

    monkeypatch.setattr(compiling, "BACKEND", counted)
    for size in range(10, 22):
        images = torch.randn(size, 1, 32, 32)
        fast = compiled(FusedLeNet5(), [images, images[:3]])
        calls.clear()
        fast(images)
        fast(images[:3])
        assert len(calls) >= 2, size


def test_a_compiled_run_trains_as_any_other(backend, train):
    eager = train(specs(**PRUNED)[0], name="eager")
    result = train(specs(**PRUNED, TORCH_COMPILE="y")[0], name="compiled")
    assert backend
    assert result.run_id != eager.run_id, "it rounds otherwise"
    assert [attempt["compiled"] for attempt in result.environment["attempts"]] == [True]
    assert "compiled" not in eager.environment["attempts"][0]
    assert result.pruning["zeros"] == eager.pruning["zeros"] == result.pruning["k"]
    assert result.final["train_loss"] == pytest.approx(eager.final["train_loss"], rel=0.05)


def test_without_a_compiler_it_trains_without_and_says_so(monkeypatch, train):
    def broken(graph, inputs):
        raise RuntimeError("no compiler\nthe rest of a long story")

    monkeypatch.setattr(compiling, "BACKEND", broken)
    torch.compiler.reset()
    events = []
    result = train(specs(TORCH_COMPILE="y")[0], progress=events.append)
    assert result.status == "done", result.error
    assert [attempt["compiled"] for attempt in result.environment["attempts"]] == [False]
    (told,) = [e["text"] for e in events if e["event"] == "note" and "without" in e["text"]]
    assert "no compiler" in told
    assert "long story" not in told
    eager = train(specs()[0], name="eager")
    assert result.weights == eager.weights, "what was tried left no trace"


def test_memory_that_ran_out_is_no_missing_compiler(monkeypatch):
    def greedy(graph, inputs):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(compiling, "BACKEND", greedy)
    torch.compiler.reset()
    with pytest.raises(torch.OutOfMemoryError):
        compiled(FusedLeNet5(), [torch.randn(4, 1, 32, 32)])


LEAN = """
import sys, json
from pathlib import Path
from adamwprune.plan.job import Job
from adamwprune.run import runner
from adamwprune.records.code import Sources
job = Job.from_json(json.load(sys.stdin))
result = runner.run(job, Sources().of(job.spec))
print(result.status, "torch" in sys.modules, "torch._dynamo" in sys.modules)
"""


def test_a_run_that_compiles_nothing_never_imports_the_compiler(tmp_path):
    """It takes as long to import as torch, in each worker."""
    (spec,) = specs(**PRUNED)
    job = job_of(spec, tmp_path / "run", checkpoint_seconds=0.0)
    plain = json.dumps(job.to_json())
    done = subprocess.run([sys.executable, "-c", LEAN], input=plain, check=False, **CAPTURED)
    assert done.stdout.split() == ["done", "True", "False"], done.stderr


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_by_torchs_own_compiler(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    torch.manual_seed(3)
    module = FusedLeNet5()
    images = torch.randn(8, 1, 32, 32)
    fast = compiled(module, [images])
    torch.testing.assert_close(fast(images), module(images))


@pytest.mark.parametrize("compiles", ["y", "n"])
def test_a_score_sees_the_inputs_of_training_alone(backend, toys, monkeypatch, compiles):
    """Not those of the batches that the network is compiled with."""
    monkeypatch.setattr(pruning, "method", lambda values: Wanda())
    (spec,) = toy_specs(PRUNING_METHOD="magnitude", TORCH_COMPILE=compiles)
    training = Training(spec, Path("/nowhere"), "cpu")
    assert bool(backend) == (compiles == "y")
    training.train(Watch())
    assert training.not_compiled == ""
    first = training.pruner.score.buffers()["input_norms"][0]
    images = training.data.batch(training.first(training.data.examples)).inputs
    torch.testing.assert_close(first.sum(), spec["EPOCHS"] * images.square().sum())


class Watch:
    def stepped(self, training):
        pass

    def evaluated(self, training, entry):
        pass
