"""The only training loop. It knows no model, data set, optimizer or pruning method by name.

It computes and holds its state; it writes nothing. Files, records and checkpoints are its
caller's, :mod:`adamwprune.run.runner`: what is imported here is part of every record's code digest.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler

from adamwprune import datasets, models, optimizers, pruning
from adamwprune.base.errors import UserError
from adamwprune.datasets import Dataset
from adamwprune.plan.spec import RunSpec
from adamwprune.train.compiling import CannotCompile, compiled
from adamwprune.train.graphs import CudaRecorder, Recorder, StepGraphs
from adamwprune.train.measure import ledger
from adamwprune.train.measure.phase_peaks import FIRST_STEP, INIT, STEADY, Cuda, Phases
from adamwprune.train.measure.update_peak import UpdateMeter
from adamwprune.train.step_trace import Trace

EVALUATION_BATCH = {"cpu": 1000, "cuda": 2000}  # examples: in the caches, and few launches
TIMELINE_INTERVAL = 10  # steps between samples of a GPU's allocated bytes


class Diverged(Exception):
    """The loss is no number any more; the same run would diverge again."""


class Watch(Protocol):
    """Who looks on, and may stop the training by raising an exception."""

    def stepped(self, training: Training) -> None:
        """After each step: its state is that of a whole number of steps."""

    def epoch_ended(self, training: Training, entry: dict[str, float]) -> None:
        """After each evaluation; ``entry`` is the last of the history."""


class Training:
    """One run: everything that is built from its spec, and the loop over it.

    Its state after any step can be taken with :meth:`state_dict`; a training of the same spec,
    device and number of threads that is given it goes on with the same bits (on the CPU).
    On a GPU its steps are captured and replayed (:mod:`adamwprune.train.graphs`); without
    ``graphs`` they are not, for whoever wants to look into them.
    """

    def __init__(self, spec: RunSpec, data_dir: Path, device: str, *, graphs: bool = True) -> None:
        self.clock = Clock()
        self.spec = spec
        self.device = torch.device(device)
        self.captures = graphs and self.device.type == "cuda"
        self.timeline = Timeline(self.device)
        self.phases = Phases(Cuda(self.device)) if self.device.type == "cuda" else None
        self._enter(INIT)
        torch.backends.cudnn.deterministic = True
        torch.manual_seed(spec["SEED"])
        # Built on the CPU: the same initial weights on every device.
        network = models.build(spec["MODEL"])
        self.model = network.module.to(self.device)
        self.data = _dataset(spec, data_dir, network.image_size, device)
        self.optimizer = optimizers.build(spec["OPTIMIZER"], self.model.parameters(), spec.values)
        ramp_end = spec.ramp_end_step if "PRUNING_RAMP_END" in spec else 0
        self.pruner = pruning.build(self.model, spec.values, ramp_end)
        self.meter = UpdateMeter(self.phases).attach(self.pruner)
        self.pruner.attach(self.optimizer)  # prunes, where the sparsity is constant
        # After the pruner: its hook masks the gradient whose norm is noted.
        self.trace = Trace(self.optimizer, spec.total_steps).attach()
        self.schedule = _lr_schedule(spec, self.optimizer)
        self.step = 0  # steps done
        self.batch = 0  # of them, in the epoch in hand
        self.sums = Sums(self.device)  # over these batches
        self.history: list[dict[str, float]] = []
        self._order = torch.Generator().manual_seed(spec["SEED"])  # the CPU's on every device
        self._order_before = self._order.get_state()  # at the start of the epoch in hand
        self.network: Callable[[Tensor], Tensor] = self.model  # what trains: its forward pass
        self.not_compiled = ""  # why, where it was asked for
        if spec["TORCH_COMPILE"]:
            self._compile()
        self.clock.lap("setup")

    def _compile(self) -> None:
        examples, size = len(self.data.train_labels), self.spec["BATCH_SIZE"]
        sizes = {min(size, examples), examples % size or size}
        images = self.data.train_images
        try:
            self.network = compiled(
                self.model.train(), (self.data.normalise(images[:n]) for n in sorted(sizes))
            )
        except CannotCompile as error:
            self.not_compiled = str(error)

    @property
    def epoch(self) -> int:
        """The epoch in hand, from 1."""
        return len(self.history) + 1

    def train(self, watch: Watch) -> None:
        """All epochs that are left, and the check of the pruning contract at the end.

        Raises :class:`Diverged`, :class:`~adamwprune.pruning.ContractViolation`, and what
        ``watch`` raises.
        """
        with self._on_a_stream():
            graphs = StepGraphs(self._compute, self._recorder()) if self.captures else None
            while self.epoch <= self.spec["EPOCHS"]:
                self.history.append(self._epoch(watch, graphs))
                watch.epoch_ended(self, self.history[-1])
        self.pruner.verify()

    @contextlib.contextmanager
    def _on_a_stream(self) -> Iterator[None]:
        """Everything on one stream that is not the default one, on which nothing is captured."""
        if self.device.type != "cuda":
            yield
            return
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        try:
            with torch.cuda.stream(stream):
                yield
        finally:
            torch.cuda.current_stream(self.device).wait_stream(stream)

    def _recorder(self) -> Recorder:
        return CudaRecorder(self.device)

    def _epoch(self, watch: Watch, graphs: StepGraphs | None) -> dict[str, float]:
        """What is left of one pass over the training set, and one over the test set."""
        self._train_epoch(watch, graphs)
        trained = self.sums.means()
        self.clock.lap("train")
        tested = evaluate(self.model, self.data)
        self.clock.lap("evaluate")
        entry = {
            "epoch": self.epoch,
            "step": self.step,
            **{f"train_{name}": value for name, value in trained.items()},
            **{f"test_{name}": value for name, value in tested.items()},
            "sparsity": self.pruner.sparsity(),
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": self.clock.of("train", "evaluate")
            - sum(earlier["seconds"] for earlier in self.history),
        }
        self.batch = 0
        self.sums.reset()
        self._order_before = self._order.get_state()
        return entry

    def _train_epoch(self, watch: Watch, graphs: StepGraphs | None) -> None:
        self.clock.lap()
        self.model.train()
        examples = len(self.data.train_labels)
        self._order.set_state(self._order_before)
        order = torch.randperm(examples, generator=self._order).to(self.device)
        for batch in order.split(self.spec["BATCH_SIZE"])[self.batch :]:
            self._enter(STEADY if self.step else FIRST_STEP)
            rate = self.optimizer.rate
            if graphs is None:
                self._compute(batch)
            else:
                self.optimizer.write_rates()
                if graphs(batch, self._step_kind()):
                    self.optimizer.step_replayed()
                    self.pruner.step_replayed()
            self.schedule.step()
            self.step += 1
            self.batch += 1
            self.sums.examples += len(batch)
            self.timeline.sample(self.step)
            self.trace.stepped(self.step, rate)
            watch.stepped(self)

    def _compute(self, batch: Tensor) -> None:
        """One step over the examples ``batch``: all that the device does of it, and no more."""
        labels = self.data.train_labels[batch]
        logits = self.network(self.data.normalise(self.data.train_images[batch]))
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.sums.add(loss.detach(), logits.detach(), labels)

    def _step_kind(self) -> Hashable:
        """What the next step does beside arithmetic on tensors; None: like no other."""
        kinds = (self.optimizer.step_kind(), self.pruner.step_kind())
        return None if None in kinds else kinds

    def _enter(self, phase: str) -> None:
        if self.phases is not None and self.phases.phase != phase:
            self.phases.enter(phase)

    # -- what there is ---------------------------------------------------------

    def outcome(self) -> dict[str, Any]:
        """What a record holds of the training, by the record's names, as plain data."""
        names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
        bytes_by_owner = ledger.account(self.model, self.optimizer, self.pruner)
        return {
            "history": self.history,
            "final": {name: self.history[-1][name] for name in names},
            "pruning": self._pruning(),
            "trace": self.trace.record(),
            "param_groups": _plain_groups(self.optimizer),
            "memory": {
                **bytes_by_owner,
                "mask_update": self.meter.record(),
                "device": self.timeline.record(self.phases),
            },
            "seconds": {**self.clock.totals, "total": self.clock.elapsed()},
        }

    def _pruning(self) -> dict[str, Any]:
        return {
            "method": self.spec["PRUNING_METHOD"],
            "mask_storage": self.spec.values.get("MASK_STORAGE"),
            **self.pruner.record(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on: tensors and plain data."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "pruner": self.pruner.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "batch": self.batch,
            "sums": self.sums.state_dict(),
            "trace": self.trace.state_dict(),
            "history": list(self.history),
            "order": self._order_before,
            "random": _random_state(self.device),
            "clock": self.clock.state_dict(),
            "timeline": self.timeline.state_dict(),
            "meter": self.meter.state_dict(),
            "phases": self.phases.state_dict() if self.phases else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.pruner.load_state_dict(state["pruner"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.batch = state["step"], state["batch"]
        self.sums.load_state_dict(state["sums"])
        self.trace.load_state_dict(state["trace"])
        self.history = list(state["history"])
        self._order_before = state["order"]
        _set_random_state(state["random"], self.device)
        self.clock.load_state_dict(state["clock"])
        self.timeline.load_state_dict(state["timeline"])
        self.meter.load_state_dict(state["meter"])
        if self.phases and state["phases"]:
            self.phases.load_state_dict(state["phases"])


class Clock:
    """Wall-clock seconds: since the start, since the last lap, and summed by name."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.totals: dict[str, float] = {}

    def lap(self, name: str = "") -> None:
        """Add the seconds since the last lap to ``name``; without one they are nobody's."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        if name:
            self.totals[name] = self.totals.get(name, 0.0) + seconds

    def of(self, *names: str) -> float:
        """Seconds summed under ``names``."""
        return sum(self.totals.get(name, 0.0) for name in names)

    def elapsed(self) -> float:
        """Seconds since the start; after a resume, with those before it."""
        return time.perf_counter() - self._start

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"totals": dict(self.totals), "elapsed": self.elapsed()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; seconds so far are added to those before."""
        for name, seconds in state["totals"].items():
            self.totals[name] = self.totals.get(name, 0.0) + seconds
        self._start -= state["elapsed"]


class Sums:
    """Loss and hits, accumulated on the device and read back once."""

    def __init__(self, device: torch.device) -> None:
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.hits = torch.zeros((), dtype=torch.int64, device=device)
        self.examples = 0

    def add(self, mean_loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add one batch: its mean loss, logits ``[n, classes]`` and labels ``[n]``.

        On the device alone; :attr:`examples` is its caller's to count.
        """
        self.loss += mean_loss * len(labels)
        self.hits += (logits.argmax(1) == labels).sum()

    def reset(self) -> None:
        """Begin anew, in the same tensors."""
        self.loss.zero_()
        self.hits.zero_()
        self.examples = 0

    def means(self) -> dict[str, float]:
        """Mean loss and accuracy (a fraction of 1) over all examples; :class:`Diverged` if NaN."""
        loss = self.loss.item() / self.examples
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise Diverged(f"training diverged: the loss is {loss}")
        return {"loss": loss, "accuracy": self.hits.item() / self.examples}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"loss": self.loss, "hits": self.hits, "examples": self.examples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.loss.copy_(state["loss"])
        self.hits.copy_(state["hits"])
        self.examples = state["examples"]


class Timeline:
    """A GPU's allocated bytes over the steps; nothing on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.allocator = Cuda(device) if device.type == "cuda" else None
        self.samples: list[tuple[int, float, int]] = []
        self.clock = Clock()

    def sample(self, step: int) -> None:
        """Note the bytes allocated after ``step``."""
        if self.allocator is not None and step % TIMELINE_INTERVAL == 0:
            allocated = self.allocator.allocated()
            self.samples.append((step, round(self.clock.elapsed(), 4), allocated))

    def record(self, phases: Phases | None) -> dict[str, Any] | None:
        """``timeline``: [step, seconds, bytes] rows; ``peak``, ``reserved``: bytes the run's
        tensors took at most, and torch from the device for them; ``phases``: the peak of each.
        None on a CPU.
        """
        if phases is None:
            return None
        return {
            "timeline": [list(sample) for sample in self.samples],
            "peak": phases.peak,
            "reserved": torch.cuda.max_memory_reserved(self.device),
            "phases": phases.record(),
        }

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"samples": list(self.samples), "clock": self.clock.elapsed()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.samples = [tuple(sample) for sample in state["samples"]]
        self.clock.load_state_dict({"totals": {}, "elapsed": state["clock"]})


@torch.inference_mode()
def evaluate(model: nn.Module, data: Dataset) -> dict[str, float]:
    """Mean loss and accuracy (a fraction of 1) over the test set."""
    model.eval()
    sums = Sums(data.test_labels.device)
    size = EVALUATION_BATCH[data.test_labels.device.type]
    images, labels = data.test_images.split(size), data.test_labels.split(size)
    for some_images, some_labels in zip(images, labels, strict=True):
        logits = model(data.normalise(some_images))
        sums.add(F.cross_entropy(logits, some_labels), logits, some_labels)
        sums.examples += len(some_labels)
    return sums.means()


def _lr_schedule(spec: RunSpec, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """torch's own schedule, stepped once a training step."""
    if spec["LR_SCHEDULE"] == "cosine":
        return CosineAnnealingLR(optimizer, T_max=spec.total_steps)
    return LambdaLR(optimizer, lambda step: 1.0)


def _plain_groups(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The optimizer's actual settings: what was used, not what was asked for."""
    return [
        {
            **{name: value for name, value in group.items() if name != "params"},
            "params": len(group["params"]),
            "max_grad_norm": getattr(optimizer, "max_grad_norm", None),
        }
        for group in optimizer.param_groups
    ]


def _random_state(device: torch.device) -> dict[str, Any]:
    """torch's own random states; the order of the data has a generator of its own."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


_loaded: dict[tuple[object, ...], Dataset] = {}


def _dataset(spec: RunSpec, data_dir: Path, image_size: int, device: str) -> Dataset:
    """The run's data on its device; loaded once a process, the last one only is kept."""
    names = ("DATASET", "DATASET_DIGEST", "TRAIN_EXAMPLES", "VALIDATION_EXAMPLES")
    key = (*(spec[name] for name in names), str(data_dir), image_size, device)
    if key not in _loaded:
        _loaded.clear()
        data = datasets.load(spec["DATASET"], data_dir, spec["DATASET_DIGEST"])
        if len(data.train_labels) != spec["TRAIN_EXAMPLES"]:
            raise UserError(
                f"dataset {spec['DATASET']}: has {len(data.train_labels)} training examples, "
                f"declared are {spec['TRAIN_EXAMPLES']}"
            )
        if spec["VALIDATION_EXAMPLES"]:
            data = data.validating(spec["VALIDATION_EXAMPLES"])
        _loaded[key] = data.padded(image_size).to(torch.device(device))
    return _loaded[key]
