"""What pruning adds to training: masks in each step, and an update every so many steps."""

from collections.abc import Mapping, Sequence
from statistics import median

import torch

from adamwprune import optimizers, pruning
from adamwprune.optimizers._base import Base
from adamwprune.plan.spec import RunSpec
from adamwprune.pruning import Pruner
from adamwprune.train import precision
from adamwprune.train.data import network_for
from benchmarks import metrics, networks
from benchmarks.metrics import Metric, Options, at_most
from benchmarks.training.cells import DENSE, RAMP_STEPS

GOAL = at_most(2.0)  # per cent of a step


class Optimizer:
    """A run's optimizer and pruner on random gradients: no forward and no backward pass."""

    def __init__(self, spec: RunSpec, device: str) -> None:
        network = network_for(spec.settings)
        model = precision.in_format(network.module.to(device), spec)
        parameters = optimizers.decayed(model, spec["DECAYED"])
        self.device = device
        self.optimizer: Base = optimizers.build(spec["OPTIMIZER"], parameters, spec.settings)
        ramp_end = spec.ramp_end_step if "PRUNING_RAMP_END" in spec else 0
        self.pruner: Pruner = pruning.build(model, spec.settings, ramp_end, network.prunable)
        self.pruner.attach(self.optimizer)
        generator = torch.Generator(device).manual_seed(0)
        self.network = networks.Network(
            model,
            [
                torch.empty_like(param).normal_(std=0.01, generator=generator)
                for param in model.parameters()
            ],
        )

    def step(self) -> float:
        """Seconds of a step."""
        self.network.give_gradients()
        return networks.seconds(self.optimizer.step, self.device)

    def update(self) -> float:
        """Seconds of the last update of the ramp, in which it is brought to the target."""
        for _ in range(RAMP_STEPS - 1):
            self.step()
        self.pruner.steps = RAMP_STEPS
        return networks.seconds(torch.no_grad()(self.pruner.update), self.device)


def updates(spec: RunSpec, options: Options) -> list[float]:
    """Seconds of an update, each of a new network; the first one meets cold caches."""
    count = options.repetitions + 1
    return [Optimizer(spec, options.device).update() for _ in range(count)][1:]


def optimizer_steps(
    specs: Mapping[str, RunSpec], options: Options, steps: int
) -> dict[str, list[float]]:
    """Seconds of an optimizer's step by method, in turns; a reading is the median of ``steps``."""
    each = {name: Optimizer(spec, options.device) for name, spec in specs.items()}
    for name, one in each.items():
        if name != DENSE:
            one.update()
    found: dict[str, list[float]] = {name: [] for name in each}
    for _ in range(options.repetitions):
        times: dict[str, list[float]] = {name: [] for name in each}
        for _ in range(steps):
            for name, one in each.items():
                times[name].append(one.step())
        for name, taken in times.items():
            found[name].append(median(taken))
    return found


def shares(
    section: str,
    specs: Mapping[str, RunSpec],
    steps: Mapping[str, Sequence[float]],
    interval: int,
    options: Options,
) -> list[Metric]:
    """Pruning's part of a dense step by method, with an update every ``interval`` steps.

    ``steps``: seconds of a whole step by method. What masks add is, on a CPU, the difference of the
    optimizer's steps, which are much quieter than whole ones; on a GPU, where whole steps are
    graphs, that of the whole steps.
    """
    on_cpu = options.device == "cpu"
    masked = optimizer_steps(specs, options, 2 if options.quick else 30) if on_cpu else steps
    added_by = "to the optimizer's step" if on_cpu else "to a step"
    found = []
    for method, spec in specs.items():
        if method == DENSE:
            continue
        update = updates(spec, options)
        added = [
            max(0.0, pruned - dense)
            for pruned, dense in zip(masked[method], masked[DENSE], strict=True)
        ]
        percent = [
            100 * (mask + median(update) / interval) / dense
            for mask, dense in zip(added, steps[DENSE], strict=True)
        ]
        note = (
            f"an update every {interval} steps; masks add {1000 * median(added):.3f} ms {added_by}"
        )
        goal = None if options.quick else GOAL
        found += [
            metrics.of(section, f"mask update, {method}", "ms", [1000 * each for each in update]),
            metrics.of(section, f"pruning's share, {method} at 90%", "%", percent, goal, note),
        ]
    return found
