"""The learning rate over a run's steps: warm-up, then constant, cosine or linear to a floor."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler

from adamwprune.plan.spec import RunSpec


def schedule(spec: RunSpec, optimizer: Optimizer) -> LRScheduler:
    """torch's own schedule, stepped once a training step."""
    warmup, floor, shape = spec.steps("LR_WARMUP"), spec["LR_FLOOR"], spec["LR_SCHEDULE"]
    if shape == "cosine" and not warmup and not floor:
        return CosineAnnealingLR(optimizer, T_max=spec.total_steps)
    return LambdaLR(optimizer, factor(shape, spec.total_steps, warmup, floor))


def factor(shape: str, steps: int, warmup: int, floor: float) -> Callable[[int], float]:
    """What multiplies the learning rate in the step after so many steps.

    It rises as (t + 1)/(warmup + 1) over ``warmup`` steps, and is 1 in the next one. From there
    ``cosine`` (Loshchilov & Hutter, arXiv 1608.03983, eq. 5) and ``linear`` fall to ``floor``,
    which they reach after ``steps``; ``none`` stays.
    """

    def of(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if shape == "none":
            return 1.0
        progress = min(1.0, (step - warmup) / (steps - warmup))
        left = (1 + math.cos(math.pi * progress)) / 2 if shape == "cosine" else 1 - progress
        return floor + (1 - floor) * left

    return of
