"""A step that is captured and replayed does what the step itself does.

Without a GPU the graph is a tape: every operation that a step gives to the device is noted with
the tensors it works on, and replaying does these operations again, on the same memory. Like a CUDA
graph it knows nothing of Python: numbers are those of the step that was captured, and reading a
value back is refused.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adamwprune import optimizers
from adamwprune.optimizers import _base
from adamwprune.train.graphs import EAGER_STEPS, StepGraphs
from adamwprune.train.loop import Training
from tests.support.runs import toy_specs as specs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("toys")]

EVERYTHING = specs(
    OPTIMIZER="sgd adam adamw adamwadv adamwspam adamwprune",
    PRUNING_METHOD="none magnitude movement movement-seed random state",
)
VARIANTS = [
    *specs(
        OPTIMIZER="adamwprune",
        PRUNING_METHOD="state",
        SPAM_MODE="paper",
        SPAM_INTERVAL="22",
        SPAM_WARMUP_STEPS="9",
        PRUNING_RAMP_END="0.5",
    ),
    *specs(OPTIMIZER="adam", SPAM_MODE="paper", SPAM_INTERVAL="9", SPAM_WARMUP_STEPS="4"),
    *specs(OPTIMIZER="adamwspam", SPAM_MODE="stable", SPAM_INTERVAL="12", LR_SCHEDULE="cosine"),
    *specs(OPTIMIZER="adamw", PRUNING_METHOD="movement", MASK_STORAGE="bits"),
    *specs(OPTIMIZER="adamw", PRUNING_METHOD="magnitude", MASK_STORAGE="implied"),
    *specs(OPTIMIZER="adamw", PRUNING_METHOD="state", PRUNING_SCHEDULE="one-shot"),
    *specs(OPTIMIZER="sgd adamwprune", PRUNING_METHOD="set rigl"),
    *specs(
        OPTIMIZER="adamwadv",
        PRUNING_METHOD="random rigl",
        PRUNING_SCHEDULE="constant",
        PRUNING_SCOPE="erk",
        MASK_STORAGE="bits",
    ),
    *specs(OPTIMIZER="sgd", SGD_MOMENTUM="0", MAX_GRAD_NORM="0.5"),
]
READ_BACK = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero")


class Tape(TorchDispatchMode):
    """Records what is computed inside; :meth:`play` computes it again."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func._schema.name not in READ_BACK, f"{func} reads back from the device"
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def play(self) -> None:
        for func, args, kwargs, result in self.operations:
            again = func(*args, **kwargs)
            for old, new in zip(flat(result), flat(again), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def flat(result):
    if isinstance(result, torch.Tensor):
        return [result.detach()]
    several = result if isinstance(result, (list, tuple)) else ()
    return [each.detach() for each in several if isinstance(each, torch.Tensor)]


class Recorder:
    def __init__(self) -> None:
        self.replayed = 0

    def record(self, work):
        with Tape() as tape, pytest.MonkeyPatch.context() as patch:
            patch.setattr(_base, "is_capturing", lambda: True)
            work()

        def play():
            self.replayed += 1
            tape.play()

        return play


class Watch:
    def stepped(self, training):
        pass

    def evaluated(self, training, entry):
        pass


def train(spec, captures: bool) -> tuple[Training, Recorder]:
    recorder = Recorder()
    torch.set_num_threads(1)
    training = Training(spec, Path("/nowhere"), "cpu")
    training.optimizer.capturable = True
    training.captures = captures
    training._recorder = lambda: recorder
    training.train(Watch())
    return training, recorder


@pytest.mark.parametrize("spec", [*EVERYTHING, *VARIANTS], ids=lambda spec: spec.run_id)
def test_replayed_steps_end_with_the_bits_of_steps_that_were_run(spec):
    eager, _ = train(spec, captures=False)
    captured, recorder = train(spec, captures=True)
    assert recorder.replayed >= (3 if spec["PRUNING_METHOD"] != "none" else 8)
    for name, tensor in eager.model.state_dict().items():
        assert torch.equal(tensor, captured.model.state_dict()[name]), name
    for one, other in zip(eager.history, captured.history, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert captured.pruner.updates == eager.pruner.updates
    assert captured.optimizer.steps == eager.optimizer.steps == spec.total_steps
    assert captured.trace.record() == eager.trace.record()


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adamwadv", "adamwprune"])
def test_rates_in_tensors_are_the_same_rates(name):
    def trained(in_tensors: bool) -> torch.Tensor:
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(40, dtype=torch.float32))
        settings = {"weight_decay": 0.1}
        if name in ("adam", "adamw", "adamwprune"):
            settings["spam"] = optimizers.Spam(theta=5000, interval=30, warmup_steps=20)
        kind = {"sgd": "SGD", "adamwprune": "AdamWPrune", "adamwadv": "AdamWAdv"}
        optimizer = getattr(optimizers, kind.get(name) or ("Adam", "AdamW")[name == "adamw"])(
            [weight], lr=0.05, **settings
        )
        optimizer.capturable = in_tensors
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 90)
        for _ in range(80):
            weight.grad = weight.detach() - 1 + 0.1 * torch.randn(40)
            optimizer.step()
            schedule.step()
        return weight.detach()

    torch.testing.assert_close(trained(True), trained(False), rtol=1e-4, atol=1e-6)


def test_a_kind_of_step_is_captured_once_a_batch_size():
    done = []
    recorder = Recorder()
    steps = StepGraphs(lambda batch: done.append(batch.tolist()), recorder)
    batches = [torch.tensor([n, n]) for n in range(8)]
    assert [steps(batch, "kind") for batch in batches[:4]] == [False] * 4
    assert len(done) == EAGER_STEPS + 1
    assert [steps(batch, "kind") for batch in batches] == [True] * 8
    assert recorder.replayed == 8
    assert len(done) == EAGER_STEPS + 1
    assert not steps(torch.tensor([1]), "kind")  # a shape of its own
    assert not steps(batches[0], "another")
    assert not any(steps(batches[0], None) for _ in range(9))


def test_a_replay_reads_the_batch_that_it_is_given():
    total = torch.zeros(())
    steps = StepGraphs(lambda batch: total.add_(batch.sum()), Recorder())
    for number in range(10):
        steps(torch.tensor([number, 0]), "kind")
    assert total.item() == sum(range(10))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("spec", [*EVERYTHING, *VARIANTS], ids=lambda spec: spec.run_id)
def test_on_a_gpu_captured_and_eager_steps_agree(spec):
    trainings = []
    for graphs in (False, True):
        training = Training(spec, Path("/nowhere"), "cuda", graphs=graphs)
        training.train(Watch())
        trainings.append(training)
    eager, captured = trainings
    for name, tensor in eager.model.state_dict().items():
        found = captured.model.state_dict()[name]
        torch.testing.assert_close(found, tensor, rtol=1e-3, atol=1e-4, msg=name)
    assert captured.pruner.updates == eager.pruner.updates
    assert captured.optimizer.steps == spec.total_steps
    one, other = captured.trace.record(), eager.trace.record()
    assert (one["lr"], one["resets"]) == (other["lr"], other["resets"])
    assert one["norm"] == pytest.approx(other["norm"], rel=0.05, abs=1e-3)
