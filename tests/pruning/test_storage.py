"""Masks: the same bits in a byte, in a bit and in nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adamwprune.models.lenet5 import FusedLeNet5
from adamwprune.optimizers import AdamW
from adamwprune.pruning import Magnitude, Pruner, Schedule
from adamwprune.pruning.select.parts import Part
from adamwprune.pruning.storage import STORAGES, pack, unpack


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


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_numbers_are_zeroed_where_a_weight_is_pruned_and_nowhere_else(storage, layout, dtype):
    weight = torch.randn(2, 3, 4, 5).to(dtype).to(memory_format=torch.channels_last)
    pruned = torch.rand(2, 3, 4, 5) < 0.5
    pruned[0, 0, 1, :3] = True
    weight[pruned] = -0.0
    weight[1, 0, 0, 0], pruned[1, 0, 0, 0] = 0.0, False  # live, and zero for a moment
    states = {"exp_avg": torch.where(pruned, 0.0, -1.0), "exp_avg_sq": torch.zeros(2, 3, 4, 5)}
    masks = STORAGES[storage]({"w": weight})
    masks.put("w", Part(0, 120), pruned.view(-1))
    gradient = torch.randn(2, 3, 4, 5).to(dtype)
    gradient[0, 0, 1, :3] = torch.tensor([torch.inf, torch.nan, -torch.inf])
    pruned[1, 1, 1, 1] = False
    weight[1, 1, 1, 1] = 1
    masks.put("w", Part(0, 120), pruned.view(-1))
    gradient[1, 1, 1, 1] = torch.inf  # of a live weight: it must not be hidden
    found = gradient.clone(memory_format=torch.contiguous_format).to(memory_format=layout)
    masks.zero("w", found, states)
    assert torch.equal(found, torch.where(pruned, 0.0, gradient).to(dtype))
    assert found[1, 1, 1, 1] == torch.inf
    assert torch.equal(masks.flags("w", Part(8, 24), states), pruned.view(-1)[8:24].float())
