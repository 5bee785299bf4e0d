"""A network judged by its task's metrics, over the test (or validation) set."""

from __future__ import annotations

import torch
from torch import nn

from adamwprune.datasets import Data
from adamwprune.tasks import Network, Sums, Task, measured


@torch.inference_mode()
def evaluate(
    model: nn.Module, task: Task, data: Data, network: Network | None = None
) -> dict[str, float]:
    """The value of each metric by name; :class:`~adamwprune.tasks.Diverged` if one is not finite.

    ``network``: the model's forward pass, where it is not the plain call. The model is in
    evaluation mode afterwards.
    """
    model.eval()
    sums = Sums(task.totals, data.device)
    for batch in data.evaluation():
        loss, output = task.loss(network or model, batch)
        task.observe(sums, batch, loss, output)
        sums.examples += len(batch)
    return measured(task, sums)
