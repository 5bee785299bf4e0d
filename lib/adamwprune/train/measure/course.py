"""Bytes of a training's tensors over its steps, by owner; counted, as by the ledger.

They change where states are made, in the first step, and in mask updates. Between them a step is
not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from adamwprune.optimizers import ReleasedGradients
from adamwprune.pruning import Pruner
from adamwprune.train.measure import ledger

PARTS = ("gradients", "optimizer", "pruner", "total")


class Course:
    """Notes them of one training. Gradients count as many bytes as there are at once: of a step
    that frees them, as there were before it; ``released`` one by one, the largest of them.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, pruner: Pruner) -> None:
        self.model, self.optimizer, self.pruner = model, optimizer, pruner
        self.released: ReleasedGradients | None = None
        self.gradients = 0  # bytes
        self._rows: list[dict[str, int]] = []
        self._updates = -1  # of the masks, when they were noted last

    def attach(self) -> Course:
        """Look at gradients from now on: to be called before the pruner's, which frees them;
        returns the course itself.
        """
        self.optimizer.register_step_pre_hook(self._before_step)
        return self

    @property
    def _has_changed(self) -> bool:
        return self._updates != len(self.pruner.updates) or not self._rows

    def _before_step(self, *arguments: Any) -> None:
        if self._has_changed:
            found = ledger.gradients(self.model)
            self.gradients = max(found, self.released.largest if self.released else 0)

    def stepped(self, step: int) -> None:
        """After ``step`` steps, and the mask update that was due."""
        if not self._has_changed:
            return
        self._updates = len(self.pruner.updates)
        found = self.account()
        held = {name: sum(found[name].values()) for name in ("optimizer", "pruner")}
        shared = {name: found[name] for name in ("gradients", "total")}
        self._rows.append({"step": step, **held, **shared})

    def account(self) -> dict[str, Any]:
        """See :func:`adamwprune.train.measure.ledger.account`."""
        return ledger.account(self.model, self.optimizer, self.pruner, self.gradients)

    def record(self) -> dict[str, Any]:
        """``peak``: the most bytes of any step; ``course``: those that are held from ``step`` on,
        by owner, in columns.
        """
        columns = {name: [row[name] for row in self._rows] for name in ("step", *PARTS)}
        return {"peak": max(columns["total"], default=0), "course": columns}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "gradients": self.gradients,
            "rows": [dict(row) for row in self._rows],
            "updates": self._updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.gradients = state["gradients"]
        self._rows = [dict(row) for row in state["rows"]]
        self._updates = state["updates"]
