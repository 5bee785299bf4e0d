"""The sparsity schedule: one object for every method, so that no comparison differs in its ramp."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

SHAPES = ("cubic", "linear", "one-shot", "constant")


@dataclass(frozen=True)
class Schedule:
    """Sparsity over training steps. Steps count from 1; "after step t" means t steps are done.

    Nothing is pruned up to step ``warmup``; then the mask is updated every ``interval`` steps,
    and at step ``ramp_end`` in any case, from where on the ``target`` holds. A ramp rises from the
    sparsity ``initial``, which holds from before the first step on. Raises ``ValueError`` for
    values that contradict each other. ``shape``: ``cubic`` or ``linear``; a schedule without a ramp
    is made by :meth:`one_shot` or :meth:`constant`.
    """

    target: float
    warmup: int
    interval: int
    ramp_end: int
    shape: str = "cubic"
    initial: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.target <= 1:
            raise ValueError(f"Invalid target sparsity: {self.target}")
        if not 0 <= self.initial <= self.target:
            raise ValueError(
                f"Invalid initial sparsity: {self.initial} (from 0 to the target {self.target})"
            )
        for name in ("warmup", "interval", "ramp_end"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        if not 0 <= self.warmup < self.ramp_end:
            raise ValueError(
                f"Invalid warmup: {self.warmup} does not lie before the ramp's end {self.ramp_end}"
            )
        if self.interval < 1:
            raise ValueError(f"Invalid interval: {self.interval}")
        if self.shape not in SHAPES:
            raise ValueError(f"Invalid shape: {self.shape} (there are {', '.join(SHAPES)})")

    @classmethod
    def dense(cls) -> Schedule:
        """Never anything to prune."""
        return cls(target=0.0, warmup=0, interval=1, ramp_end=1)

    @classmethod
    def one_shot(cls, target: float, step: int) -> Schedule:
        """All of it at once, after ``step`` ≥ 1, and held from there on.

        Train, prune once, train on: the single iteration of Han et al., arXiv 1506.02626, §3.
        """
        return cls(target, warmup=step - 1, interval=1, ramp_end=step, shape="one-shot")

    @classmethod
    def constant(cls, target: float, interval: int, end: int) -> Schedule:
        """The target from before the first step on; the mask is updated up to step ``end``.

        Sparse from initialisation: Mocanu et al., arXiv 1707.04780; Evci et al., arXiv 1911.11134.
        """
        return cls(target, warmup=0, interval=interval, ramp_end=end, shape="constant")

    @property
    def starts_sparse(self) -> bool:
        """Whether the mask is made before the first step."""
        return self.is_constant or self.initial > 0

    @property
    def is_constant(self) -> bool:
        """Whether the target holds throughout."""
        return self.shape == "constant"

    def sparsity(self, step: int) -> float:
        """Fraction of zeros after ``step``.

        cubic: s = s_f + (s_i − s_f)·(1 − p)³ (Zhu & Gupta, arXiv 1710.01878, eq. 1), linear:
        s = s_i + (s_f − s_i)·p, over the progress p from the warm-up's end to the ramp's; one-shot:
        s_f from its one step on; constant: s_f.
        """
        if step >= self.ramp_end or self.is_constant:
            return self.target
        progress = max(0.0, (step - self.warmup) / (self.ramp_end - self.warmup))
        if self.shape == "one-shot":
            return 0.0
        gained = progress if self.shape == "linear" else 1 - (1 - progress) ** 3
        return self.initial + (self.target - self.initial) * gained

    def is_due(self, step: int) -> bool:
        """Whether the mask is updated after ``step``."""
        if step == self.ramp_end:
            return True
        return self.warmup < step < self.ramp_end and (step - self.warmup) % self.interval == 0

    def is_forced(self, step: int) -> bool:
        """Whether an update after ``step`` cannot wait for an optimizer's states to settle.

        A ramp has pruned by its scores all along, and its last update adds little. All that a
        one-shot does rests on the scores of one step: it waits.
        """
        return step == self.ramp_end and self.shape != "one-shot"


def _whole(name: str, steps: Any) -> int:
    try:
        return operator.index(steps)
    except TypeError:
        raise ValueError(f"Invalid {name}: {steps} is no whole number of steps") from None
