"""The z-score's kernel against torch's operations: on a GPU, or by Triton's interpreter.

``test_spam_triton.py`` runs these in a process of their own.
"""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("triton")

from adamwprune.optimizers._spam import DEVIATIONS, FEWEST, WINDOW, NormWindow
from adamwprune.optimizers._spam_triton import is_spike

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
ODD = [0.0, 1.0, 1e-30, 1e30, 3.4e38, 1e39, float("inf"), float("nan")]
NORMS = st.one_of(st.floats(0.5, 2.0), st.sampled_from(ODD))


@given(st.lists(NORMS, min_size=1, max_size=130), st.sampled_from([torch.float32, torch.float64]))
@example([1.0] * 12, torch.float32)  # no deviation
@example([1.0, 1.1] * 60 + [2.0], torch.float32)
@example([1.0] * 9 + [100.0, 100.0], torch.float32)  # the tenth norm is none that is judged
@example([0.1, 0.2] * 8 + [float("nan"), float("inf"), 0.5], torch.float64)
def test_it_judges_as_torch_does_and_keeps_the_same_window(norms, dtype):
    kept = {}
    window = NormWindow(kept)
    ring = torch.zeros(WINDOW, device=DEVICE)
    count = torch.zeros(1, dtype=torch.int64, device=DEVICE)
    for norm in torch.tensor(norms, dtype=torch.float64).to(dtype).to(DEVICE):
        expected = window.is_spike(norm)
        found = is_spike(norm, ring, count, FEWEST, DEVIATIONS)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        assert torch.equal(found, expected)
        assert torch.equal(ring, kept["spam_norms"])
        assert torch.equal(count, kept["spam_count"])


def test_spikes_are_found():
    ring = torch.zeros(WINDOW, device=DEVICE)
    count = torch.zeros(1, dtype=torch.int64, device=DEVICE)
    norms = torch.tensor([1.0, 1.1] * 110 + [1.5], device=DEVICE)
    found = [bool(is_spike(norm, ring, count, FEWEST, DEVIATIONS)) for norm in norms]
    assert found == [False] * 220 + [True]
    assert int(count) == 221
