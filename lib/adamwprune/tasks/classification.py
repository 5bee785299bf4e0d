"""Classification: one label for each example, by cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from adamwprune.base.kinds import Images
from adamwprune.base.metrics import ACCURACY, LOSS, Metric
from adamwprune.datasets import Batch, Data
from adamwprune.tasks import Network, Sums

TOP5 = Metric("top5_accuracy", "%", "higher", 100.0, "binomial")
TOP5_CLASSES = 100  # from which on the label need not come first to be counted


class Classification:
    """Targets ``[n]`` are labels, outputs ``[n, classes]`` are logits.

    With ``smoothing`` s the loss that is minimised is (1 - s) times the cross-entropy of the label
    plus s times its mean over all classes (Szegedy et al., arXiv 1512.00567, section 7). The loss
    that is recorded, of training and of evaluation, is the plain cross-entropy in any case.
    """

    def __init__(self, smoothing: float = 0.0, *, top5: bool = False) -> None:
        self.smoothing, self.top5 = smoothing, top5
        self.metrics = (ACCURACY, LOSS, TOP5) if top5 else (ACCURACY, LOSS)
        self.totals = ("loss", "hits", "top5_hits") if top5 else ("loss", "hits")

    def loss(self, network: Network, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = network(batch.inputs)
        return F.cross_entropy(logits, batch.targets, label_smoothing=self.smoothing), logits

    def observe(self, sums: Sums, batch: Batch, loss: Tensor, output: Tensor) -> None:
        if self.smoothing:
            loss = F.cross_entropy(output, batch.targets)
        sums.add("loss", loss * len(batch))
        sums.add("hits", (output.argmax(1) == batch.targets).sum())
        if self.top5:
            best = output.topk(5, dim=1).indices
            sums.add("top5_hits", (best == batch.targets[:, None]).sum())

    def measures(self, totals: Mapping[str, float], examples: int) -> dict[str, float]:
        found = {"loss": totals["loss"] / examples, "accuracy": totals["hits"] / examples}
        if self.top5:
            found[TOP5.name] = totals["top5_hits"] / examples
        return found


def build(values: Mapping[str, Any], data: Data) -> Classification:
    """With a run's label smoothing, and top-5 accuracy where there are at least 100 classes."""
    many = isinstance(data.kind, Images) and data.kind.classes >= TOP5_CLASSES
    return Classification(values["LABEL_SMOOTHING"], top5=many)
