"""What a run says of itself is believed only where it makes sense."""

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adamwprune.base.metrics import LOSS
from adamwprune.config.tree import Tree
from adamwprune.plan.matrix import expand
from adamwprune.progress import rows
from adamwprune.progress.live import summary
from adamwprune.progress.reading import Reading
from adamwprune.progress.rows import Row
from adamwprune.records.store import PROGRESS
from tests.support.records import BITS, in_bits, synthetic

SPEC = expand(Tree()).specs[0]
STEPS, EPOCHS = SPEC.total_steps, SPEC["EPOCHS"]
EVENT = {
    "event": "progress",
    "epoch": 3,
    "epochs": EPOCHS,
    "step": 30,
    "steps": STEPS,
    "train_loss": 0.25,
    "train_accuracy": 0.9,
    "test_accuracy": 0.95,
    "sparsity": 0.5,
    "rate": 12.5,
    "seconds": 3.0,
    "started_at_step": 0,
    "device": "cuda:1",
    "threads": 4,
    "pid": 123,
    "updated": 1e9,
}


def test_a_reading_is_what_the_event_says():
    found = Reading.of(SPEC, EVENT)
    assert (found.step, found.steps, found.left) == (30, STEPS, STEPS - 30)
    assert (found.epoch, found.epochs) == (min(3, EPOCHS), EPOCHS)
    assert (found.trained, found.score, found.sparsity) == (0.25, 95, 0.5)
    assert (found.rate, found.device, found.threads) == (12.5, "cuda:1", 4)


@pytest.mark.parametrize("value", [None, "12", math.nan, math.inf, -1, True, [], {}, 10**400])
def test_what_makes_no_sense_is_unknown(value):
    found = Reading.of(SPEC, dict.fromkeys(EVENT, value))
    assert (found.step, found.left) == (0, STEPS)
    assert (found.rate, found.score, found.sparsity) == (None, None, None)
    assert (found.device, found.threads) == (value if isinstance(value, str) else "cpu", 1)
    assert found.trained in (None, -1)


@given(st.dictionaries(st.sampled_from(sorted(EVENT)), st.one_of(st.floats(), st.integers())))
def test_any_numbers_can_be_shown(plain):
    found = Reading.of(SPEC, plain)
    assert 0 <= found.step <= STEPS
    for width in (20, 80, 200):
        lines = rows.table([Row(SPEC, found, 1e7)], width, (rows.LEFT, rows.DEVICE, rows.AGE))
        assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("rate", [5e-324, 1e-300, 1e-7])
def test_a_rate_by_which_a_run_would_never_end_is_none(rate):
    assert Reading.of(SPEC, {**EVENT, "rate": rate}).rate is None


def test_a_file_is_read(tmp_path):
    assert Reading.read(SPEC, tmp_path) is None
    (tmp_path / PROGRESS).write_text(json.dumps(EVENT))
    assert Reading.read(SPEC, tmp_path) == Reading.of(SPEC, EVENT)


@pytest.mark.parametrize(
    "content", [b"", b'{"step": 3', b"[1]", b"3", b"null", b"\xff\xfe", b"[" * 100_000]
)
def test_a_damaged_file_says_nothing(tmp_path, content):
    (tmp_path / PROGRESS).write_bytes(content)
    assert Reading.read(SPEC, tmp_path) is None


# -- another metric than accuracy ---------------------------------------------------

BITTEN = {
    **EVENT,
    "metrics": [BITS.to_json(), LOSS.to_json()],
    "train_bits_per_byte": 1.5,
    "test_bits_per_byte": 1.2345,
}


def test_an_event_says_what_its_run_is_judged_by():
    found = Reading.of(SPEC, BITTEN)
    assert (found.metrics, found.score, found.trained) == ((BITS, LOSS), 1.2345, 0.25)
    alone = Reading.of(SPEC, {**BITTEN, "metrics": [BITS.to_json()]})
    assert (alone.score, alone.trained) == (1.2345, 1.5)


@pytest.mark.parametrize(
    "metrics", [None, {}, "accuracy", [1], [{}], [{**BITS.to_json(), "scale": "1"}]]
)
def test_metrics_that_make_no_sense_are_none(metrics):
    found = Reading.of(SPEC, {**BITTEN, "metrics": metrics})
    assert (found.metrics, found.score, found.trained) == ((), None, None)
    assert rows.table([Row(SPEC, found)], 120)[0].split()[:4] == [
        "run",
        "epoch",
        "training",
        "result",
    ]


def test_columns_are_named_after_the_metrics():
    bits, accuracy = Row(SPEC, Reading.of(SPEC, BITTEN)), Row(SPEC, Reading.of(SPEC, EVENT))
    head, line = rows.table([bits], 120)
    assert re.split("  +", head)[1:4] == ["epoch", "loss", "bits per byte"]
    assert line.split()[2:4] == ["0.2500", "1.234"]
    head, *lines = rows.table([bits, accuracy, Row(SPEC)], 120)
    assert re.split("  +", head)[1:4] == ["epoch", "loss", "result"]
    assert [line.split()[3] for line in lines[:2]] == ["1.234", "95.00%"]
    alone = Reading.of(SPEC, {**BITTEN, "metrics": [BITS.to_json()]})
    assert re.split("  +", rows.table([Row(SPEC, alone)], 120)[0])[2:4] == [
        "training",
        "bits per byte",
    ]


def test_a_run_that_has_ended_is_told_in_its_unit():
    line = summary(SPEC, in_bits(synthetic(SPEC)))
    assert re.search(r"  1\.\d{3} bits per byte  ", line)


def test_a_run_whose_length_is_in_steps_is_at_a_step():
    tree = Tree()
    tree.set("STEPS", "1000")
    (spec,) = expand(tree).specs
    found = Reading.of(spec, {**EVENT, "step": 300, "epoch": 1})
    assert (found.epoch, found.epochs) == (None, 0)
    head, line = rows.table([Row(spec, found)], 120)
    assert (head.split()[1], line.split()[1]) == ("step", "300/1000")
    head, line, _ = rows.table([Row(spec, found), Row(SPEC, Reading.of(SPEC, EVENT))], 120)
    assert (head.split()[1], line.split()[1]) == ("course", "300/1000")
