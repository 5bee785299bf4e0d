"""What a record says of a training besides its results: overlap, density, speed, the GPU."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from adamwprune.base.kinds import Images, Tokens
from adamwprune.base.sparsity import mean_density
from adamwprune.optimizers import SGD, AdamW
from adamwprune.plan.spec import RunSpec
from adamwprune.pruning import (
    Magnitude,
    Movement,
    Pruner,
    Random,
    RigL,
    Schedule,
    Score,
    Set,
    State,
)
from adamwprune.pruning.update import kept_by
from adamwprune.run.weights import digest
from adamwprune.train.loop import Training
from adamwprune.train.measure import overlap, sensors, speed
from adamwprune.train.measure.clock import Clock
from adamwprune.train.measure.overlap import AGREEMENT, OVERLAP, Overlap
from adamwprune.train.measure.phase_peaks import MASK_UPDATE, STEADY, Phases
from adamwprune.train.measure.sensors import Sensors
from adamwprune.train.measure.timeline import Timeline
from adamwprune.train.measure.update_peak import UpdateMeter
from tests.pruning.networks import network
from tests.pruning.networks import train as train_network
from tests.support.allocator import Allocator
from tests.support.runs import toy_specs


class Given(Score):
    """The same scores at every update."""

    scores_untrained = True

    def __init__(self, scores: list[float]) -> None:
        self._scores = torch.tensor(scores)

    def score(self, weight: Any, state: Any, part: Any) -> torch.Tensor:
        return part.of(self._scores).clone()


def pruned(score: Score, schedule: Schedule, weights: list[float]) -> Pruner:
    """A layer of one output, pruned as its optimizer steps, which moves nothing."""
    layer = nn.Linear(len(weights), 1, bias=False)
    layer.weight.data = torch.tensor([weights])
    pruner = Pruner(layer, score, schedule)
    Overlap(Clock()).attach(pruner)
    optimizer = SGD(layer.parameters(), 1.0)
    pruner.attach(optimizer)
    for _ in range(schedule.ramp_end):
        layer.weight.grad = torch.zeros_like(layer.weight)
        optimizer.step()
    return pruner


# -- overlap ---------------------------------------------------------------------------


def test_the_overlap_by_hand():
    """Of 8 weights magnitude keeps the last 4. Of these, the scores keep none, 3 and 4."""
    weights = [0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, -0.8]
    for scores, expected, beyond_chance in (
        ((8, 7, 6, 5, 4, 3, 2, 1), 0.0, -1.0),
        ((9, 0, 0, 0, 1, 2, 3, 4), 0.75, 0.5),
        ((1, 2, 3, 4, 5, 6, 7, 8), 1.0, 1.0),
    ):
        pruner = pruned(Given([float(s) for s in scores]), Schedule.one_shot(0.5, 1), weights)
        (update,) = pruner.updates
        assert (update[OVERLAP], update[AGREEMENT]) == (expected, beyond_chance)


def test_candidates_are_those_that_are_not_pruned_yet():
    """Two of 8 go at step 1, both of the largest; then two more, of which magnitude takes one."""
    schedule = Schedule(0.5, warmup=0, interval=1, ramp_end=2, shape="linear")
    scores = [3.0, 4.0, 5.0, 8.0, 7.0, 9.0, 1.0, 2.0]
    pruner = pruned(Given(scores), schedule, [0.1, 0.4, 0.3, 0.2, 0.5, 0.6, 0.7, 0.8])
    assert [each["zeros"] for each in pruner.updates] == [2, 4]
    # Magnitude keeps 0.3 to 0.8: of the six that are kept 0.1 and 0.2 are not among them. Then
    # 0.1 and 0.4 go, magnitude takes 0.1 and 0.2: of 0.3, 0.2, 0.5, 0.6 it would keep three.
    assert [each[OVERLAP] for each in pruner.updates] == [4 / 6, 3 / 4]
    # κ = (agreement − chance) / (1 − chance): of those pruned 0 of 2, by chance 2/8; 1 of 2, 2/6.
    kappas = [(0 - 2 / 8) / (6 / 8), (1 / 2 - 2 / 6) / (4 / 6)]
    assert [each[AGREEMENT] for each in pruner.updates] == pytest.approx(kappas)


SCORES = {
    "magnitude": (Magnitude, "bits"),
    "random": (Random, "bool"),
    "state": (State, "implied"),
    "movement": (Movement, "bool"),
    "set": (Set, "bool"),
    "rigl": (RigL, "bits"),
}


@pytest.mark.parametrize("method", SCORES)
def test_the_overlap_is_that_of_a_sort(method):
    """At every update, since there are few; computed beside it and without the selection."""
    expected = []

    def around(update):
        sizes = torch.cat([w.detach().abs().flatten() for w in pruner.weights.values()])
        if not pruner.score.returns and pruner.updates:
            sizes[masks()] = -1
        update()
        kept, by_size = ~masks(), torch.ones_like(masks())
        by_size[sizes.sort(stable=True).indices[: pruner.k]] = False
        pruned = ~kept if pruner.score.returns else ~kept & (sizes >= 0)
        found = [float((kept & by_size).sum() / kept.sum())]
        if not pruner.score.regrows:
            candidates = kept | pruned
            chance = pruned.sum() / candidates.sum()
            agreement = (pruned & ~by_size).sum() / pruned.sum()
            found.append(float((agreement - chance) / (1 - chance)))
        expected.append(found)

    def masks():
        found = [pruner.masks.mask(name, pruner.states(name)) for name in pruner.weights]
        return torch.cat([mask.flatten() for mask in found])

    model = network()
    score, storage = SCORES[method]
    pruner = Pruner(model, score(), Schedule(0.9, 10, 10, 50), "global", storage)
    pruner.around_update = around
    Overlap(Clock()).attach(pruner)
    optimizer = AdamW(model.parameters(), 1e-2)
    pruner.attach(optimizer)
    train_network(model, optimizer, 50)
    names = (OVERLAP, AGREEMENT)
    measured = [[each[name] for name in names if name in each] for each in pruner.updates]
    assert measured == [pytest.approx(each, rel=1e-5, abs=1e-6) for each in expected]
    assert (measured == [[1.0, 1.0]] * 4) == (method == "magnitude")


@pytest.mark.parametrize("scope", ["layer", "erk", "2-4"])
def test_the_overlap_is_of_the_same_scope(scope):
    """Magnitude in disguise keeps what magnitude keeps; in another scope it would not."""

    class Disguised(Magnitude):
        def score(self, weight, state, part):
            return super().score(weight, state, part)

    model = network()
    target = 0.5 if scope == "2-4" else 0.9
    pruner = Pruner(model, Disguised(), Schedule(target, 10, 10, 50), scope)
    Overlap(Clock()).attach(pruner)
    optimizer = AdamW(model.parameters(), 1e-2)
    pruner.attach(optimizer)
    train_network(model, optimizer, 50)
    assert [each[OVERLAP] for each in pruner.updates] == [1.0] * 4


def test_ten_updates_are_measured_and_the_last_one():
    pruner = pruned(Given([1.0, 2.0] * 500), Schedule(0.9, 100, 1, 600), [0.1] * 1000)
    measured = [each["step"] for each in pruner.updates if OVERLAP in each]
    assert measured == [101, *range(150, 601, 50)]
    few = pruned(Given([1.0, 2.0] * 5), Schedule(0.9, 1, 1, 4), [0.1] * 10)
    assert all(OVERLAP in each for each in few.updates)
    constant = pruned(Given([1.0, 2.0] * 5), Schedule.constant(0.5, 2, 40), [0.1] * 10)
    assert [e["step"] for e in constant.updates if OVERLAP in e] == list(range(0, 41, 4))


def test_weights_that_are_no_numbers_have_no_overlap_and_end_no_run():
    pruner = pruned(Random(), Schedule.one_shot(0.5, 1), [0.1, float("nan"), 0.3, 0.4])
    assert OVERLAP not in pruner.updates[0]


def test_the_bytes_of_an_overlap_are_in_no_peak_and_its_seconds_in_no_lap(monkeypatch):
    gpu, clock = Allocator(), Clock()
    phases = Phases(gpu)
    phases.enter(STEADY)

    def costly(*given):
        gpu.most = 900
        return kept_by(*given)

    monkeypatch.setattr(overlap, "kept_by", costly)
    layer = nn.Linear(8, 1, bias=False)
    pruner = Pruner(layer, Given([float(n) for n in range(8)]), Schedule.constant(0.5, 1, 1))
    UpdateMeter(phases).attach(pruner)
    Overlap(clock, phases).attach(pruner)
    pruner.attach(SGD(layer.parameters(), 0.0))
    assert OVERLAP in pruner.updates[0]
    assert phases.record() == {STEADY: 0, MASK_UPDATE: 0}
    assert clock.totals["measure"] > 0


def test_seconds_aside_are_not_the_laps(monkeypatch):
    times = iter([10.0, 13.0, 18.0, 20.0])  # start, aside from 13 to 18, lap
    monkeypatch.setattr(time, "perf_counter", lambda: next(times))
    clock = Clock()
    with clock.aside("measure"):
        pass
    clock.lap("train")
    assert clock.totals == {"measure": 5.0, "train": 5.0}


@pytest.mark.parametrize("method", ["state", "random", "movement", "rigl"])
def test_a_run_has_the_same_bits_with_and_without(method, toys, tmp_path, monkeypatch):
    (spec,) = toy_specs(OPTIMIZER="adamwprune", PRUNING_METHOD=method)
    measuring = trained(spec, tmp_path)
    monkeypatch.setattr(Overlap, "attach", lambda self, pruner: self)
    plain = trained(spec, tmp_path)
    assert digest(plain.model.state_dict()) == digest(measuring.model.state_dict())
    assert torch.equal(torch.get_rng_state(), plain.state_dict()["random"]["cpu"])
    found, expected = measuring.outcome(), plain.outcome()
    for measured in (OVERLAP, AGREEMENT):
        values = [each.pop(measured, 1.0) for each in found["pruning"]["updates"]]
        assert all(-1 <= each <= 1 for each in values)
    for part in ("pruning", "memory", "trace", "final"):
        assert found[part] == expected[part]


def trained(spec: RunSpec, folder: Path) -> Training:
    """A training that is done."""
    training = Training(spec, folder, "cpu")
    training.train(Nobody())
    return training


class Nobody:
    """Looks on, and does nothing."""

    def stepped(self, training: Training) -> None: ...

    def evaluated(self, training: Training, entry: dict[str, float]) -> None: ...


def test_a_resumed_run_measures_the_same_updates(toys, tmp_path):
    (spec,) = toy_specs(OPTIMIZER="adamw", PRUNING_METHOD="state")
    whole = trained(spec, tmp_path).outcome()["pruning"]
    first = Training(spec, tmp_path, "cpu")
    while first.step < 15:
        first.model.train()
        first._one_step(None)
    resumed = Training(spec, tmp_path, "cpu")
    resumed.load_state_dict(first.state_dict())
    resumed.train(Nobody())
    assert resumed.outcome()["pruning"] == whole


# -- density and speed ------------------------------------------------------------------


def test_the_mean_density_by_hand():
    """10 weights, 8 steps: 2 pruned from the start, 4 after step 3, 8 after step 5."""
    updates = [{"step": 3, "zeros": 4}, {"step": 5, "zeros": 8}]
    assert mean_density(10, 2, updates, 8) == pytest.approx((3 * 8 + 2 * 6 + 3 * 2) / 80)
    assert mean_density(10, 0, [{"step": 0, "zeros": 9}], 5) == pytest.approx(0.1)
    assert mean_density(10, 0, [], 8) == mean_density(0, 0, [], 0) == 1.0


def test_examples_a_second():
    assert speed.examples_seen(steps=7, examples=10, batch=4) == 10 + 10 + 4
    assert speed.examples_seen(steps=6, examples=8, batch=4) == 24
    images = speed.throughput(24, 2.0, Images(1, 28, 10))
    assert images == {"examples": 24, "examples_per_second": 12.0}
    assert speed.throughput(24, 2.0, Tokens(256, 64))["tokens_per_second"] == 768.0
    assert speed.throughput(24, 0.0, Tokens(256, 64)) == {}


def test_a_run_counts_the_examples_that_it_has_seen(toys, tmp_path):
    (spec,) = toy_specs(OPTIMIZER="adamw", PRUNING_METHOD="none")
    training = trained(spec, tmp_path)
    found = training.outcome()
    assert found["speed"]["examples"] == spec["EPOCHS"] * training.data.examples
    rate = found["speed"]["examples"] / found["seconds"]["train"]
    assert found["speed"]["examples_per_second"] == pytest.approx(rate)


# -- the GPU ---------------------------------------------------------------------------


class NVMLError(Exception):
    pass


def nvml(**other: Any) -> Any:
    """The module as nvidia-ml-py has it, of one device."""
    calls = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": {"GPU-12-34": "the device"}.__getitem__,
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=75, memory=10),
        "nvmlDeviceGetPowerUsage": lambda handle: 412_500,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=3 << 30),
    }
    return SimpleNamespace(**{**calls, **other})


def refused(*given: Any) -> Any:
    raise NVMLError("Not Supported")


@pytest.fixture
def device(monkeypatch):
    properties = SimpleNamespace(uuid="12-34")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    return torch.device("cuda")


def test_what_the_driver_reports(device, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    found = {name: read() for name, read in sensors.readings(device).items()}
    assert found == {"utilization": 0.75, "power": 412.5, "memory": 3 << 30}
    partly = nvml(nvmlDeviceGetUtilizationRates=refused)  # as a part of a GPU does
    monkeypatch.setitem(sys.modules, "pynvml", partly)
    assert sensors.readings(device).keys() == {"power", "memory"}


def test_nothing_is_reported_without_the_module_the_driver_or_a_gpu(device, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    assert sensors.readings(torch.device("cpu")) == {}
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlInit=refused))
    assert sensors.readings(device) == {}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert sensors.readings(device) == {}


def test_samples_are_columns_and_their_number_is_bounded(monkeypatch):
    monkeypatch.setattr(sensors, "MOST", 8)
    found = Sensors({"power": lambda: 300.0})
    for step in range(0, 400, 10):
        found.sample(step, step / 20)  # two steps of ten a second
    assert found.columns["step"] == [0, 80, 160, 240, 320]
    assert len(found.columns["power"]) == len(found.columns["seconds"]) <= 8 + 2


def test_samples_are_not_closer_than_half_a_second_and_end_with_the_first_error():
    powers = iter([1.0, 2.0])
    found = Sensors({"power": lambda: next(powers, None) or refused()})
    for step in range(0, 100, 10):
        found.sample(step, step / 100)
    assert found.columns == {"step": [0, 50], "seconds": [0.0, 0.5], "power": [1.0, 2.0]}
    found.sample(200, 2.0)
    assert found.columns["step"] == [0, 50]
    assert not found.readings


def test_a_timeline_keeps_samples_over_a_resume(monkeypatch):
    timeline = Timeline(torch.device("cpu"))
    timeline.allocator, timeline.sensors = Allocator(), Sensors({"power": lambda: 5.0})
    for step in range(1, 21):
        timeline.sample(step)
    assert timeline.sensors.columns["step"] == [10]  # step 20 was less than half a second later
    again = Timeline(torch.device("cpu"))
    again.load_state_dict(timeline.state_dict())
    assert again.sensors.columns == timeline.sensors.columns
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 0)
    phases = Phases(Allocator())
    assert again.record(phases)["sensors"]["power"] == [5.0]
    assert "sensors" not in Timeline(torch.device("cpu")).record(phases)
