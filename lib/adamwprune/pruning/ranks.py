"""The same masks on every rank of a training whose gradients are averaged over ranks (DDP).

Each rank chooses for itself: from weights, reduced gradients and states that are equal on all of
them, with ties broken by index and random numbers from a seed, all choose the same. No scores are
sent. What differs from rank to rank is what its layers read, so sums over examples are added up;
and after each update a digest of masks and weights is compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from adamwprune.pruning.contract import ContractViolation, violation
from adamwprune.pruning.pruned import PrunedWeights
from adamwprune.pruning.score import Score
from adamwprune.pruning.select.parts import parts

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_ODD = 0x1E3779B97F4A7C15  # any large odd number


class RanksDiffer(ContractViolation):
    """The ranks of a training have not the same masks or weights."""


class Ranks:
    """The ranks of ``group``, all of which prune the same weights at the same steps.

    Its calls are collective: every rank makes them, in the same order.
    """

    def __init__(self, group: ProcessGroup) -> None:
        self.group = group
        self._before: dict[Tensor, Tensor] = {}  # sums over examples, equal on all ranks

    def add_up(self, sums: Iterable[Tensor]) -> None:
        """Make each of ``sums``, which grow step by step, that over all ranks' examples."""
        found = list(sums)
        if not found:
            return
        before = [self._before.get(each, torch.zeros_like(each)) for each in found]
        seen = torch.cat([(now - old).view(-1) for now, old in zip(found, before, strict=True)])
        dist.all_reduce(seen, group=self.group)
        added = seen.split([each.numel() for each in found])
        for now, old, more in zip(found, before, added, strict=True):
            torch.add(old, more.view_as(old), out=now)
        self.note(found)

    def note(self, sums: Iterable[Tensor]) -> None:
        """Take ``sums`` for what all ranks have, as after a checkpoint was loaded."""
        self._before = {each: each.clone() for each in sums}

    def compare(self, pruned: PrunedWeights) -> None:
        """Raise :class:`RanksDiffer` on all ranks if masks or weights are not equal on all,
        naming the first layer that differs. One all-gather of 16 bytes a layer.
        """
        ours = torch.stack([digest(pruned, name) for name in pruned.weights])
        theirs = [torch.empty_like(ours) for _ in range(dist.get_world_size(self.group))]
        dist.all_gather(theirs, ours, group=self.group)
        for rank, each in enumerate(theirs):
            if not torch.equal(each, theirs[0]):
                at = int((each != theirs[0]).any(1).nonzero()[0])
                masks = "masks" if each[at, 0] != theirs[0][at, 0] else "weights"
                raise RanksDiffer(
                    f"{violation(pruned, f'the {masks} of {list(pruned.weights)[at]} differ')} "
                    f"between rank 0 and rank {rank}; do the ranks begin with equal weights, and "
                    "are gradients averaged over them before each step?"
                )


def every(group: ProcessGroup, device: torch.device, ours: Mapping[str, Any]) -> list[Any]:
    """What each rank of ``group`` has in place of ``ours``; nothing where all have the same.

    Plain data; a collective call. One all-gather of 8 bytes, unless they differ.
    """
    words = json.dumps(ours, sort_keys=True, default=str).encode()
    number = int.from_bytes(hashlib.sha256(words).digest()[:8], "little", signed=True)
    mine = torch.tensor([number], device=device)
    found = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(found, mine, group=group)
    if all(torch.equal(each, found[0]) for each in found):
        return []
    told: list[Any] = [None] * len(found)
    dist.all_gather_object(told, dict(ours), group=group)
    return told


def digest(pruned: PrunedWeights, name: str) -> Tensor:
    """Of a layer's mask and of its weights, int64 [2]: equal ones have equal ones, and others
    have not, but for a chance of about 2⁻⁶⁴.
    """
    weight = pruned.weights[name]
    found = torch.zeros(2, dtype=torch.int64, device=weight.device)
    for part in parts(weight):
        number = torch.arange(part.start + 1, part.stop + 1, device=weight.device)
        factors = _mixed(number)  # which makes 0 of 0 alone
        bits = part.of(weight.detach()).contiguous().view(_INTEGERS[weight.element_size()])
        found[0] += (pruned.mask_part(name, part) * factors).sum()
        found[1] += (_mixed(bits.long() ^ factors)).sum()
    return found


def _mixed(numbers: Tensor) -> Tensor:
    """A one-to-one map of 64-bit numbers; products wrap around."""
    numbers = (numbers ^ (numbers >> 32)) * _ODD
    numbers = (numbers ^ (numbers >> 29)) * _ODD
    return numbers ^ (numbers >> 32)


def ranks_of(model: nn.Module, group: ProcessGroup | None, score: Score) -> Ranks | None:
    """Of ``group``, or of a model that is wrapped for data-parallel training."""
    if group is None and isinstance(model, DistributedDataParallel):
        group = model.process_group
    if group is None:
        return None
    if score.observes_inputs and type(score).sums_over_examples is Score.sums_over_examples:
        raise ValueError(
            f"{type(score).__name__} observes inputs, which differ from rank to rank: it needs "
            "sums_over_examples()"
        )
    return Ranks(group)
