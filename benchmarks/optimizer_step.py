"""An optimizer's step between mask updates, beside torch's fused AdamW with clipping.

No forward and no backward pass: random gradients, the same ones before each step.
"""

from collections.abc import Callable
from statistics import median

import torch
from torch.nn.utils import clip_grad_norm_

from adamwprune.optimizers import AdamW, AdamWPrune
from adamwprune.optimizers._adam import AdamFamily
from benchmarks import metrics, networks
from benchmarks.metrics import Metric, Options, at_most
from benchmarks.networks import Network

SECTION = "optimizer-step"
BASELINE = "torch: fused AdamW(amsgrad) + clip_grad_norm_"
PLAIN = "torch: fused AdamW"
MASKED = "AdamW, 90% by state, masks as bool"
PACKED = "AdamW, 90% by state, states packed"
WARM_UP = 3
STEPS = {"lenet5": 200, "resnet18": 20, "gpt2": 5}  # of a reading, which is their median
Step = Callable[[], object]


def fused(network: Network) -> Step:
    """What torch has of the same arithmetic: AMSGrad, decoupled decay, clipping at 1."""
    params = network.parameters
    optimizer = torch.optim.AdamW(params, lr=1e-3, weight_decay=0.01, amsgrad=True, fused=True)

    def step() -> None:
        clip_grad_norm_(params, 1.0)
        optimizer.step()

    return step


def plain(network: Network) -> Step:
    """What AdamW without clipping is beside."""
    return torch.optim.AdamW(network.parameters, lr=1e-3, weight_decay=0.01, fused=True).step


def dense(network: Network) -> Step:
    """AdamWPrune without a pruner: with the z-score of the gradient's norm."""
    return AdamWPrune(network.parameters, lr=1e-3).step


def masked(storage: str, kind: type[AdamFamily] = AdamWPrune) -> Callable[[Network], Step]:
    """An optimizer that holds 90% of the weights at zero, by masks kept as ``storage``."""
    return lambda network: networks.pruned(network, storage, kind)[0].step


VARIANTS: dict[str, Callable[[Network], Step]] = {
    BASELINE: fused,
    "AdamWPrune, dense": dense,
    "AdamWPrune, 90% by state, masks implied": masked("implied"),
    "AdamWPrune, 90% by state, masks as bits": masked("bits"),
    "AdamWPrune, 90% by state, masks as bool": masked("bool"),
    "AdamWPrune, 90% by state, states packed": masked("packed"),
    PLAIN: plain,
    MASKED: masked("bool", AdamW),
    PACKED: masked("packed", AdamW),
}
# The ratios that are shown, of a variant to another, and their goals.
RATIOS = {
    **{(name, BASELINE): at_most(1.10) for name in VARIANTS if name.startswith("AdamWPrune, 90%")},
    ("AdamWPrune, dense", BASELINE): None,
    (MASKED, PLAIN): None,
    (PACKED, PLAIN): None,
    (PACKED, MASKED): at_most(1.0),
}


def reading(name: str, make: Callable[[Network], Step], options: Options) -> float:
    """Milliseconds of a step: the median of some, after warming up, with new tensors."""
    network = networks.build(name, options.device)
    step = make(network)
    times = []
    for number in range(WARM_UP + (2 if options.quick else STEPS[name])):
        network.give_gradients()
        taken = networks.seconds(step, options.device)
        if number >= WARM_UP:
            times.append(1000 * taken)
    return median(times)


def measure(options: Options) -> list[Metric]:
    """Every variant in turn, ``options.repetitions`` times, for each network."""
    found = []
    for name in options.networks:
        rounds = [
            {variant: reading(name, make, options) for variant, make in VARIANTS.items()}
            for _ in range(options.repetitions)
        ]
        found += _of_network(name, rounds, options)
    return found


def _of_network(name: str, rounds: list[dict[str, float]], options: Options) -> list[Metric]:
    title = networks.title(name)
    taken = {variant: [each[variant] for each in rounds] for variant in VARIANTS}
    found = [metrics.of(SECTION, f"{title}: {name}", "ms", each) for name, each in taken.items()]
    for (one, other), goal in RATIOS.items():
        said = "torch" if other in (BASELINE, PLAIN) else other
        wanted = None if options.quick else goal
        line = f"{title}: {one} / {said}"
        found.append(metrics.ratio(SECTION, line, taken[one], taken[other], wanted))
    return found
