"""A mask update and the choice of its threshold; what pruning costs of LeNet-5's training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor

from adamwprune.optimizers import AdamWPrune
from adamwprune.pruning import Pruner, Schedule, State
from adamwprune.pruning.select import radix, selection
from adamwprune.pruning.select.parts import Part
from adamwprune.pruning.select.selection import Scores
from adamwprune.train.measure.update_peak import transient_of
from benchmarks import metrics, networks, optimizer_step
from benchmarks.metrics import Goal, Metric, Options, at_most

SECTION = "mask-update"
SAMPLE = 100_000  # scores from which a threshold is estimated
SLOW = 50_000_000  # scores from which on a sort is timed once: it takes tens of seconds
EPOCHS, STEPS = 10, 118  # of a default run of LeNet-5 on MNIST, and an epoch's steps


def measure(options: Options) -> list[Metric]:
    """Each network's update, then the threshold of its scores by four algorithms."""
    found = []
    for name in options.networks:
        network = networks.build(name, options.device)
        title = networks.title(name)
        update = Update(network)
        judged = name == "gpt2" and not options.quick
        goals = (at_most(0.5), at_most(16.0)) if judged else (None, None)
        found += _update(title, update, options, goals)
        weights = list(update.pruner.weights.values())
        del update, network
        found += _thresholds(title, weights, options)
    return found


class Update:
    """The last update of a linear ramp, from 80 to 90% zeros, as often as it is wanted."""

    STEPS = 9

    def __init__(self, network: networks.Network) -> None:
        optimizer = AdamWPrune(network.parameters, lr=1e-3)
        schedule = Schedule(networks.SPARSITY, 0, networks.NEVER, self.STEPS, "linear")
        self.pruner = Pruner(network.model, State("precond"), schedule, storage="implied")
        self.pruner.attach(optimizer)
        network.give_gradients()
        optimizer.step()
        self.pruner.steps = self.STEPS - 1
        self()
        states = [optimizer.state[weight] for weight in self.pruner.weights.values()]
        tensors = [*self.pruner.weights.values(), *(t for s in states for t in s.values())]
        self._before = [(tensor, tensor.detach().clone()) for tensor in tensors]
        self._k = self.pruner.k

    @torch.no_grad()
    def again(self) -> Self:
        """As it was before the update."""
        for tensor, before in self._before:
            tensor.copy_(before)
        self.pruner.k, self.pruner.steps = self._k, self.STEPS
        return self

    def __call__(self) -> None:
        self.pruner.update()


def _update(
    title: str, update: Update, options: Options, goals: tuple[Goal | None, Goal | None]
) -> list[Metric]:
    times = [
        networks.seconds(update.again(), options.device) for _ in range(options.repetitions + 1)
    ][1:]  # the first one meets cold caches
    transient = transient_of(update.again()).bytes
    largest = 4 * max(weight.numel() for weight in update.pruner.weights.values())
    beyond = (transient - largest) / 1e6
    note = f"of {transient / 1e6:.1f} MB; the largest layer's float32 are {largest / 1e6:.1f} MB"
    threads = f"{torch.get_num_threads()} threads" if options.device == "cpu" else options.device
    scores = f"{update.pruner.numel / 1e6:.1f} million scores, {threads}"
    return [
        metrics.of(SECTION, f"{title}: mask update, implied", "s", times, goals[0], scores),
        metrics.of(SECTION, f"{title}: transient beyond one layer", "MB", [beyond], goals[1], note),
    ]


# -- the threshold alone --------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """To find the k-th lowest of many scores."""

    name: str
    find: Callable[[Sequence[Tensor], int], float]
    is_slow: bool = False


class Given(Scores):
    """Scores that are there already, by layer."""

    def __init__(self, scores: Sequence[Tensor]) -> None:
        super().__init__()
        self.layers = {str(number): score for number, score in enumerate(scores)}
        self.sizes = {name: score.numel() for name, score in self.layers.items()}

    def layer(self, name: str) -> Tensor:
        return self.layers[name]

    def raw(self, name: str, part: Part) -> Tensor:
        return part.of(self.layers[name]).clone()


def masks_of_lowest(scores: Sequence[Tensor], k: int) -> dict[str, Tensor]:
    """The masks that a mask update would make of these scores."""
    given = Given(scores)
    return selection.masks(given, [selection.cut(given, given.layers, k)])


def radix_threshold(scores: Sequence[Tensor], k: int) -> float:
    """Two histograms of the bits."""
    return radix.threshold(lambda: iter([score.flatten() for score in scores]), k).score


def kthvalue(scores: Sequence[Tensor], k: int) -> float:
    """torch's selection, of the layers in one tensor."""
    return float(torch.cat([score.flatten() for score in scores]).kthvalue(k).values)


def stable_sort(scores: Sequence[Tensor], k: int) -> float:
    """A sort of all of them."""
    return float(torch.cat([score.flatten() for score in scores]).sort(stable=True).values[k - 1])


def sampling(scores: Sequence[Tensor], k: int) -> float:
    """The same quantile of a random sample, each layer by its size: an estimate."""
    numel = sum(score.numel() for score in scores)
    generator = torch.Generator(scores[0].device).manual_seed(0)
    parts = []
    for score in scores:
        count = -(-min(SAMPLE, numel) * score.numel() // numel)
        places = torch.randint(score.numel(), (count,), generator=generator, device=score.device)
        parts.append(score.flatten()[places])
    sample = torch.cat(parts)
    place = min(max(1, round(k / numel * sample.numel())), sample.numel())
    return float(sample.kthvalue(place).values)


WAYS = (
    Way("radix histograms (ours)", radix_threshold),
    Way("torch.kthvalue", kthvalue),
    Way("stable sort", stable_sort, is_slow=True),
    Way(f"sample of {SAMPLE:,}", sampling),
)


@torch.no_grad()
def _thresholds(title: str, weights: Sequence[Tensor], options: Options) -> list[Metric]:
    """All ways in turn, and the choice of the masks that follows; then each way's memory."""
    generator = torch.Generator(options.device).manual_seed(1)
    scores = [
        torch.empty(weight.shape, device=options.device).normal_(generator=generator).square_()
        for weight in weights
    ]
    numel = sum(score.numel() for score in scores)
    k = round(networks.SPARSITY * numel)
    choose = partial(masks_of_lowest, scores, k)
    choices: list[float] = []
    times: dict[str, list[float]] = {way.name: [] for way in WAYS}
    for number in range(options.repetitions):
        for way in WAYS:
            if not (way.is_slow and numel >= SLOW and number):
                taken = networks.seconds(partial(way.find, scores, k), options.device)
                times[way.name].append(1000 * taken)
        choices.append(1000 * networks.seconds(choose, options.device))
    found = [metrics.of(SECTION, f"{title}: masks of the lowest 90% (ours)", "ms", choices)]
    for way in WAYS:
        found += _of_way(f"{title}: threshold, {way.name}", way, times[way.name], scores, k)
    return found


def _of_way(
    name: str, way: Way, times: list[float], scores: Sequence[Tensor], k: int
) -> list[Metric]:
    """Its time, its error and its memory."""
    values: list[float] = []
    peak = networks.allocated(lambda: values.append(way.find(scores, k)), scores[0].device.type)
    below = sum(int((score <= values[0]).sum()) for score in scores)
    error = "exact" if below == k else f"{below - k:+,} of {k:,} weights"
    return [
        metrics.of(SECTION, name, "ms", times, None, error),
        metrics.of(SECTION, f"{name}, memory", "MB", [peak / 1e6]),
    ]


# -- the share of training ------------------------------------------------------------------


def share(found: Sequence[Metric], options: Options) -> list[Metric]:
    """Pruning's part of a default run of LeNet-5, from what other sections measured; nothing
    where they were not run.

    (updates x an update + masked steps x what masking adds to a step) / (steps x a step).
    """
    values = {(each.section, each.name): each for each in found}
    named = {
        "step": ("one-run", "training step, train.py"),
        "dense": (optimizer_step.SECTION, "lenet5 (62k): AdamWPrune, dense"),
        "masked": (optimizer_step.SECTION, "lenet5 (62k): AdamWPrune, 90% by state, masks implied"),
        "update": (SECTION, "lenet5 (62k): mask update, implied"),
    }
    if not all(key in values for key in named.values()):
        return []
    step, dense, masked = (values[named[name]].value for name in ("step", "dense", "masked"))
    update = 1000 * values[named["update"]].value
    steps = EPOCHS * STEPS
    schedule = Schedule(networks.SPARSITY, warmup=100, interval=50, ramp_end=round(0.8 * steps))
    due = [number for number in range(1, steps + 1) if schedule.is_due(number)]
    cost = len(due) * update + (steps - due[0]) * max(0.0, masked - dense)
    note = f"{len(due)} updates of {update:.2f} ms, {masked - dense:+.3f} ms a masked step"
    percent = 100 * cost / (steps * step)
    goal = None if options.quick else at_most(2.0)
    return [
        metrics.of(SECTION, "pruning's share of LeNet-5's training", "%", [percent], goal, note)
    ]
