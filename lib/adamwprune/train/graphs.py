"""Training steps as CUDA graphs: captured once a kind of step, then replayed.

A small network is bound by the launches of its kernels; a graph launches all of a step's kernels
at once. What is captured must do the same each time, so that a step has a kind
(:meth:`adamwprune.optimizers._base.Base.step_kind`, :meth:`adamwprune.pruning.Pruner.step_kind`):
there is one graph a kind and batch size. Steps that are like no other, those that update a mask
among them, are run as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch
from torch import Tensor

Replay = Callable[[], None]
EAGER_STEPS = 3  # of a kind before it is captured: they make states and choose algorithms


class Recorder(Protocol):
    """What captures some work on the device so that it can be replayed."""

    def record(self, work: Callable[[], None]) -> Replay:
        """Run ``work`` once; each call of what is returned repeats what it did to tensors."""


class CudaRecorder:
    """CUDA graphs on ``device``, in one pool of memory.

    They may share it: of what one of them leaves there the next one needs nothing. What outlives
    a step (weights, states, sums) is allocated outside.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.current_stream(device)
        self._pool: Any = None

    def record(self, work: Callable[[], None]) -> Replay:
        """Capture ``work`` and replay it once, capturing computes nothing.

        Raises ``RuntimeError`` on the default stream, on which nothing can be captured.
        """
        graph = torch.cuda.CUDAGraph()
        mode = "thread_local"  # what other threads do is no part of it, and does not end it
        with torch.cuda.graph(graph, self._pool, self.stream, capture_error_mode=mode):
            work()
        self._pool = graph.pool()
        graph.replay()
        return graph.replay


class StepGraphs:
    """Runs ``work(batch)``: as it is, or by the graph of steps of its kind.

    ``batch`` are picks ``[examples, 2]`` on the device; it is copied to where the graph
    reads it. ``work`` must not depend on anything else that changes between steps of a kind,
    except through tensors that stay where they are.
    """

    def __init__(self, work: Callable[[Tensor], None], recorder: Recorder) -> None:
        self.work = work
        self.recorder = recorder
        self._seen: dict[Hashable, int] = {}  # steps of a kind run as they are
        self._graphs: dict[Hashable, tuple[Tensor, Replay]] = {}

    def __call__(self, batch: Tensor, kind: Hashable) -> bool:
        """Do the step of this ``kind`` (None: never captured); whether it was a mere replay.

        Then nothing of ``work`` was run in Python, and what it counts there is not counted.
        """
        if kind is None:
            self.work(batch)
            return False
        key = (len(batch), kind)
        if key in self._graphs:
            static, replay = self._graphs[key]
            static.copy_(batch)
            replay()
            return True
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] <= EAGER_STEPS:
            self.work(batch)
        else:
            static = batch.clone()
            self._graphs[key] = static, self.recorder.record(lambda: self.work(static))
        return False
