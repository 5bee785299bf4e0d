"""What a run says of itself is believed only where it makes sense."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adamwprune.config.tree import Tree
from adamwprune.plan.matrix import expand
from adamwprune.progress import rows
from adamwprune.progress.reading import Reading
from adamwprune.progress.rows import Row
from adamwprune.records.store import PROGRESS

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
