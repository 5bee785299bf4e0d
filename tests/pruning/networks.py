"""A small network, its data, a loop that trains it, and methods with schedules for it."""

from __future__ import annotations

import torch
from torch import nn

from adamwprune.pruning import Magnitude, Random, RigL, Schedule, Set, State

RAMP = Schedule(0.9, warmup=5, interval=5, ramp_end=30)
CONSTANT = Schedule.constant(0.9, interval=5, end=30)
MONOTONE = {
    "state": (State, RAMP),
    "magnitude": (Magnitude, RAMP),
    "random": (Random, RAMP),
    "set": (Set, CONSTANT),
    "rigl": (RigL, CONSTANT),
    "rigl-ramp": (RigL, RAMP),
    "state-sparse": (State, Schedule(0.9, 5, 5, 30, initial=0.6)),
}


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
