"""Multiply-adds of a run's network, dense and left after pruning, and what its training took.

They are counted by torch's FlopCounterMode in one forward pass of one example on the meta device:
shapes without numbers, in a few milliseconds. Products of matrices, convolutions and attention
count; sums, normalisation and activations do not. One multiply-add is two floating-point
operations (FLOPs).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from adamwprune.base.reads import Reads
from adamwprune.plan.spec import RunSpec
from adamwprune.pruning import spared
from adamwprune.pruning.prunable import Prunable
from adamwprune.run import gpu_peaks
from adamwprune.train.data import network_for

FLOPS = 2  # of a multiply-add
PASSES = 3  # of training: the backward pass takes two products for each one of the forward pass

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Operations:
    """Multiply-adds of one forward pass of one example."""

    total: int
    by_layer: dict[str, int]  # of the products with each prunable weight

    def at(self, densities: Mapping[str, float]) -> int:
        """Return those that are left at these densities: a layer's in proportion to its own, and
        all of what is not prunable.
        """
        saved = sum(n * (1 - densities[name]) for name, n in self.by_layer.items())
        return round(self.total - saved)


_counted: list[tuple[dict[str, Any], Operations | None]] = []


def operations_of(values: Mapping[str, Any]) -> Operations | None:
    """Of the network of a run, by its values; counted once a process and network.

    None for a network that cannot be run without numbers, and says so in the log.
    """
    for read, found in _counted:
        if all(values.get(name) == value for name, value in read.items()):
            return found
    reads, counted = Reads(values), None
    try:
        with torch.device("meta"):
            network = network_for(reads)
        weights = Prunable(network.module, network.prunable, **spared(reads)).weights
        counted = count(network.module, network.example(), weights)
    except Exception as error:  # noqa: BLE001  a user's own network may do anything
        log.warning("the network's multiply-adds cannot be counted: %s", error)
    _counted.append((reads.read, counted))
    return counted


def count(network: nn.Module, inputs: Tensor, weights: Mapping[str, Tensor]) -> Operations:
    """Count a forward pass over ``inputs`` on the meta device, in evaluation.

    A product belongs to the prunable weight that it takes, or a view of it.
    """
    network.eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, _ByWeight(counter, weights) as by_weight:
        network(inputs)
    by_layer = {name: flops // FLOPS for name, flops in by_weight.flops.items()}
    return Operations(counter.get_total_flops() // FLOPS, by_layer)


class _ByWeight(TorchDispatchMode):
    """Adds up what a counter around it counts, by the weight that an operation takes."""

    def __init__(self, counter: FlopCounterMode, weights: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counter = counter
        self.flops = dict.fromkeys(weights, 0)
        self._names = {_storage(weight): name for name, weight in weights.items()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        before = self.counter.get_total_flops()
        result = func(*args, **(kwargs or {}))
        flops = self.counter.get_total_flops() - before
        if flops:
            taken = (_storage(each) for each in args if isinstance(each, Tensor))
            name = next((self._names[each] for each in taken if each in self._names), None)
            if name is not None:
                self.flops[name] += flops
        return result


def _storage(tensor: Tensor) -> int:
    """By which two tensors are known to be views of the same bytes, on the meta device too."""
    address: int = tensor.untyped_storage()._cdata
    return address


def record(
    counted: Operations, layers: Sequence[Mapping[str, Any]], mean_density: float, examples: int
) -> dict[str, Any]:
    """What a run's record says of it.

    ``multiply_adds``: of one forward pass of one example (a sequence of tokens is one), dense;
    ``multiply_adds_left``: those of weights that are not zero after training, and all of what is
    not prunable; ``layers``: the dense ones by prunable layer; ``training_flops``: of the forward
    and backward passes over all ``examples`` that were seen, dense; ``training_flops_sparse``: the
    same as if products with pruned weights cost nothing and all layers had the ``mean_density``.
    """
    left = counted.at({layer["name"]: layer["density"] for layer in layers})
    sparse = counted.at(dict.fromkeys(counted.by_layer, mean_density))
    per_pass = FLOPS * PASSES * examples
    return {
        "multiply_adds": counted.total,
        "multiply_adds_left": left,
        "layers": [{"name": name, "multiply_adds": n} for name, n in counted.by_layer.items()],
        "training_flops": per_pass * counted.total,
        "training_flops_sparse": per_pass * sparse,
    }


def added(outcome: Mapping[str, Any], spec: RunSpec, device_name: str) -> dict[str, Any]:
    """A training's outcome, and with it ``operations`` (:func:`record`); to its ``speed`` are added
    ``flops_per_second``, dense, and ``share_of_peak``, of what the device can compute at most.
    """
    counted = operations_of(spec.settings)
    if counted is None:
        return dict(outcome)
    pruning, speed = outcome["pruning"], dict(outcome["speed"])
    found = record(counted, pruning["layers"], pruning["mean_density"], speed.get("examples", 0))
    if rate := speed.get("examples_per_second"):
        speed["flops_per_second"] = FLOPS * PASSES * counted.total * rate
        precision = str(spec.values.get("PRECISION", "float32"))
        reached = gpu_peaks.share(device_name, precision, speed["flops_per_second"])
        if reached is not None:
            speed["share_of_peak"] = reached
    return {**outcome, "operations": found, "speed": speed}
