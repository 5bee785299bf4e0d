"""How long a run is, when it is measured, and what goes through the network at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adamwprune import datasets
from adamwprune.base import registry
from adamwprune.base.errors import ConfigError
from adamwprune.base.kinds import Images
from adamwprune.train import data
from adamwprune.train.data import Order
from adamwprune.train.loop import Training
from tests.support.runs import specs

MLP = '''
from torch import nn
from adamwprune.models import Model

def build(values, kind):
    """Without batch normalisation, which sees the parts of a batch."""
    pixels = kind.channels * kind.size**2
    return Model(nn.Sequential(nn.Flatten(), nn.Linear(pixels, kind.classes)), kind)
'''
KCONFIG = """
config MODEL_MLP
	bool "mlp"

config CELL_MODEL
	default "mlp" if MODEL_MLP

config MODEL_TAKES
	default "images" if MODEL_MLP
"""


@pytest.fixture
def mlp(tmp_path):
    (tmp_path / "Kconfig").write_text(KCONFIG)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mlp.py").write_text(MLP)
    with registry.using(tmp_path):
        yield


def in_steps(steps: int, **settings: str):
    """A run of so many steps; an epoch has 16."""
    (spec,) = specs(STEPS=str(steps), **settings)
    return spec


class Watch:
    def stepped(self, training):
        pass

    def evaluated(self, training, entry):
        pass


def test_epochs_are_measured_at_their_ends():
    (spec,) = specs(EPOCHS="3")
    assert (spec.total_steps, spec.epochs, spec.evaluated_after) == (48, 3, (16, 32, 48))
    assert "STEPS" not in spec.identity


@pytest.mark.parametrize(
    ("steps", "after"),
    [
        (1, (1,)),
        (7, (1, 2, 3, 4, 5, 6, 7)),
        (20, (2, 4, 6, 8, 10, 12, 14, 16, 18, 20)),
        (25, (3, 6, 9, 12, 15, 18, 21, 24, 25)),
        (1000, tuple(range(100, 1100, 100))),
    ],
)
def test_steps_are_measured_ten_times_at_most(steps, after):
    spec = in_steps(steps)
    assert (spec.total_steps, spec.evaluated_after) == (steps, after)
    assert "EPOCHS" not in spec.values


@pytest.mark.parametrize(
    ("steps", "interval", "after"),
    [
        (1125, "0.25", (282, 564, 846, 1125)),  # not once more one step before the end
        (10, "0.7", (7, 10)),  # 0.7 x 10 is 7, also in binary
        (7, "1", (1, 2, 3, 4, 5, 6, 7)),
    ],
)
def test_a_part_of_the_training_is_no_fewer_steps_than_it_says(steps, interval, after):
    assert in_steps(steps, EVALUATION_INTERVAL=interval).evaluated_after == after


def test_a_run_in_steps_ends_after_them_and_counts_the_passes(train):
    result = train(in_steps(20, LR="0.01"))
    assert [entry["step"] for entry in result.history] == list(range(2, 22, 2))
    assert [entry["epoch"] for entry in result.history][6:] == [0.875, 1, 1.125, 1.25]
    assert result.final["test_accuracy"] > 0.3


def test_what_is_measured_on_the_way_does_not_change_the_training(train):
    """32 steps are two epochs: other numbers on the way, the same weights."""
    (epochs,) = specs()
    steps, whole = train(in_steps(32), name="steps"), train(epochs, name="epochs")
    assert steps.weights == whole.weights
    assert steps.run_id != whole.run_id
    assert steps.final["test_loss"] == whole.final["test_loss"]
    assert len(steps.history) == 8, "four steps each"


@pytest.mark.parametrize("step", [1, 2, 16, 17])
def test_a_run_in_steps_goes_on_where_it_was_stopped(train, step):
    from adamwprune.run import runner

    asked = iter([False] * (step - 1) + [True] * 9)
    with pytest.raises(runner.Stopped):
        train(in_steps(20), name="stopped", should_stop=lambda: next(asked))
    result, whole = train(in_steps(20), name="stopped"), train(in_steps(20), name="whole")
    assert result.environment["attempts"][-1]["from_step"] == step
    assert result.weights == whole.weights
    assert result.final == whole.final


def test_parts_of_a_batch_add_up_to_its_gradient(mlp):
    trainings = []
    for parts in ("1", "4"):
        (spec,) = specs(MODEL="mlp", EPOCHS="1", ACCUMULATION=parts)
        torch.set_num_threads(1)
        training = Training(spec, Path("/nowhere"), "cpu")
        training.train(Watch())
        trainings.append(training)
    whole, parted = trainings
    assert whole.step == parted.step == 16
    for one, other in zip(whole.model.parameters(), parted.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
        assert not torch.equal(one, torch.zeros_like(one))
    one, other = whole.history[-1], parted.history[-1]
    assert one["train_accuracy"] == pytest.approx(other["train_accuracy"], abs=0.002)
    assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)


def test_the_order_is_a_permutation_a_pass_and_goes_on_from_a_checkpoint():
    def order() -> Order:
        return Order(10, 4, seed=3, device=torch.device("cpu"))

    first = order()
    batches = [first.next() for _ in range(6)]
    assert [len(batch) for batch in batches] == [4, 4, 2] * 2
    passes = [torch.cat(batches[:3]).tolist(), torch.cat(batches[3:]).tolist()]
    numbers = [[number for number, _ in each] for each in passes]
    assert [sorted(each) for each in numbers] == [list(range(10))] * 2
    assert numbers[0] != numbers[1]
    draws = [dict(each) for each in passes]  # another one for an example in each pass
    assert all(draws[0][number] != draws[1][number] for number in range(10))
    assert all(0 <= draw < 2**31 for each in draws for draw in each.values())
    for done in range(6):
        before, after = order(), order()
        for _ in range(done):
            before.next()
        after.load_state_dict(before.state_dict())
        assert torch.equal(after.next(), batches[done]), done


def test_data_are_loaded_once_for_runs_that_read_the_same_values(monkeypatch):
    loads = []
    whole = datasets.load

    def counted(values, data_dir):
        loads.append(values["DATASET"])
        return whole(values, data_dir)

    monkeypatch.setattr(datasets, "load", counted)
    monkeypatch.setattr(data, "_loaded", [])
    takes = Images(1, 32, 10)

    def load(**settings: str):
        (spec,) = specs(**settings)
        return data.loaded(spec.settings, Path("/nowhere"), takes, "cpu")

    assert load() is load(SEED="1", OPTIMIZER="adamw")
    assert len(loads) == 1
    assert load(VALIDATION_EXAMPLES="100").examples == 3_900
    assert load().examples == 4_000
    assert len(loads) == 3


def test_steps_may_be_a_fraction_of_the_training():
    (spec,) = specs(
        STEPS="200",
        OPTIMIZER="adamw",
        PRUNING_METHOD="magnitude",
        PRUNING_WARMUP="0.25",
        PRUNING_INTERVAL="0.05",
        PRUNING_RAMP_END="0.75",
        EVALUATION_INTERVAL="0.25",
        LR_WARMUP="0.1",
    )
    assert spec.evaluated_after == (50, 100, 150, 200)
    assert (spec.settings["PRUNING_WARMUP"], spec.settings["PRUNING_INTERVAL"]) == (50, 10)
    assert (spec.steps("LR_WARMUP"), spec.ramp_end_step) == (20, 150)
    assert spec["PRUNING_WARMUP"] == 0.25, "the identity is what was asked for"


@pytest.mark.parametrize("text", ["1.5", "0.0", "2e3", "-1", "1.0"])
def test_what_is_neither_steps_nor_a_fraction_is_refused(text: str):
    with pytest.raises(ConfigError, match="EVALUATION_INTERVAL"):
        specs(EVALUATION_INTERVAL=text)


def test_a_batch_divides_into_equal_parts():
    with pytest.raises(ConfigError, match="a batch of 256 examples does not divide into so many"):
        specs(ACCUMULATION="3")


def test_steps_and_epochs_may_be_axes_and_one_of_them_counts():
    assert [spec.total_steps for spec in specs(STEPS="10 20")] == [10, 20]
    assert [spec.total_steps for spec in specs(EPOCHS="1 3")] == [16, 48]
