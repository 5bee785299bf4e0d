"""``make profile RUN=…``: some steps of a run under torch's profiler, and where their time goes.

The steps are the run's own, as they are without CUDA graphs. A run that prunes is brought to its
target sparsity first, so that the steps are those of most of its training; one of them updates the
masks. Each step is one range, in it one for each phase: what lies in none of these (the loss, the
counters) is ``other``. What is wrapped is this one training's, from outside.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.autograd.profiler import record_function

from adamwprune.base.files import refusing
from adamwprune.base.wording import counted
from adamwprune.plan.spec import RunSpec
from adamwprune.pruning.attachment import Attachment
from adamwprune.train.loop import Training

WARM_UP = 3  # steps
PRUNING = (2, 3)  # of these prune to the target: a run counts the bytes of its first two updates
STEPS = 20
UPDATE_AT = STEPS // 2  # of the profiled steps, the one that updates the masks
TOP = 10  # operators that are shown
STEP = "step"
PHASES = ("data", "forward", "backward", "optimizer", "pruning", "mask update", "other")
_LABEL = "adamwprune: "  # of the ranges, in the trace


@dataclass(frozen=True)
class Profile:
    """Where the time of some steps went. Milliseconds a step."""

    run_id: str
    device: str
    threads: int
    steps: int
    milliseconds: float  # a step, on the clock
    phases: Mapping[str, float]  # of the clock on a CPU, of kernels on a GPU
    operators: Mapping[str, float]  # by themselves, without what they call; all of them
    updates: str  # how many of the steps updated the masks, and how many of the run's do

    def text(self) -> str:
        """A summary for a terminal."""
        size = f"{counted(self.threads, 'thread')}, {counted(self.steps, 'step')}"
        where = f"{self.device}, {size} under the profiler"
        lines = [f"{self.run_id}: {where}", f"{self.milliseconds:.2f} ms a step"]
        if self.updates:
            lines.append(self.updates)
        lines += ["", *_table("phase", self.phases, len(self.phases))]
        lines += ["", *_table("operator, by itself", self.operators, TOP)]
        return "\n".join(lines)


def profile(
    spec: RunSpec, data_dir: Path, device: str, threads: int, path: Path, steps: int = STEPS
) -> Profile:
    """Train ``steps`` steps of a run under the profiler and write their trace to ``path``.

    Raises :class:`~adamwprune.base.errors.UserError` where the data are missing or the trace
    cannot be written.
    """
    torch.set_num_threads(threads)
    training = _Profiled(spec, data_dir, device)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if training.device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    # Backward in this thread: its operators lie within the range of its phase.
    with torch.autograd.set_multithreading_enabled(False), training.ready():
        training.run(WARM_UP, PRUNING)
        with torch.profiler.profile(activities=kinds) as profiler:
            training.run(steps, (min(UPDATE_AT, steps),))
    with refusing(f"cannot write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(path))
    # Those of the host: a GPU's own copies of the ranges hold no operators.
    averages = [e for e in profiler.key_averages() if e.device_type == DeviceType.CPU]
    on_gpu = training.device.type == "cuda"
    ranges = {event.key: event for event in averages if event.key.startswith(_LABEL)}
    milliseconds = ranges[_LABEL + STEP].cpu_time_total / 1000 / steps
    return Profile(
        spec.run_id,
        device,
        threads,
        steps,
        milliseconds,
        _phases({key.removeprefix(_LABEL): _total(e, on_gpu) for key, e in ranges.items()}, steps),
        _operators(averages, steps, on_gpu),
        training.updates(steps),
    )


def _total(event: Any, on_gpu: bool) -> float:
    """Microseconds of a range with all that it holds."""
    return float(event.device_time_total if on_gpu else event.cpu_time_total)


def _phases(totals: Mapping[str, float], steps: int) -> dict[str, float]:
    """Milliseconds a step of each phase, without the phases in it, from the ranges' totals."""
    found = {name: totals.get(name, 0.0) for name in PHASES}
    # The hooks of the pruner run within optimizer.step(), an update within a hook.
    found["optimizer"] -= found["pruning"]
    found["pruning"] -= found["mask update"]
    found["other"] = totals[STEP] - sum(found.values())
    return {name: max(0.0, total) / 1000 / steps for name, total in found.items()}


def _operators(averages: Iterable[Any], steps: int, on_gpu: bool) -> dict[str, float]:
    """Milliseconds a step of each operator by itself, the longest first."""
    name = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    each = {
        event.key: float(getattr(event, name)) / 1000 / steps
        for event in averages
        if not event.key.startswith(_LABEL)
    }
    return dict(sorted(((k, v) for k, v in each.items() if v > 0), key=lambda item: -item[1]))


def _shares(times: Mapping[str, float]) -> dict[str, float]:
    whole = sum(times.values()) or 1.0
    return {name: time / whole for name, time in times.items()}


def _table(title: str, times: Mapping[str, float], rows: int) -> Iterator[str]:
    yield f"{title:44} {'ms':>9} {'share':>7}"
    for name, share in itertools.islice(_shares(times).items(), rows):
        yield f"{name[:44]:44} {times[name]:9.3f} {share:7.1%}"


class _Profiled(Training):
    """A training whose phases are ranges of the profiler."""

    def __init__(self, spec: RunSpec, data_dir: Path, device: str) -> None:
        super().__init__(spec, data_dir, device, graphs=False)
        self.data = copy.copy(self.data)  # another training of this process may use it
        object.__setattr__(self.data, "batch", _ranged("data", self.data.batch))
        self.model.forward = _ranged("forward", self.model.forward)
        self.optimizer.step = _ranged("optimizer", self.optimizer.step)  # type: ignore[method-assign]
        self.pruner.around_update = _ranged("mask update", self.meter)
        for hooks in (
            self.optimizer._optimizer_step_pre_hooks,
            self.optimizer._optimizer_step_post_hooks,
        ):
            for key, hook in hooks.items():
                if not isinstance(getattr(hook, "__self__", None), Attachment):
                    continue  # the trace's: part of what every step of the optimizer costs
                hooks[key] = _ranged("pruning", hook)

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Within this its steps can be run."""
        self.model.train()
        backward = Tensor.backward
        Tensor.backward = _ranged("backward", backward)  # type: ignore[method-assign]
        try:
            with self._on_a_stream():
                yield
        finally:
            Tensor.backward = backward  # type: ignore[method-assign]

    def run(self, steps: int, updates: Collection[int]) -> None:
        """So many steps; those of ``updates``, from 1, prune to the target, or to it again."""
        for number in range(1, steps + 1):
            if self.pruner.score.prunes and number in updates:
                # The next step is the ramp's last, after which the mask is updated whatever else.
                self.pruner.steps = self.pruner.schedule.ramp_end - 1
            with record_function(_LABEL + STEP):
                self._compute(self.order.next())
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)

    def updates(self, steps: int) -> str:
        """How the profiled steps differ from the run's; empty for one that does not prune."""
        if not self.pruner.score.prunes:
            return ""
        total = self.spec.total_steps
        due = sum(self.pruner.schedule.is_due(step) for step in range(1, total + 1))
        return (
            f"at {self.pruner.schedule.target:.0%}; one of these {steps} steps updates the masks, "
            f"{due} of the run's {total} do"
        )


def _ranged(phase: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """``work`` as a range of the profiler."""

    @functools.wraps(work)
    def within(*args: Any, **kwargs: Any) -> Any:
        with record_function(_LABEL + phase):
            return work(*args, **kwargs)

    return within
