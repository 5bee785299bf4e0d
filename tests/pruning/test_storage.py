"""Masks: the same bits in a byte, in a bit and in nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adamwprune.models.lenet5 import FusedLeNet5
from adamwprune.optimizers import AdamW
from adamwprune.pruning import Magnitude, Pruner, Schedule
from adamwprune.pruning.storage import pack, unpack


@given(st.lists(st.booleans(), max_size=40), st.sampled_from([1, 2, 4]))
def test_packing_is_undone_by_unpacking(values, rows):
    mask = torch.tensor(values * rows, dtype=torch.bool).view(rows, len(values))
    packed = pack(mask)
    assert packed.dtype == torch.uint8
    assert packed.numel() == -(-mask.numel() // 8)
    assert torch.equal(unpack(packed, mask.shape), mask)


def test_the_first_weight_is_in_the_lowest_bit():
    mask = torch.tensor([[True, False, False], [True, False, False], [False, True, False]])
    assert pack(mask).tolist() == [0b10001001, 0]
    assert pack(mask.t()).tolist() == [0b00100011, 0], "indices count, not places in memory"


@pytest.mark.parametrize(("storage", "size"), [("bool", 61_470), ("bits", 7_684), ("implied", 0)])
def test_bytes_of_lenet5s_masks(storage, size):
    model = FusedLeNet5()
    optimizer = AdamW(model.parameters())
    schedule = Schedule(target=0.9, warmup=0, interval=1, ramp_end=2)
    pruner = Pruner(model, Magnitude(), schedule, storage=storage).attach(optimizer)
    for _ in range(3):
        model(torch.randn(4, 1, 32, 32)).square().sum().backward()
        optimizer.step()
    pruner.verify()
    masks = pruner.buffers().get("masks", [])
    assert sum(mask.untyped_storage().nbytes() for mask in masks) == size
    saved = pruner.state_dict()
    packed = saved["masks"].values()
    assert sum(mask.untyped_storage().nbytes() for mask in packed) == (7_684 if size else 0)
    pruner.load_state_dict(saved)
    masks = pruner.buffers().get("masks", [])
    assert sum(mask.untyped_storage().nbytes() for mask in masks) == size
    pruner.verify()
