"""The z-score by one kernel: as by torch, compiled without a GPU, and left out where missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from adamwprune.optimizers import Spam, _adam
from adamwprune.optimizers._spam import NormWindow
from adamwprune.optimizers._spam_triton import is_spike
from tests.support import kernels
from tests.support.runs import specs, toy_specs

CASES = Path(__file__).with_name("spam_triton_cases.py")
ON = {"SPAM_TRITON": "y"}


@pytest.mark.slow
@pytest.mark.parametrize("interpreted", kernels.WAYS)
def test_the_cases(interpreted):
    kernels.run_cases(CASES, interpreted)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_compiles(architecture, dtype, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    with kernels.noted() as found:
        count = torch.zeros(1, dtype=torch.int64)
        is_spike(torch.ones((), dtype=dtype), torch.zeros(100), count, 10, 2.0)
    ((kernel, arguments),) = found
    _, resources = kernels.compiled(kernel, arguments, architecture, tmp_path)
    assert "0 bytes spill stores, 0 bytes spill loads" in resources


def test_it_is_an_option_where_there_is_a_z_score():
    (asked,), (usual,) = (specs(OPTIMIZER="adamwspam", **words) for words in (ON, {}))
    assert asked.run_id != usual.run_id, "sums are in another order"
    assert Spam.from_values(asked.values) == Spam(zscore=True, triton=True)
    assert Spam.from_values(usual.values) == Spam.zscore_mode()
    without, with_it = specs(OPTIMIZER="adamw adamwspam", **ON)
    assert "SPAM_TRITON" not in without
    assert with_it.run_id == asked.run_id


def test_on_a_cpu_it_is_not_used():
    window = NormWindow({}, triton=True)
    assert not window.is_spike(torch.ones(()))


@pytest.mark.usefixtures("toys")
def test_without_a_compiler_a_run_trains_as_before_and_says_so(train, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(_adam, "missing_for_triton", lambda: "no C compiler")
    events = []
    result = train(toy_specs(OPTIMIZER="adamwspam", **ON)[0], events.append)
    (note,) = [e["text"] for e in events if e["event"] == "note" and "TRITON" in e["text"]]
    assert note == "SPAM_TRITON: trained without, no C compiler"
    assert [attempt["note"] for attempt in result.environment["attempts"]] == [note]
    usual = train(toy_specs(OPTIMIZER="adamwspam")[0], name="without")
    assert result.weights == usual.weights
