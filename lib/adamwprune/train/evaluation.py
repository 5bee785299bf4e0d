"""A network judged by its task's metrics, over the test (or validation) set."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from adamwprune.datasets import Data
from adamwprune.tasks import Network, Sums, Task, measured
from adamwprune.train.parallel import Parallel


def evaluate(
    model: nn.Module,
    task: Task,
    data: Data,
    network: Network | None = None,
    parallel: Parallel | None = None,
) -> dict[str, float]:
    """The value of each metric by name; :class:`~adamwprune.tasks.Diverged` if one is not finite.

    ``network``: the model's forward pass, where it is not the plain call. ``parallel``: the ranks
    that share the batches; where they hold parts of the model, each sees all batches. The model is
    in evaluation mode afterwards.
    """
    model.eval()
    if parallel is not None and parallel.shards:
        with torch.no_grad():  # what is gathered here is used in training
            return _evaluated(model, task, data, network, None)
    with torch.inference_mode():
        return _evaluated(model, task, data, network, parallel)


def _evaluated(
    model: nn.Module, task: Task, data: Data, network: Network | None, parallel: Parallel | None
) -> dict[str, float]:
    sums = Sums(task.totals, data.device)
    rank, ranks = (parallel.rank, parallel.size) if parallel else (0, 1)
    for batch in itertools.islice(data.evaluation(), rank, None, ranks):
        loss, output = task.loss(network or model, batch)
        task.observe(sums, batch, loss, output)
        sums.examples += len(batch)
    if parallel is not None:
        parallel.add_once(sums)
    return measured(task, sums)
