"""A small classifier for Lightning: importing it imports Lightning, which takes seconds."""

from __future__ import annotations

import lightning
import torch
from torch import nn

from adamwprune.optimizers import AdamWPrune
from adamwprune.pruning import Pruner, Schedule

SCHEDULE = Schedule(target=0.5, warmup=2, interval=2, ramp_end=9)


class Classifier(lightning.LightningModule):
    """Two linear layers; the pruner is attached where the optimizer is made."""

    def __init__(self, method, by_hand: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4))
        self.method = method
        self.automatic_optimization = not by_hand
        self.by_hand = by_hand

    def configure_optimizers(self):
        optimizer = AdamWPrune(self.parameters(), 1e-2)
        self.pruner = Pruner(self, self.method(), SCHEDULE).attach(optimizer)
        return optimizer

    def training_step(self, batch, index):
        inputs, labels = batch
        loss = nn.functional.cross_entropy(self.net(inputs), labels)
        if self.by_hand:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss
