"""The only training loop: a spec goes in, a record comes out.

It knows no model, data set, optimizer or pruning method by name.
"""

from __future__ import annotations

import datetime
import io
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler

from adamwprune import datasets, environment, files, memory, models, optimizers, pruning, store
from adamwprune.datasets import Dataset
from adamwprune.errors import UserError
from adamwprune.record import RunResult
from adamwprune.spec import RunSpec

EVALUATION_BATCH = 1000
TIMELINE_INTERVAL = 10  # steps between samples of a GPU's allocated bytes

log = logging.getLogger(__name__)
Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Job:
    """One run and how to run it. Plain data: it crosses processes as JSON."""

    spec: RunSpec
    folder: Path  # the run's own directory
    data_dir: Path
    device: str  # "cpu", "cuda:0", ...
    threads: int
    command: str  # the line that repeats the run

    def to_json(self) -> dict[str, Any]:
        """Plain data, ready for ``json.dumps``."""
        paths = {"folder": str(self.folder), "data_dir": str(self.data_dir)}
        return {**vars(self), **paths, "spec": dict(self.spec.values)}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Job:
        """The inverse of :meth:`to_json`."""
        spec, folder, data = plain["spec"], Path(plain["folder"]), Path(plain["data_dir"])
        return cls(**{**plain, "spec": RunSpec(spec), "folder": folder, "data_dir": data})


def run(job: Job, progress: Progress = lambda event: None) -> RunResult:
    """Train one run in its directory and publish its record, also when it fails.

    What no run could survive (a missing data set, a full disk) is not the run's failure: it is
    raised as :class:`UserError`, and nothing is published.
    """
    torch.set_num_threads(job.threads)
    try:
        with _logging_to(job.folder / "log.txt"):
            started = _now()
            result = _trained(job, progress)
            place = environment.describe(torch.device(job.device), job.threads)
            times = {"started": started, "ended": _now(), "command": job.command}
            result = replace(result, environment={**place, **times})
            store.publish(job.folder, result)
            return result
    except OSError as error:
        where = error.filename or job.folder
        raise UserError(f"{where}: {error.strerror or error}") from None


def _trained(job: Job, progress: Progress) -> RunResult:
    try:
        return Training(job, progress).train()
    except (UserError, OSError):
        raise
    except Exception as error:  # noqa: BLE001  any other error is this run's, and is recorded
        log.error("failed: %s", error)
        return RunResult(job.spec.run_id, "failed", job.spec, error=traceback.format_exc())


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Send the package's log, and warnings, to a file of the run's own."""
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.captureWarnings(True)
    loggers = [logging.getLogger("adamwprune"), logging.getLogger("py.warnings")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()


class Training:
    """One run: everything that is built from its spec, and the loop over it."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self.clock = Clock()
        self.job, self.spec, self.progress = job, job.spec, progress
        self.device = torch.device(job.device)
        torch.backends.cudnn.deterministic = True
        torch.manual_seed(self.spec["SEED"])
        # Built on the CPU: the same initial weights on every device.
        network = models.build(self.spec["MODEL"])
        self.model = network.module.to(self.device)
        self.data = _dataset(self.spec, job.data_dir, network.image_size, job.device)
        self.optimizer = optimizers.build(
            self.spec["OPTIMIZER"], self.model.parameters(), self.spec.values
        )
        self.pruner = pruning.build(self.model, self.spec.values, self._ramp_end())
        self.pruner.attach(self.optimizer)
        self.schedule = _lr_schedule(self.spec, self.optimizer)
        self.order = torch.Generator(self.device).manual_seed(self.spec["SEED"])
        self.timeline = Timeline(self.device)
        self.step = 0
        self.history: list[dict[str, float]] = []

    def _ramp_end(self) -> int:
        return self.spec.ramp_end_step if "PRUNING_RAMP_END" in self.spec else 0

    def train(self) -> RunResult:
        """All epochs, the checks at the end, the weights on disk; returns the record."""
        metrics = self.job.folder / "metrics.jsonl"
        metrics.unlink(missing_ok=True)
        log.info("%s on %s, %d threads", self.spec.run_id, self.job.device, self.job.threads)
        setup = self.clock.lap()
        for epoch in range(1, self.spec["EPOCHS"] + 1):
            entry = self._epoch(epoch)
            self.history.append(entry)
            files.append_line(metrics, entry)
            self._report(entry)
        self.pruner.verify()
        record = self._record(setup)
        self._save_weights()
        return record

    def _epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the training set and one over the test set."""
        self.clock.lap()
        trained = self._train_epoch(epoch)
        seconds = self.clock.lap("train")
        tested = evaluate(self.model, self.data)
        seconds += self.clock.lap("evaluate")
        return {
            "epoch": epoch,
            "step": self.step,
            **{f"train_{name}": value for name, value in trained.items()},
            **{f"test_{name}": value for name, value in tested.items()},
            "sparsity": self.pruner.sparsity(),
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": seconds,
        }

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        self.model.train()
        examples = len(self.data.train_labels)
        order = torch.randperm(examples, generator=self.order, device=self.device)
        sums = Sums(self.device)
        for batch in order.split(self.spec["BATCH_SIZE"]):
            labels = self.data.train_labels[batch]
            logits = self.model(self.data.normalise(self.data.train_images[batch]))
            loss = F.cross_entropy(logits, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.step += 1
            sums.add(loss.detach(), logits.detach(), labels)
            self.timeline.sample(self.step)
            self.progress({"event": "step", "epoch": epoch, "step": self.step})
        return sums.means()

    def _report(self, entry: dict[str, float]) -> None:
        self.progress({"event": "epoch", **entry})
        log.info(
            "epoch %d/%d  loss %.4f  test loss %.4f  accuracy %.2f%%  sparsity %.2f%%  %.2f s",
            entry["epoch"],
            self.spec["EPOCHS"],
            entry["train_loss"],
            entry["test_loss"],
            100 * entry["test_accuracy"],
            100 * entry["sparsity"],
            entry["seconds"],
        )

    def _record(self, setup: float) -> RunResult:
        last = self.history[-1]
        names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
        seconds = {"setup": setup, **self.clock.totals, "total": self.clock.elapsed()}
        ledger = memory.account(self.model, self.optimizer, self.pruner)
        return RunResult(
            run_id=self.spec.run_id,
            status="done",
            spec=self.spec,
            history=self.history,
            final={name: last[name] for name in names},
            pruning=self._pruning(),
            param_groups=_plain_groups(self.optimizer),
            memory={**ledger, "device": self.timeline.record()},
            seconds=seconds,
        )

    def _pruning(self) -> dict[str, Any]:
        layers = self.pruner.layers()
        return {
            "method": self.spec["PRUNING_METHOD"],
            "requested": self.spec.sparsity,
            "k": self.pruner.k,
            "zeros": sum(layer["zeros"] for layer in layers),
            "prunable": self.pruner.numel,
            "layers": layers,
            "updates": self.pruner.updates,
            "returned": self.pruner.returned,
            "mask_storage": self.spec.values.get("MASK_STORAGE"),
        }

    def _save_weights(self) -> None:
        buffer = io.BytesIO()
        torch.save(self.model.state_dict(), buffer)
        files.write_bytes(self.job.folder / "weights.pt", buffer.getvalue())


class Clock:
    """Wall-clock seconds: since the start, since the last lap, and summed by name."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.totals: dict[str, float] = {}

    def lap(self, name: str = "") -> float:
        """Seconds since the last lap, added to ``name`` if there is one."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        if name:
            self.totals[name] = self.totals.get(name, 0.0) + seconds
        return seconds

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start


class Sums:
    """Loss and hits, accumulated on the device and read back once."""

    def __init__(self, device: torch.device) -> None:
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.hits = torch.zeros((), dtype=torch.int64, device=device)
        self.examples = 0

    def add(self, mean_loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add one batch: its mean loss, logits ``[n, classes]`` and labels ``[n]``."""
        self.loss += mean_loss * len(labels)
        self.hits += (logits.argmax(1) == labels).sum()
        self.examples += len(labels)

    def means(self) -> dict[str, float]:
        """Mean loss and accuracy (a fraction of 1) over all examples; ``ValueError`` if NaN."""
        loss = self.loss.item() / self.examples
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise ValueError(f"training diverged: the loss is {loss}")
        return {"loss": loss, "accuracy": self.hits.item() / self.examples}


class Timeline:
    """A GPU's allocated bytes over the steps; nothing on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.samples: list[tuple[int, float, int]] = []
        self.clock = Clock()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def sample(self, step: int) -> None:
        """Note the bytes allocated after ``step``."""
        if self.device.type == "cuda" and step % TIMELINE_INTERVAL == 0:
            allocated = torch.cuda.memory_allocated(self.device)
            self.samples.append((step, round(self.clock.elapsed(), 4), allocated))

    def record(self) -> dict[str, Any] | None:
        """``timeline``: [step, seconds, bytes] rows; ``peak``: bytes. None on a CPU."""
        if self.device.type != "cuda":
            return None
        peak = torch.cuda.max_memory_allocated(self.device)
        return {"timeline": [list(sample) for sample in self.samples], "peak": peak}


@torch.inference_mode()
def evaluate(model: nn.Module, data: Dataset) -> dict[str, float]:
    """Mean loss and accuracy (a fraction of 1) over the test set."""
    model.eval()
    sums = Sums(data.test_labels.device)
    images = data.test_images.split(EVALUATION_BATCH)
    labels = data.test_labels.split(EVALUATION_BATCH)
    for some_images, some_labels in zip(images, labels, strict=True):
        logits = model(data.normalise(some_images))
        sums.add(F.cross_entropy(logits, some_labels), logits, some_labels)
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


_loaded: dict[tuple[str, str, int, str, int, str], Dataset] = {}


def _dataset(spec: RunSpec, data_dir: Path, image_size: int, device: str) -> Dataset:
    """The run's data on its device; loaded once a process, the last one only is kept."""
    digest = spec["DATASET_DIGEST"]
    key = (spec["DATASET"], digest, spec["TRAIN_EXAMPLES"], str(data_dir), image_size, device)
    if key not in _loaded:
        _loaded.clear()
        data = datasets.load(spec["DATASET"], data_dir, digest)
        if len(data.train_labels) != spec["TRAIN_EXAMPLES"]:
            raise UserError(
                f"dataset {spec['DATASET']}: has {len(data.train_labels)} training examples, "
                f"declared are {spec['TRAIN_EXAMPLES']}"
            )
        _loaded[key] = data.padded(image_size).to(torch.device(device))
    return _loaded[key]
