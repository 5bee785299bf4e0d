"""One run in its directory: locked, resumed, watched, recorded.

What a run leaves there::

    result.json      the record: the only sign that the run has ended
    weights.pt       the final weights, a plain state_dict
    metrics.jsonl    one line an epoch
    log.txt          what a person would want to read
    spec.yaml, defconfig, config    what the run is
    checkpoint.pt, checkpoint-previous.pt, progress.json    only until there is a record
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import json
import logging
import math
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adamwprune.base import files
from adamwprune.base.errors import UserError
from adamwprune.base.forms import Form, misfit
from adamwprune.base.wording import at_place, counted, last_line
from adamwprune.config import sources
from adamwprune.plan.job import Event, Job
from adamwprune.pruning import ContractViolation, NotANumber
from adamwprune.records import lease, staleness, store
from adamwprune.records.brief import read_result
from adamwprune.records.code import Code
from adamwprune.records.locks import lock
from adamwprune.records.record import RunResult
from adamwprune.run import checkpoint, environment, operations, process_settings, ranks, weights
from adamwprune.tasks import Diverged, Sampling, measured
from adamwprune.train.loop import Training

HEARTBEAT = 0.5  # seconds between progress events
FIRST_STEPS = 3  # after which a run's peak memory is known
MOVED = "was moved, removed or replaced while its run trained"
TAKEN_OVER = "another attempt has taken the run over"
# What a checkpoint holds beside its training.
CHECKPOINT: Form = {
    "threads": int,
    "attempts": [{"started": str, "from_step": int}],
    "layer_zeros": [[(int, [int])]],  # the step of an update, and each layer's after it
}
MOST_THREADS = 1024
VERDICTS = (Diverged, NotANumber, ContractViolation)  # the same run would end so again

log = logging.getLogger(__name__)
Progress = Callable[[dict[str, Any]], None]


class Stopped(Exception):
    """The run was asked to stop; its checkpoint is written."""


class Lost(UserError):
    """Another attempt has taken the run over; this one writes nothing any more."""


class Crashed(Exception):
    """The run ended in an error that it need not end in again; holds the traceback."""

    def __init__(self, error: str, out_of_memory: bool) -> None:
        self.out_of_memory = out_of_memory
        super().__init__(error)


def run(
    job: Job,
    code: Code,
    progress: Progress = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Train one run in its directory, from its checkpoint if it has one, and publish its record.

    A run that another process is training is waited for, and not trained again. Raises
    :class:`Stopped` after ``should_stop`` said so, :class:`Crashed` for an error that a retry may
    mend, :class:`Lost` where another attempt took a leased run over, and :class:`UserError` for
    what no run could survive (a missing data set, a full disk): then nothing is published.
    """
    made = False
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        made = True
        store.check_identity(job.folder, job.spec)
        with _held(job, progress, should_stop) as is_ours:
            files.remove_leftovers(job.folder)
            found = None if job.retrain else _finished(job, code)
            if found is not None:
                return found
            store.prepare(job.folder, job.spec, job.defconfig, job.config)
            return _Run(job, code, progress, should_stop, is_ours).train()
    except OSError as error:
        if made and not job.folder.is_dir():
            raise UserError(f"{job.folder}: {MOVED}") from None
        if made and job.work and not Path(job.work).is_dir():
            raise Lost(f"{job.folder}: {TAKEN_OVER}") from None
        where = error.filename or job.folder
        raise UserError(f"{where}: {files.reason(error)}") from None


@contextmanager
def _held(
    job: Job, progress: Progress, should_stop: Callable[[], bool]
) -> Iterator[Callable[[], bool]]:
    """Hold the run's directory; a function that says whether it is still held.

    By its lease, if the job has one. Otherwise by a lock, and also by a lease where other hosts
    have trained this run, or were to train runs of this directory.
    """
    if job.work:
        with files.fenced(job.folder, Path(job.work)):
            yield Path(job.work).is_dir
        return

    def wait(holder: str) -> None:
        progress({"event": Event.WAITING, "pid": holder})

    def patience() -> None:
        if should_stop():
            raise Stopped

    with lock(job.folder / store.LOCK, wait, patience) as is_ours:
        places = job.folder / lease.FOLDER, job.folder.parent / lease.CLUSTER
        if not any(place.exists() for place in places):
            yield is_ours
            return
        with lease.held(job.folder, wait, patience) as work, files.fenced(job.folder, work):
            yield lambda: is_ours() and work.is_dir()


def fail(job: Job, code: Code, error: str) -> RunResult:
    """Record that the run failed: ``error``, and the end of its log."""
    place = {**job.source, "device": job.device, "threads": job.threads, "command": job.command}
    return store.publish_failure(job.folder, job.spec, error, place, code.to_json())


def _finished(job: Job, code: Code) -> RunResult | None:
    """The record that another process made while this one waited."""
    path = job.folder / store.RESULT
    if not files.is_there(path):
        return None
    result = read_result(path)
    fresh = result.status == "done" and not staleness.changes(result, code)
    return result if fresh else None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _line(training: Training, entry: dict[str, float]) -> str:
    """An evaluation for a person: each metric on the training and on the test set."""
    words = [f"epoch {entry['epoch']:g}/{training.spec.epochs:g}"]
    for metric in training.task.metrics:
        trained, tested = (metric.shown(entry[f"{on}_{metric.name}"]) for on in ("train", "test"))
        words.append(f"{metric.label} {trained:.5g}, test {tested:.5g} {metric.unit}")
    words += [f"sparsity {100 * entry['sparsity']:.2f}%", f"{entry['seconds']:.2f} s"]
    return "  ".join(words)


class _Run:
    """A training and what has to be done beside it; it watches the training's steps."""

    def __init__(
        self,
        job: Job,
        code: Code,
        progress: Progress,
        should_stop: Callable[[], bool],
        is_ours: Callable[[], bool],
    ) -> None:
        self.job, self.code, self.progress, self.should_stop = job, code, progress, should_stop
        self.is_ours = is_ours  # whether the run's directory is still the one that is locked
        self.threads = job.threads
        self.attempts: list[dict[str, Any]] = []
        self.checkpointed = self.told = time.monotonic()
        self.rate = _Rate()
        self.others = contextlib.ExitStack()  # the other ranks, as long as they train
        self.loaded: Path | None = None  # the checkpoint that the run goes on from
        self.stepped_on = False  # whether it has done a step since
        self.training: Training | None = None  # once it has started
        self.densities: operations.Densities | None = None  # of one that no rank shares
        self.zeros: list[Any] = []  # of its layers, as a checkpoint holds them

    def train(self) -> RunResult:
        """The run's record, published."""
        begun = store.has_checkpoint(self.job.folder)
        with _logging_to(self.job.folder / store.LOG, append=begun):
            try:
                process_settings.prepare()
                with self.others:
                    training = self._begun()
                    with self._breathing(training, training.model):
                        training.train(self)
                    outcome, state = training.outcome(), training.whole_weights()
                result = self._result(training, outcome, state)
            except (UserError, OSError, Stopped):
                raise
            except VERDICTS:
                log.error("failed")
                store.remove_checkpoints(self.job.folder)  # the way to the same end
                result = fail(self.job, self.code, traceback.format_exc())
            except Exception as error:  # noqa: BLE001  whatever it is, a retry may mend it
                log.error("crashed")
                self._doubt_checkpoints(error)
                out_of_memory = _is_killed_rank(error) or _is_out_of_memory(error)
                raise Crashed(traceback.format_exc(), out_of_memory) from None
        store.has_ended(self.job.folder)
        return result

    def _begun(self) -> Training:
        """The training, where the newest usable checkpoint left it, or at its first step."""
        obstacles: list[str] = []
        for path, found in checkpoint.readable(self.job.folder):
            obstacle = found if isinstance(found, str) else self._obstacle(path, found)
            if not obstacle and not isinstance(found, str):
                training = self._training(found["threads"], path)  # the last bits depend on it
                obstacle = self._load(training, path, found)
                if not obstacle:
                    if obstacles:
                        self._warn(f"{'; '.join(obstacles)}; an earlier checkpoint is used")
                    before = _ranks(found.get("ranks", 1), found.get("sharded", False))
                    if before != (now := _ranks(self.job.ranks, self.job.shards)):
                        told = f"was made by {before} and goes on by {now}"
                        self._warn(f"{path}: {told}: the last bits will differ")
                    self.loaded = path
                    return self._started(training)
            obstacles.append(f"{path}: {obstacle}")
        if obstacles:
            self._warn(f"{'; '.join(obstacles)}; the run starts anew")
        return self._started(self._training(self.job.threads))

    def _load(self, training: Training, path: Path, found: dict[str, Any]) -> str:
        """Load a checkpoint; what is wrong with one that cannot be, which is set aside."""
        try:
            training.load_state_dict(found["training"])
            if not 0 <= training.step < self.job.spec.total_steps:
                raise ValueError(f"it is of step {training.step} of {self.job.spec.total_steps}")
        except Exception as error:
            if _is_out_of_memory(error):
                raise
            checkpoint.set_aside(path)
            return f"cannot be loaded: {last_line(str(error)) or type(error).__name__}"
        self.attempts, self.zeros = found["attempts"], found.get("layer_zeros", [])
        return ""

    def _doubt_checkpoints(self, error: Exception) -> None:
        """Set aside what the run cannot go on from: a checkpoint after which not one step was
        done, and all of them where it crashed at the same step before.
        """
        if self.training is None or _is_out_of_memory(error) or _is_killed_rank(error):
            return
        again = checkpoint.crashed_again(self.job.folder, self.training.step)
        if self.loaded is None:
            return
        if not self.stepped_on:
            checkpoint.set_aside(self.loaded)
            self._warn(f"{self.loaded}: the run crashed right after it was loaded; it is set aside")
        elif again:
            for name in store.CHECKPOINTS:
                checkpoint.set_aside(self.job.folder / name)
            at = f"the run crashed at step {self.training.step} again"
            self._warn(f"{at}: its checkpoints are set aside, the next attempt starts anew")

    def _training(self, threads: int, path: Path | None = None) -> Training:
        """The training at its first step; other ranks go on from the checkpoint in ``path``."""
        self.threads = threads
        torch.set_num_threads(threads)
        if _kind(self.job.device) == "cuda":
            gc.collect()  # the run before it: optimizer and pruner hold each other, and its graphs
        if self.job.spec["TORCH_COMPILE"]:
            note = "compiles its network, which takes minutes where that was not done before"
            self.progress({"event": Event.NOTE, "text": note})
        self.others.close()  # those of a checkpoint that could not be loaded
        group = self.others.enter_context(ranks.others(self.job, threads, path))
        job = self.job
        return Training(job.spec, job.data_dir, job.device, group=group, shards=job.shards)

    def _started(self, training: Training) -> Training:
        """Note the attempt, and tell where it starts."""
        start = {"started": _now(), "host": socket.gethostname(), "from_step": training.step}
        if self.job.spec["TORCH_COMPILE"]:
            start["compiled"] = not training.not_compiled
        if training.not_compiled:
            self._warn(f"TORCH_COMPILE: trained without, {training.not_compiled}")
        if training.note:
            start["note"] = training.note
            self._warn(training.note)
        self.attempts.append(start)
        self.training = training
        if not self.job.shards:  # the ranks would have to count together
            self.densities = operations.Densities(training.pruner, self.zeros)
            self.densities.look()  # a constant sparsity has begun
        self.rate.add(training.step)
        metrics = "".join(f"{json.dumps(entry)}\n" for entry in training.history)
        files.write_text(self.job.folder / store.METRICS, metrics, folder=False)
        at = f", from step {training.step} of {self.job.spec.total_steps}" if self.loaded else ""
        place = at_place(self.job.device, self.threads, self.job.ranks)
        log.info("%s on %s%s", self.job.spec.run_id, place, at)
        self._tell(training)
        return training

    # -- looking on --------------------------------------------------------------

    def stepped(self, training: Training) -> None:
        """Checkpoint, tell and stop, each when it is time."""
        if self.loaded is not None and not self.stepped_on:
            checkpoint.stepped(self.job.folder)
        self.stepped_on = True
        if self.densities is not None:
            self.densities.look()
        if training.step == self.attempts[-1]["from_step"] + FIRST_STEPS:
            self._tell_memory(training)
        now = time.monotonic()
        stopping = self.should_stop()
        due = now - self.checkpointed >= self.job.checkpoint_seconds
        # After the last step only the evaluation is left, and the gradients are no part of a
        # checkpoint: a record made from one would not count their bytes.
        checkpoints = (stopping or due) and training.step < self.job.spec.total_steps
        if training.shares_checkpoints:
            training.tell_checkpoint(checkpoints)
        if checkpoints:
            self._checkpoint(training)
        if stopping:
            log.info("stopped after step %d", training.step)
            raise Stopped
        self._tell_if_due(training)

    def _tell_if_due(self, training: Training) -> None:
        if time.monotonic() - self.told >= HEARTBEAT:
            self._tell(training)

    def _breathing(
        self, training: Training, network: nn.Module
    ) -> contextlib.AbstractContextManager[object]:
        """Give a sign of life with each batch that the network evaluates, which may take minutes.

        Not of one that is compiled: its compiler would look at what a hook does.
        """
        if self.job.spec["TORCH_COMPILE"]:
            return contextlib.nullcontext()

        def tell(network: nn.Module, *passed: object) -> None:
            if not network.training:
                self._tell_if_due(training)

        return network.register_forward_hook(tell)

    def evaluated(self, training: Training, entry: dict[str, float]) -> None:
        """Note the evaluation, and checkpoint."""
        files.append_line(self.job.folder / store.METRICS, entry)
        log.info("%s", _line(training, entry))
        if training.step < self.job.spec.total_steps:
            self._checkpoint(training)
        else:
            self._tell(training)

    def _checkpoint(self, training: Training) -> None:
        training.clock.lap("train")
        state = {
            "run_id": self.job.spec.run_id,
            "code": self.code.digest,
            "device": _kind(self.job.device),
            "threads": self.threads,
            "ranks": self.job.ranks,
            "sharded": self.job.shards,
            "attempts": self.attempts,
            "layer_zeros": [] if self.densities is None else self.densities.to_json(),
            "training": training.state_dict(),
        }
        self._check_directory()
        checkpoint.write(self.job.folder, state)
        training.clock.lap("checkpoint")
        self.checkpointed = time.monotonic()
        self._tell(training)  # what is interrupted goes on from here

    def _obstacle(self, path: Path, found: dict[str, Any]) -> str:
        """Why a checkpoint is of no use here.

        It is set aside, unless it may be of use again when the code or the device is what it was.
        """
        if found.get("run_id") != self.job.spec.run_id:
            return _set_aside(path, f"is another run's, {found.get('run_id')}")
        if found.get("code") != self.code.digest:
            return "other code wrote it"
        if found.get("device") != _kind(self.job.device):
            return f"was made on {found.get('device')}, this is {self.job.device}"
        if misfit(found, CHECKPOINT) is not None or not _says_how_it_was_made(found):
            return _set_aside(path, "does not say how it was made")
        if checkpoint.begun_loads(self.job.folder) > checkpoint.MOST_LOADS:
            checkpoint.stepped(self.job.folder)  # the next one has not been tried
            often = f"was loaded {checkpoint.MOST_LOADS} times, and no step followed"
            return _set_aside(path, often)
        return ""

    def _warn(self, text: str) -> None:
        log.warning("%s", text)
        self.progress({"event": Event.NOTE, "text": text})

    def _tell(self, training: Training) -> None:
        """Leave a progress event in the run's directory, and send it."""
        self._check_directory()
        self.told = time.monotonic()
        self.rate.add(training.step)
        event = {"event": Event.PROGRESS, **self._state(training)}
        path = self.job.folder / store.PROGRESS
        files.write_text(path, json.dumps(event), durable=False, folder=False)
        self.progress(event)  # who hears it finds the file

    def _check_directory(self) -> None:
        """Nobody else may write where this run does, and it nowhere else."""
        if not self.is_ours():
            if self.job.work and self.job.folder.is_dir():
                raise Lost(f"{self.job.folder}: {TAKEN_OVER}")
            raise UserError(f"{self.job.folder}: {MOVED}")

    def _state(self, training: Training) -> dict[str, Any]:
        spec, metrics = self.job.spec, training.task.metrics
        last = training.history[-1] if training.history else {}
        now: dict[str, float] = {}
        if training.sums.examples:
            with contextlib.suppress(Diverged):  # the next evaluation says so
                now = measured(training.task, training.sums)
        trained = {f"train_{m.name}": now.get(m.name, last.get(f"train_{m.name}")) for m in metrics}
        return {
            "epoch": math.ceil(spec.epochs_after(max(1, training.step))),
            "epochs": math.ceil(spec.epochs),
            "step": training.step,
            "steps": spec.total_steps,
            "metrics": [metric.to_json() for metric in metrics],
            **trained,
            **{f"test_{m.name}": last.get(f"test_{m.name}") for m in metrics},
            "sparsity": training.pruner.k / training.pruner.numel if training.pruner.numel else 0.0,
            "rate": self.rate.value,
            "seconds": training.clock.elapsed(),
            "started_at_step": self.attempts[-1]["from_step"],
            "device": self.job.device,
            "threads": self.threads,
            "ranks": self.job.ranks,
            "pid": os.getpid(),
            "code": self.code.digest,
            "updated": time.time(),
        }

    def _tell_memory(self, training: Training) -> None:
        record = training.timeline.record(training.phases)
        if record is not None:
            self.progress({"event": Event.MEMORY, "bytes": record["reserved"]})

    # -- the end -----------------------------------------------------------------

    def _result(
        self, training: Training, outcome: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> RunResult:
        self._check_directory()
        digest = weights.write(self.job.folder, state)
        network, prunable = training.whole_network(state)
        if isinstance(training.task, Sampling):
            self._sample(training, training.task, network)
        device, job = torch.device(self.job.device), self.job
        place = environment.describe(device, self.threads, job.ranks, sharded=job.shards)
        one = training.data.batch(training.first(1)).inputs
        counted = operations.operations_of(network, one, prunable)
        means = None if self.densities is None else self.densities.means()
        outcome = operations.added(outcome, counted, self.job.spec, place["device_name"], means)
        result = RunResult(
            run_id=self.job.spec.run_id,
            status="done",
            spec=self.job.spec,
            environment={**self.job.source, **place, **self._times()},
            code=self.code.to_json(),
            **outcome,
        )
        result = replace(result, weights=digest)
        store.publish(self.job.folder, result)
        return result

    def _sample(self, training: Training, task: Sampling, network: nn.Module) -> None:
        """What the network writes, beside the record; after everything that is measured."""
        with self._breathing(training, network):
            text = task.sample(network)
        if text:
            files.write_bytes(self.job.folder / store.SAMPLE, text, folder=False)

    def _times(self) -> dict[str, Any]:
        return {
            "started": self.attempts[0]["started"],
            "ended": _now(),
            "attempts": self.attempts,
            "command": sources.placed(self.job.command, self.job.device, self.threads),
        }


def _ranks(number: int, sharded: bool) -> str:
    return f"{counted(number, 'rank')}{' (sharded)' if sharded else ''}"


class _Rate:
    """Steps a second over the last few readings."""

    def __init__(self) -> None:
        self.readings: list[tuple[float, int]] = []

    def add(self, step: int) -> None:
        """Note that ``step`` steps are done by now."""
        self.readings = [*self.readings[-20:], (time.monotonic(), step)]

    @property
    def value(self) -> float | None:
        """None before there is a difference."""
        (first, start), (last, end) = self.readings[0], self.readings[-1]
        return (end - start) / (last - first) if last > first and end > start else None


def _set_aside(path: Path, obstacle: str) -> str:
    """The obstacle, once nobody finds the checkpoint any more."""
    checkpoint.set_aside(path)
    return obstacle


def _says_how_it_was_made(found: dict[str, Any]) -> bool:
    """Whether a checkpoint has what the next attempt and the record need, beside the training."""
    attempts = found.get("attempts") or [{}]
    is_whole = all("started" in each and "from_step" in each for each in attempts)
    return is_whole and 1 <= found.get("threads", 0) <= MOST_THREADS


def _kind(device: str) -> str:
    return device.partition(":")[0]


def _is_killed_rank(error: Exception) -> bool:
    """Whether another rank was killed: for want of memory, perhaps, and not for what it read."""
    return isinstance(error, ranks.RankEnded) and error.killed


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


@contextmanager
def _logging_to(path: Path, append: bool) -> Iterator[None]:
    """Send the package's log, and warnings, to a file of the run's own."""
    handler = logging.StreamHandler(files.open_own(path, "a" if append else "w"))
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
        handler.stream.close()
