"""How long runs take of which nothing is recorded: from a measured step of each network."""

from __future__ import annotations

import pytest

from adamwprune.base.errors import UserError
from adamwprune.progress import steps
from adamwprune.progress.eta import Paces, Work, remaining
from adamwprune.scheduler.devices import Slot
from tests.support.records import expand

SLOT = Slot("cpu", 1)


class Answers:
    """What a step takes, by batch size; how often it was asked for."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds, self.cache, self.asked = seconds, {}, 0

    def of(self, values):
        self.asked += 1
        if values["BATCH_SIZE"] not in self.seconds:
            raise UserError("no such network")
        self.cache[values["BATCH_SIZE"]] = {"seconds": self.seconds[values["BATCH_SIZE"]]}
        return self.cache[values["BATCH_SIZE"]]

    def known(self, values):
        return self.cache.get(values["BATCH_SIZE"])


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    found = Answers({64: 0.1, 512: 0.5})
    monkeypatch.setattr(steps, "_STEP", found)
    return found


def test_one_step_a_network_says_how_long_all_its_runs_take(answers):
    specs = expand("memory-comparison", BATCH_SIZE="64 512")
    paces = Paces()
    told = steps.learn(paces, specs, SLOT, measure=True)
    assert told == [
        "step    lenet5 on mnist, batch 64: 100 ms, measured on cpu",
        "step    lenet5 on mnist, batch 512: 500 ms, measured on cpu",
    ]
    assert answers.asked == 2
    works = [Work(spec, spec.total_steps) for spec in specs]
    left = remaining([], works, [SLOT], paces, warm=1)
    expected = sum(answers.seconds[s["BATCH_SIZE"]] * s.total_steps for s in specs)
    assert left.p50 == pytest.approx(steps.OVERHEAD * expected, rel=0.01)


def test_without_leave_to_measure_only_what_is_cached_counts(answers):
    specs = expand("sgd", BATCH_SIZE="64 512")
    assert steps.learn(Paces(), specs, SLOT, measure=False) == []
    answers.of({"BATCH_SIZE": 64})
    assert len(steps.learn(Paces(), specs, SLOT, measure=False)) == 1
    assert answers.asked == 1


def test_what_cannot_be_measured_is_not_known(answers, monkeypatch):
    specs = expand("sgd", BATCH_SIZE="32 64")
    assert len(steps.learn(Paces(), specs, SLOT, measure=True)) == 1
    many = expand("memory-comparison", BATCH_SIZE="32")
    answers.asked = 0
    assert steps.learn(Paces(), many, SLOT, measure=True) == []
    assert answers.asked == 1, "once, whatever the number of its runs"
    monkeypatch.setattr(steps.importlib.util, "find_spec", lambda name: None)
    assert steps.learn(Paces(), expand("sgd"), SLOT, measure=True) == [], "PyTorch comes later"


def test_a_step_is_measured(monkeypatch):
    import torch

    from adamwprune.run import pacing

    (spec,) = expand("sgd", DATASET="mnist5k")
    threads = torch.get_num_threads()
    values = {**spec.settings, "PACE_DEVICE": "cpu", "PACE_THREADS": 1, "PACE_HOST": "here"}
    try:
        one = pacing.step({**values, "BATCH_SIZE": 4})["seconds"]
        monkeypatch.setattr(pacing, "MOMENT", 0.0)  # of a larger batch only two examples
        many = pacing.step({**values, "BATCH_SIZE": 4000})["seconds"]
    finally:
        torch.set_num_threads(threads)
    assert 0 < one < many


def test_what_is_done_for_the_first_time_is_no_pace(monkeypatch):
    """Kernels that are compiled first: one plan said 42 hours for ten minutes."""
    import torch

    from adamwprune.run import pacing

    now, took = [0.0], iter([6.0, 0.02, 0.01, 0.03])
    monkeypatch.setattr(pacing.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(pacing.time, "thread_time", lambda: now[0])

    def work():
        now[0] += next(took)

    assert pacing._fastest(work, torch.device("cpu")) == pytest.approx(0.01)
    took = iter([9.0, 5.0])
    assert pacing._fastest(work, torch.device("cpu")) == pytest.approx(5.0), "not repeated"
