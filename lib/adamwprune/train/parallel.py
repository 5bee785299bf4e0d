"""One run on several ranks: each takes its share of every batch, and gradients are averaged (DDP).

The batch, its order and its random numbers are those of one process, and so is the run, but for
rounding: batch normalisation takes its statistics over all ranks' shares.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from adamwprune.base.errors import UserError
from adamwprune.pruning.ranks import Ranks
from adamwprune.tasks import Sums

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Parallel:
    """This process's part in the training of ``group``: all its calls are collective.

    ``shards``: each rank holds but its rows of each weight, gradient and state (FSDP2).
    """

    def __init__(self, group: ProcessGroup, *, shards: bool = False) -> None:
        self.group, self.shards = group, shards
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self._ranks = Ranks(group)
        # Its collectives come between those of the gradients, in an order of their own.
        self._of_norms = cast("ProcessGroup", dist.new_group(backend=dist.get_backend(group)))

    def prepared(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The network with batch normalisation over all ranks; the weights are its own."""
        if device.type == "cuda":
            convert = nn.SyncBatchNorm.convert_sync_batchnorm
            return cast(nn.Module, convert(module, self._of_norms))  # type: ignore[no-untyped-call]
        return _synchronised(module, self._of_norms)

    def shard(self, module: nn.Module, device: torch.device) -> None:
        """Spread the module's parameters over the ranks, block by block; all begin with the same.

        A block is a child of a ``Sequential`` or a ``ModuleList``: its weights are whole while it
        is computed.
        """
        # Here, because they take a second to import.
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.fsdp import fully_shard

        mesh = DeviceMesh.from_group(self.group, device.type)
        kinds = (nn.Sequential, nn.ModuleList)
        lists = [each for each in module.modules() if isinstance(each, kinds)]
        for block in (block for each in lists for block in each):
            if any(True for _ in block.parameters()):
                fully_shard(block, mesh=mesh)
        fully_shard(module, mesh=mesh, reshard_after_forward=True)

    def tell(self, checkpoints: bool) -> bool:
        """Whether rank 0, which alone knows the time, writes a checkpoint now."""
        told = torch.tensor([checkpoints], dtype=torch.int64)
        device = "cpu" if dist.get_backend(self.group) == "gloo" else "cuda"
        told = told.to(device)
        dist.broadcast(told, group=self.group, group_src=0)
        return bool(told.item())

    def wrapped(self, module: object, inputs: Tensor) -> nn.Module:
        """The network that averages its gradients over the ranks in ``backward()``.

        ``inputs``: of a pass that is no training. After it the gradients are reduced in the order
        in which they come, as in all later ones: so each step has the same bits whether or not the
        process began with it.
        """
        assert isinstance(module, nn.Module)
        if self.shards:
            return module
        whole = DistributedDataParallel(
            module,
            device_ids=[inputs.device] if inputs.device.type == "cuda" else None,
            process_group=self.group,
            gradient_as_bucket_view=True,
        )
        whole.eval()
        whole(inputs).float().sum().backward()
        whole.zero_grad()
        return whole

    def share(self, picks: Tensor) -> Tensor:
        """This rank's of the examples of a batch, or of a part of one.

        Raises :class:`UserError` where some rank would have none.
        """
        if len(picks) < self.size:
            raise UserError(
                f"RANKS={self.size}: of {len(picks)} examples, which a batch (or a part of one) "
                "has, not every rank would get one"
            )
        return picks.tensor_split(self.size)[self.rank]

    @staticmethod
    def unsynchronised(network: object) -> AbstractContextManager[None]:
        """Within it ``backward()`` of a wrapped network averages nothing: for all parts of a batch
        but the last.
        """
        if isinstance(network, DistributedDataParallel):
            return cast(AbstractContextManager[None], network.no_sync())
        return _without_reduction(network)

    def add_up(self, sums: Sums) -> None:
        """Make the sums of a step's examples those of all ranks' examples."""
        self._ranks.add_up([sums.totals])

    def note(self, sums: Sums) -> None:
        """Take the sums as they are for those of all ranks: after they were loaded or reset."""
        self._ranks.note([sums.totals])

    def add_once(self, sums: Sums) -> None:
        """Make sums over this rank's examples, and their number, those over all ranks'."""
        examples = torch.tensor([sums.examples], device=sums.totals.device)
        for each in (sums.totals, examples):
            dist.all_reduce(each, group=self.group)
        sums.examples = int(examples)


@contextmanager
def _without_reduction(network: Any) -> Iterator[None]:
    network.set_requires_gradient_sync(False)
    yield
    network.set_requires_gradient_sync(True)


class _Sum(torch.autograd.Function):
    """The sum over the ranks of a group; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        found = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(found, group=group)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        found = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(found, group=ctx.group)
        return found, None


def _summed(values: Tensor, group: ProcessGroup) -> Tensor:
    return cast(Tensor, _Sum.apply(values, group))


class _Synchronised(_BatchNorm):
    """Batch normalisation over the examples of all ranks, where torch has none: on the CPU.

    Ioffe and Szegedy (arXiv 1502.03167), algorithm 1, with the running variance unbiased, as torch
    has it.
    """

    group: ProcessGroup

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions from two on: checked by the layer whose place it takes."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        given = input.dtype
        if given.itemsize < 4:  # as torch's own: bfloat16 would not even count the examples
            input = input.float()
        others = [d for d in range(input.dim()) if d != 1]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        count = input.new_tensor([input.numel() / input.shape[1]])
        dist.all_reduce(count, group=self.group)
        mean = _summed(input.sum(others), self.group) / count
        centred = input - mean.view(shape)
        variance = _summed(centred.square().sum(others), self.group) / count
        self._note(mean.detach(), variance.detach() * (count / (count - 1)))
        normal = centred * (variance.view(shape) + self.eps).rsqrt()
        if self.weight is not None:
            normal = torch.addcmul(self.bias.view(shape), normal, self.weight.view(shape))
        return normal.to(given)

    @torch.no_grad()
    def _note(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = self.momentum or 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def _synchronised(module: nn.Module, group: ProcessGroup) -> nn.Module:
    """The module, whose layers of batch normalisation are of another class from now on."""
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.__class__ = _Synchronised
            layer.group = group  # type: ignore[assignment]
    return module
