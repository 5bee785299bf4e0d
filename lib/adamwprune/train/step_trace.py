"""A run's course beside its epochs: gradient norms, spikes, resets and the learning rate.

Measured in each step and kept for at most :data:`POINTS` stretches of equally many steps. Within a
step there are only additions on the device to tensors that stay where they are, so that a CUDA
graph holds them, nothing is waited for and the training has the same bits as without them. At the
end of a stretch, which Python knows without asking, they are copied to a row of a table on the
device; the table is read once, for the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adamwprune.optimizers._base import Base, KeepsMoments, gradient_norm

POINTS = 120  # rows of a run at most; ten steps each in ten epochs of MNIST in batches of 512
DIGITS = 6  # significant, of a norm in a record


class Trace:
    """Follows ``optimizer`` through ``total_steps`` steps.

    The norm is that of the gradient which the optimizer is given: pruned weights have none, and
    nothing is clipped or rescaled yet. So :meth:`attach` comes after the pruner's.
    """

    def __init__(self, optimizer: Base, total_steps: int) -> None:
        self.optimizer = optimizer
        self.total_steps = total_steps
        self.interval = max(1, -(-total_steps // POINTS))  # steps of a stretch
        first = optimizer.param_groups[0]["params"][0]
        rows = max(1, -(-total_steps // self.interval))
        # float64: sums of an interval's norms, the largest, and how many were spikes.
        zeros = torch.zeros(rows + 1, 3, dtype=torch.float64, device=first.device)
        self._now, self._rows = zeros[0], zeros[1:]
        self._sum, self._largest, self._spikes = self._now.unbind()
        self._released: list[Tensor] = []  # norms of gradients that are there no more
        self._looks = False  # whether the optimizer looks for spikes
        self.rates: list[float] = []  # of the last step of each stretch
        self.resets: list[int] = []  # steps before which the moments were reset, from 1

    def attach(self) -> Trace:
        """Look at each step of the optimizer from now on; returns the trace itself."""
        self.optimizer.register_step_pre_hook(self._before_step)
        self.optimizer.on_spike = self._note_spike
        return self

    def released(self, gradient: Tensor) -> None:
        """Told of each gradient that is released before the step ends."""
        self._released.append(torch.linalg.vector_norm(gradient).float())

    @torch.no_grad()
    def _before_step(self, *arguments: Any) -> None:
        # As they are now: vectors may stand for packed weights.
        groups = self.optimizer.param_groups
        norm = gradient_norm([param for group in groups for param in group["params"]])
        if self._released:
            norm = torch.linalg.vector_norm(torch.stack([norm.float(), *self._released]))
            self._released.clear()
        self._sum += norm
        torch.maximum(self._largest, norm, out=self._largest)

    def _note_spike(self, spike: Tensor) -> None:
        self._spikes += spike
        self._looks = True

    def stepped(self, step: int, rate: float) -> None:
        """After ``step`` steps, the last of which was of size ``rate``, run or replayed.

        No value is read from the device here either.
        """
        if isinstance(self.optimizer, KeepsMoments) and self.optimizer.steps_since_reset == 1:
            self.resets.append(step)
        if step % self.interval and step != self.total_steps:
            return
        self._rows[len(self.rates)].copy_(self._now)
        self._now.zero_()
        self.rates.append(rate)

    def record(self) -> dict[str, Any]:
        """``interval``: steps of a stretch (the last one may be shorter); by stretch: ``step``, its
        last one, ``lr``, of that step, ``norm``, the mean gradient norm, ``norm_max``, and
        ``spikes``, their number, None where nobody looks for them; ``resets``: steps that began
        with moments reset.
        """
        steps = [min(n * self.interval, self.total_steps) for n in range(1, len(self.rates) + 1)]
        rows = self._rows[: len(steps)].tolist()
        lengths = [end - start for start, end in zip([0, *steps], steps, strict=False)]
        return {
            "interval": self.interval,
            "step": steps,
            "lr": list(self.rates),
            "norm": [_short(row[0] / n) for row, n in zip(rows, lengths, strict=True)],
            "norm_max": [_short(row[1]) for row in rows],
            "spikes": [int(row[2]) for row in rows] if self._looks else None,
            "resets": list(self.resets),
        }

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "now": self._now.clone(),
            "rows": self._rows.clone(),
            "looks": self._looks,
            "rates": list(self.rates),
            "resets": list(self.resets),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self._now.copy_(state["now"])
        self._rows.copy_(state["rows"])
        self._looks = state["looks"]
        self.rates, self.resets = list(state["rates"]), list(state["resets"])


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
