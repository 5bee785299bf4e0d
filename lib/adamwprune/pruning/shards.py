"""Weights of which each rank holds rows (FSDP2): each prunes its own, and only counts are sent.

A rank scores what it holds. The threshold is that of the scores of all ranks: histograms are added
up over them. Of those that equal it the first are chosen in the order of a layer's rows, so that
the masks are those of one process. Adam's states are sharded with their weights, and where these
imply the masks, nothing else is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.tensor import DTensor


def is_sharded(value: object) -> TypeGuard[DTensor]:
    """Whether this is a DTensor; their module, which takes a second to import, is there then."""
    return hasattr(value, "device_mesh")


def local(value: Any) -> Any:
    """What this rank holds of a tensor: all of it, unless it is sharded."""
    if not is_sharded(value):
        return value
    with torch.no_grad():  # else it would be a new tensor, with a history
        return value.to_local()


class Shards:
    """How ``parameters`` are spread over the ranks of :attr:`group`: all its calls are collective.

    Raises ``ValueError`` where they are spread otherwise than by their rows over one group.
    """

    def __init__(self, parameters: Mapping[str, DTensor]) -> None:
        from torch.distributed.tensor import Shard

        meshes = {parameter.device_mesh for parameter in parameters.values()}
        for name, parameter in parameters.items():
            if len(meshes) > 1 or parameter.placements != (Shard(0),):
                places = ", ".join(str(each) for each in parameter.placements)
                raise ValueError(
                    f"the weight {name} is spread over ranks by {places}: only weights whose rows "
                    "are spread over one group of ranks (fully_shard) can be pruned"
                )
        (mesh,) = meshes
        self.group: ProcessGroup = mesh.get_group()
        self.rank, self.ranks = dist.get_rank(self.group), dist.get_world_size(self.group)
        self._device = torch.device(mesh.device_type)

    def sum(self, counts: Tensor) -> Tensor:
        """The sum over all ranks of counts, of any shape, that each rank has."""
        found = counts.to(self._device, copy=True)
        dist.all_reduce(found, group=self.group)
        return found

    def total(self, counts: Sequence[int]) -> list[int]:
        """:meth:`sum` of a list."""
        found: list[int] = self.sum(torch.tensor(counts, dtype=torch.int64)).tolist()
        return found

    def before(self, counts: Sequence[int]) -> list[int]:
        """Of counts by layer: how many come before this rank's part of each, in the layers before
        it and, of the layer itself, on the ranks before this one.
        """
        ours = torch.tensor(counts, dtype=torch.int64, device=self._device)
        every = [torch.empty_like(ours) for _ in range(self.ranks)]
        dist.all_gather(every, ours, group=self.group)
        table = torch.stack(every)
        layers = table.sum(0)
        found: list[int] = (layers.cumsum(0) - layers + table[: self.rank].sum(0)).tolist()
        return found


def shards_of(weights: Mapping[str, Tensor]) -> Shards | None:
    """Of weights that are sharded; None where none is.

    Raises ``ValueError`` where only some are, or where they are spread in another way.
    """
    sharded = {name: each for name, each in weights.items() if is_sharded(each)}
    if not sharded:
        return None
    if whole := [name for name in weights if name not in sharded]:
        raise ValueError(f"the weight {whole[0]} is whole on each rank, and others are sharded")
    return Shards(sharded)
