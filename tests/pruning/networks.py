"""A small network, its data, and a loop that trains it."""

from __future__ import annotations

import torch
from torch import nn


def network():
    """A convolution of 36 weights and a linear layer of 1,440."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    )


def train(model, optimizer, steps, each=lambda step: None):
    """So many steps on 64 random images; ``each`` is called after each of them."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(64, 1, 8, 8, generator=generator)
    labels = torch.randint(0, 10, (64,), generator=generator)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        each(step)
