"""A language model's run: killed and continued to the same bits, exactly k pruned, a sample."""

from __future__ import annotations

import pytest

from adamwprune import datasets
from adamwprune.plan import measured, shapes
from adamwprune.plan.spec import RunSpec
from adamwprune.records.store import SAMPLE, Store
from adamwprune.run import runner
from adamwprune.train.answering import shapes as shapes_of
from tests.run.test_resume import Killed, killer, record
from tests.support.runs import specs

PRUNABLE = 2 * 12 * 16**2
METHODS = "none magnitude movement state set rigl"


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Specs of a small GPT on a small text; what planning asks is answered in this process."""
    (tmp_path / "text.txt").write_text("the cat sat on a mat and sang to all of us. " * 40)
    here = lambda values, data_dir: (datasets.measure(values, data_dir).values, [])  # noqa: E731
    monkeypatch.setattr(measured, "measured", here)
    monkeypatch.setattr(shapes, "prunable_shapes", lambda spec: shapes_of(spec.settings))
    monkeypatch.setattr(runner, "HEARTBEAT", 0)
    words = {
        "MODEL": "gpt", "GPT_LAYERS": "2", "GPT_WIDTH": "16", "GPT_HEADS": "2", "BLOCK": "8",
        "DATASET": "text-file", "TEXT_FILE": str(tmp_path / "text.txt"), "STEPS": "20",
        "BATCH_SIZE": "8", "OPTIMIZER": "adamw",
    }  # fmt: skip
    return lambda **settings: specs(**{**words, **settings})


def spec_of(planned, method: str) -> RunSpec:
    (spec,) = planned(PRUNING_METHOD=method)
    return spec


@pytest.mark.parametrize("method", METHODS.split())
def test_killed_and_continued_it_ends_with_the_same_bits_and_exactly_k(planned, train, method):
    spec = spec_of(planned, method)
    whole = train(spec, name="whole")
    assert whole.status == "done", whole.error
    with pytest.raises(Killed):
        train(spec, killer(7), name="killed", checkpoint_seconds=0)
    result = train(spec, name="killed")
    assert [attempt["from_step"] for attempt in result.environment["attempts"]] == [0, 7]
    assert record(result) == record(whole)
    assert whole.pruning["prunable"] == PRUNABLE
    if method != "none":
        assert whole.pruning["k"] == round(0.9 * PRUNABLE)
        extra = whole.pruning["zeros"] - whole.pruning["k"]  # grown, and without a gradient so far
        assert 0 <= extra <= (5 if method in ("set", "rigl") else 0)
    assert set(whole.final) == {
        f"{part}_{name}"
        for part in ("train", "test")
        for name in ("loss", "bits_per_byte", "perplexity")
    }
    assert whole.judged_by[0].name == "loss"


def at_the_end(events, spec):
    """Of a run's events those after its last step."""
    return [event for event in events if event.get("step") == spec.total_steps]


def test_its_text_is_in_its_directory_once_and_disturbs_nothing(
    planned, train, tmp_path, monkeypatch
):
    spec = spec_of(planned, "none")
    events = []
    whole = train(spec, events.append, name=spec.run_id)
    assert len(at_the_end(events, spec)) > 400  # a sign of life with each token, or minutes pass
    written = (tmp_path / spec.run_id / SAMPLE).read_bytes()
    assert len(written) == 400
    monkeypatch.setattr(runner._Run, "_sample", lambda *arguments: None)
    events.clear()
    assert record(train(spec, events.append, name="without")) == record(whole)
    batches = len(list(datasets.load(spec.settings, tmp_path).evaluation()))
    # The last step, each batch of the evaluation, and its end.
    assert len(at_the_end(events, spec)) == 1 + batches + 1
    assert not (tmp_path / "without" / SAMPLE).exists()
    store = Store(tmp_path)
    assert store.sample(spec).encode()[:1] == written[:1] or "�" in store.sample(spec)[:1]
    (tmp_path / spec.run_id / SAMPLE).write_bytes(b"To be\nor\x00 \x1b[31m\xff \xe2\x80\xae<b>")
    assert store.sample(spec) == "To be\nor� �[31m� �<b>"
    assert store.samples([spec, RunSpec({**spec.values, "SEED": 9})]) == {
        spec.run_id: store.sample(spec)
    }
