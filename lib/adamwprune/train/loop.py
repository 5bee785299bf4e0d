"""The only training loop. It knows no model, dataset, task, optimizer or pruning method by name.

It computes and holds its state; it writes nothing. Files, records and checkpoints are its
caller's, :mod:`adamwprune.run.runner`: what is imported here is part of every record's code digest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from adamwprune import optimizers, pruning, tasks
from adamwprune.plan.spec import RunSpec
from adamwprune.tasks import Sums, measured
from adamwprune.train import learning_rate, precision
from adamwprune.train.compiling import CannotCompile, compiled
from adamwprune.train.data import Order, loaded, network_for
from adamwprune.train.evaluation import evaluate
from adamwprune.train.graphs import CudaRecorder, Recorder, StepGraphs
from adamwprune.train.measure.clock import Clock
from adamwprune.train.measure.course import Course
from adamwprune.train.measure.overlap import Overlap
from adamwprune.train.measure.phase_peaks import FIRST_STEP, INIT, STEADY, Cuda, Phases
from adamwprune.train.measure.speed import examples_seen, throughput
from adamwprune.train.measure.timeline import Timeline
from adamwprune.train.measure.update_peak import UpdateMeter
from adamwprune.train.parallel import Parallel
from adamwprune.train.step_trace import Trace

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Watch(Protocol):
    """Who looks on, and may stop the training by raising an exception."""

    def stepped(self, training: Training) -> None:
        """After each step: its state is that of a whole number of steps."""

    def evaluated(self, training: Training, entry: dict[str, float]) -> None:
        """After each evaluation; ``entry`` is the last of the history."""


class Training:
    """One run: everything that is built from its spec, and the loop over it.

    Its state after any step can be taken with :meth:`state_dict`; a training of the same spec,
    device and number of threads that is given it goes on with the same bits (on the CPU).
    On a GPU its steps are captured and replayed (:mod:`adamwprune.train.graphs`); without
    ``graphs`` they are not, for whoever wants to look into them. ``group``: the ranks that train it
    together, each of which makes the same calls; ``shards``: and holds but its rows of weights,
    gradients and states.
    """

    def __init__(
        self,
        spec: RunSpec,
        data_dir: Path,
        device: str,
        *,
        graphs: bool = True,
        group: ProcessGroup | None = None,
        shards: bool = False,
    ) -> None:
        self.clock = Clock()
        self.spec = spec
        self.device = torch.device(device)
        self.parallel = None if group is None else Parallel(group, shards=shards)
        self.ranks = 1 if self.parallel is None else self.parallel.size
        # A graph would hold the gradients that are to be released; of ranks none is captured.
        can_capture = not spec["RELEASE_GRADIENTS"] and self.parallel is None
        self.captures = graphs and self.device.type == "cuda" and can_capture
        self.timeline = Timeline(self.device)
        self.phases = Phases(Cuda(self.device)) if self.device.type == "cuda" else None
        self._enter(INIT)
        torch.backends.cudnn.deterministic = True
        precision.prepare(spec, self.device)
        torch.manual_seed(spec["SEED"])
        # Built on the CPU: the same initial weights on every device.
        network = network_for(spec.settings)
        module = network.module.to(self.device)
        if self.parallel is not None:
            module = self.parallel.prepared(module, self.device)
        self.model = precision.in_format(module, spec)
        if self.parallel is not None and shards:
            self.parallel.shard(self.model, self.device)
        self.data = loaded(spec.settings, data_dir, network.takes, self.device)
        self.task = tasks.build(spec.settings, self.data)
        self.optimizer = optimizers.build(
            spec["OPTIMIZER"], optimizers.decayed(self.model, spec["DECAYED"]), spec.settings
        )
        ramp_end = spec.ramp_end_step if "PRUNING_RAMP_END" in spec else 0
        self.pruner = pruning.build(self.model, spec.settings, ramp_end, network.prunable, group)
        self.meter = UpdateMeter(self.phases).attach(self.pruner)
        Overlap(self.clock, self.phases).attach(self.pruner)
        self.course = Course(self.model, self.optimizer, self.pruner).attach()
        self.pruner.attach(self.optimizer)  # prunes, where the sparsity is constant
        # After the pruner: its hook masks the gradient whose norm is noted.
        self.trace = Trace(self.optimizer, spec.total_steps).attach()
        if spec["RELEASE_GRADIENTS"]:
            self.course.released = optimizers.ReleasedGradients(
                self.optimizer, self.pruner
            ).attach()
            self.course.released.on_gradient = self.trace.released
        self.schedule = learning_rate.schedule(spec, self.optimizer)
        self.step = 0  # steps done
        self.order = Order(self.data.examples, spec["BATCH_SIZE"], spec["SEED"], self.device)
        self.accumulation = spec["ACCUMULATION"]  # parts of a batch, one after the other
        self.sums = Sums(self.task.totals, self.device)  # since the last evaluation
        self.history: list[dict[str, float]] = []  # an entry an evaluation
        self.forward = precision.Forward(self.model, spec, self.device)
        self.network = self.forward  # what trains: compiled, where that is asked for
        self.not_compiled = ""  # why, where it was asked for
        self.note = "; ".join(filter(None, (network.note, self.optimizer.note)))
        if spec["TORCH_COMPILE"]:
            self._compile()
        if self.parallel is not None:
            self._sizes()  # refuses what has not an example for each rank
            inputs = self.data.batch(self.first(1)).inputs
            whole = self.parallel.wrapped(self.network.network, inputs)
            self.network = precision.Forward(whole, spec, self.device)
        self.clock.lap("setup")

    def _parts(self) -> list[Tensor]:
        """Parts of batches of every length that there is."""
        examples, size = self.data.examples, self.spec["BATCH_SIZE"]
        batches = {min(size, examples), examples % size or size}
        return [part for n in batches for part in torch.arange(n).chunk(self.accumulation)]

    def _sizes(self) -> set[int]:
        """How many examples the network is given at a time."""
        return {len(self._mine(part)) for part in self._parts()}

    def _mine(self, part: Tensor) -> Tensor:
        """Of a part of a batch what this rank computes: all of it, if it is the only one."""
        return part if self.parallel is None else self.parallel.share(part)

    def _compile(self) -> None:
        if self.parallel is not None and any(len(p) % self.parallel.size for p in self._parts()):
            # Ranks that compile for other shapes than the rest meet in no collective operation.
            self.not_compiled = "the ranks' shares of a batch differ"
            return
        parts = (self.data.batch(self.first(n)) for n in sorted(self._sizes()))
        score, weights = self.pruner.score, list(self.pruner.weights.values())
        seen = score.state_dict(weights) if score.observes_inputs else None
        try:
            fast = compiled(self.model.train(), (part.inputs for part in parts))
            self.network = precision.Forward(fast, self.spec, self.device)
        except CannotCompile as error:
            self.not_compiled = str(error)
        if seen is not None:  # the batches of compiling are no training
            score.load_state_dict(seen, weights)

    @property
    def shares_checkpoints(self) -> bool:
        """Whether each rank holds a part of a checkpoint, so that all must make one together."""
        return self.parallel is not None and self.parallel.shards

    def tell_checkpoint(self, is_due: bool) -> bool:
        """Where checkpoints are shared: whether rank 0 says that one is due after this step."""
        assert self.parallel is not None
        return self.parallel.tell(is_due)

    def first(self, examples: int) -> Tensor:
        """Picks of so many examples, for what needs a batch of that size."""
        numbers = torch.arange(examples, device=self.device)
        return torch.stack((numbers, torch.zeros_like(numbers)), dim=1)

    def train(self, watch: Watch) -> None:
        """All steps that are left, the evaluations, and the check of the pruning contract.

        Raises :class:`~adamwprune.tasks.Diverged`, :class:`~adamwprune.pruning.ContractViolation`,
        and what ``watch`` raises.
        """
        ends = self.spec.evaluated_after
        with self._on_a_stream():
            graphs = StepGraphs(self._compute, self._recorder()) if self.captures else None
            self._begin_training()
            while len(self.history) < len(ends):
                if self.step < ends[len(self.history)]:
                    self._one_step(graphs)
                    watch.stepped(self)
                else:
                    self.history.append(self._evaluation())
                    watch.evaluated(self, self.history[-1])
                    self._begin_training()
        self.pruner.verify()

    def _begin_training(self) -> None:
        self.clock.lap()
        self.model.train()

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

    def _one_step(self, graphs: StepGraphs | None) -> None:
        """The next batch through the network and the optimizer, and what is noted of it."""
        picks = self.order.next()
        self._enter(STEADY if self.step else FIRST_STEP)
        rate = self.optimizer.rate
        if graphs is None:
            self._compute(picks)
        else:
            self.optimizer.write_rates()
            if graphs(picks, self._step_kind()):
                self.optimizer.step_replayed()
                self.pruner.step_replayed()
        self.schedule.step()
        self.step += 1
        self.sums.examples += len(picks)
        self.timeline.sample(self.step)
        self.trace.stepped(self.step, rate)
        self.course.stepped(self.step)

    def _compute(self, picks: Tensor) -> None:
        """One step over these examples: all that the device does of it, and no more."""
        parts = picks.chunk(self.accumulation)
        for part in parts:
            mine = self._mine(part)
            batch = self.data.batch(mine)
            with contextlib.nullcontext() if part is parts[-1] else self._unsynchronised():
                loss, output = self.task.loss(self.network, batch)
                if part is parts[0]:
                    self.optimizer.zero_grad()  # not earlier: gradients need not be there meanwhile
                weight = self.ranks * len(mine) / len(picks)  # of ranks the gradient is the mean
                (loss if weight == 1 else loss * weight).backward()
            self.task.observe(self.sums, batch, loss.detach(), output.detach())
        self.optimizer.step()
        if self.parallel is not None:
            self.parallel.add_up(self.sums)

    def _unsynchronised(self) -> AbstractContextManager[None]:
        if self.parallel is None:
            return contextlib.nullcontext()
        return self.parallel.unsynchronised(self.network.network)

    def _evaluation(self) -> dict[str, float]:
        """An entry of the history: the metrics over the steps since the last one, and now."""
        trained = measured(self.task, self.sums)
        self.clock.lap("train")
        tested = evaluate(self.model, self.task, self.data, self.forward, self.parallel)
        self.clock.lap("evaluate")
        self.sums.reset()
        if self.parallel is not None:
            self.parallel.note(self.sums)
        return {
            "epoch": self.spec.epochs_after(self.step),
            "step": self.step,
            **{f"train_{name}": value for name, value in trained.items()},
            **{f"test_{name}": value for name, value in tested.items()},
            "sparsity": self.pruner.sparsity(),
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": self.clock.of("train", "evaluate")
            - sum(earlier["seconds"] for earlier in self.history),
        }

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
        parts = [f"{part}_{m.name}" for part in ("train", "test") for m in self.task.metrics]
        return {
            "history": self.history,
            "final": {name: self.history[-1][name] for name in parts},
            "metrics": [metric.to_json() for metric in self.task.metrics],
            "examples": self.data.measured_on,
            "pruning": self._pruning(),
            "trace": self.trace.record(),
            "param_groups": _plain_groups(self.optimizer),
            "memory": {
                **self.course.account(),
                **self.course.record(),
                "mask_update": self.meter.record(),
                "device": self.timeline.record(self.phases),
            },
            "seconds": {**self.clock.totals, "total": self.clock.elapsed()},
            "speed": throughput(self._examples_seen(), self.clock.of("train"), self.data.kind),
        }

    def _examples_seen(self) -> int:
        return examples_seen(self.step, self.data.examples, self.spec["BATCH_SIZE"])

    def _pruning(self) -> dict[str, Any]:
        return {
            "method": self.spec["PRUNING_METHOD"],
            "mask_storage": self.spec.values.get("MASK_STORAGE"),
            **self.pruner.record(),
        }

    def whole_weights(self) -> dict[str, Any]:
        """The model's ``state_dict``; of sharded weights on rank 0, and all ranks ask for it."""
        if self.shares_checkpoints:
            whole: dict[str, Any] = _sharded().model_state(self.model)
            return whole
        return self.model.state_dict()

    def whole_network(self, weights: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
        """A network with these whole weights that no other rank has a part in, and its prunable
        weights by name: the model itself, where its own are not sharded.
        """
        if not self.shares_checkpoints:
            return self.model, dict(self.pruner.weights)
        module = network_for(self.spec.settings).module.to(self.device)
        module.load_state_dict(weights)
        parameters = dict(module.named_parameters())
        return module, {name: parameters[name] for name in self.pruner.weights}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on: tensors and plain data.

        Where :attr:`shares_checkpoints` all ranks ask for it, and rank 0 has it whole.
        """
        if self.shares_checkpoints:
            held = _sharded().optimizer_state(self.model, self.optimizer)
        else:
            held = self.optimizer.state_dict()
        return {
            "model": self.whole_weights(),
            "optimizer": held,  # and with it the pruner's
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "sums": self.sums.state_dict(),
            "trace": self.trace.state_dict(),
            "course": self.course.state_dict(),
            "history": list(self.history),
            "order": self.order.state_dict(),
            "random": _random_state(self.device),
            "clock": self.clock.state_dict(),
            "timeline": self.timeline.state_dict(),
            "meter": self.meter.state_dict(),
            "phases": self.phases.state_dict() if self.phases else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        if self.shares_checkpoints:
            _sharded().load(self.model, self.optimizer, state)
        else:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step = state["step"]
        self.sums.load_state_dict(state["sums"])
        if self.parallel is not None:
            self.parallel.note(self.sums)
        self.trace.load_state_dict(state["trace"])
        self.course.load_state_dict(state["course"])
        self.history = list(state["history"])
        self.order.load_state_dict(state["order"])
        _set_random_state(state["random"], self.device)
        self.clock.load_state_dict(state["clock"])
        self.timeline.load_state_dict(state["timeline"])
        self.meter.load_state_dict(state["meter"])
        if self.phases and state["phases"]:
            self.phases.load_state_dict(state["phases"])


def _sharded() -> ModuleType:
    from adamwprune.train import sharded  # here, because what it needs takes a second to import

    return sharded


def _plain_groups(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The optimizer's actual settings: what was used, not what was asked for."""
    return [
        {
            **{name: value for name, value in group.items() if not _is_state(name, value)},
            "params": len(group["params"]),
            "max_grad_norm": getattr(optimizer, "max_grad_norm", None),
        }
        for group in optimizer.param_groups
    ]


def _is_state(name: str, value: Any) -> bool:
    """Whether an entry of a parameter group is no setting; a mapping is what a class keeps."""
    return name == "params" or isinstance(value, Mapping)


def _random_state(device: torch.device) -> dict[str, Any]:
    """torch's own random states; the order of the data has a generator of its own."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
