"""Multiply-adds of a run's network, dense and left after pruning, and what its training took.

They are counted by torch's own formulas in one forward pass of one example. Products of matrices,
convolutions and attention count; sums, normalisation and activations do not. One multiply-add is
two floating-point operations (FLOPs).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from adamwprune.base.sparsity import mean_density
from adamwprune.plan.spec import RunSpec
from adamwprune.pruning.pruner import Pruner
from adamwprune.run import gpu_peaks

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


def operations_of(
    network: nn.Module, inputs: Tensor, weights: Mapping[str, Tensor]
) -> Operations | None:
    """Of a network that has been trained, by :func:`count`; None where it cannot be run so, which
    the log says.
    """
    try:
        return count(network, inputs, weights)
    except Exception as error:  # noqa: BLE001  a user's own network may do anything
        log.warning("the network's multiply-adds cannot be counted: %s", error)
        return None


def count(network: nn.Module, inputs: Tensor, weights: Mapping[str, Tensor]) -> Operations:
    """Count a forward pass over ``inputs``, one example, in evaluation.

    A product belongs to the prunable weight that it takes, or a view of it. With gradients enabled
    and attention as products of matrices: otherwise torch fuses it into operations of which some
    have no formula.
    """
    network.eval()
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), Counter(weights) as counter:
        network(inputs)
    by_layer = {name: flops // FLOPS for name, flops in counter.flops.items()}
    return Operations(counter.total // FLOPS, by_layer)


class Counter(TorchDispatchMode):
    """Adds up FLOPs by torch's formulas, in all and by the weight that an operation takes."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        # Not before the first batch: it imports Triton, which takes as long as reading the data.
        from torch.utils.flop_counter import flop_registry

        super().__init__()  # type: ignore[no-untyped-call]
        self.formulas = flop_registry
        self.total = 0
        self.flops = dict.fromkeys(weights, 0)
        self._names = {_storage(weight): name for name, weight in weights.items()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        result = func(*args, **named)
        formula = self.formulas.get(func._overloadpacket)
        if formula is not None:
            flops = formula(*args, **named, out_val=result)
            self.total += flops
            taken = (_storage(each) for each in args if isinstance(each, Tensor))
            name = next((self._names[each] for each in taken if each in self._names), None)
            if name is not None:
                self.flops[name] += flops
        return result


def _storage(tensor: Tensor) -> int:
    """By which two tensors are known to be views of the same bytes, on the meta device too."""
    address: int = tensor.untyped_storage()._cdata
    return address


class Densities:
    """The mean density of each prunable layer over a training, from its zeros after each update.

    One threshold for the network prunes its layers at different times: what the products of a layer
    cost in training follows from its own mean. ``zeros``: :meth:`to_json` of a checkpoint.
    """

    def __init__(self, pruner: Pruner, zeros: Iterable[Sequence[Any]] = ()) -> None:
        self.pruner = pruner
        self.zeros: list[tuple[int, list[int]]] = [(step, list(counts)) for step, counts in zeros]

    def look(self) -> None:
        """Count, if there has been an update since the last look."""
        if len(self.pruner.updates) > len(self.zeros):
            counts = [layer["zeros"] for layer in self.pruner.layers()]
            self.zeros.append((int(self.pruner.updates[-1]["step"]), counts))

    def to_json(self) -> list[list[Any]]:
        """What a checkpoint holds: of each update its step and the zeros of each layer."""
        return [[step, counts] for step, counts in self.zeros]

    def means(self) -> dict[str, float] | None:
        """By layer; None where an update was not looked at, or weights were pruned before."""
        updates, numels = self.pruner.updates, self.pruner.numels
        seen = [step for step, _ in self.zeros]
        if self.pruner.taken or [int(update["step"]) for update in updates] != seen:
            return None
        return {
            name: mean_density(numel, 0, self._updates(place), self.pruner.steps)
            for place, (name, numel) in enumerate(numels.items())
        }

    def _updates(self, place: int) -> list[dict[str, float]]:
        return [{"step": step, "zeros": counts[place]} for step, counts in self.zeros]


def record(
    counted: Operations,
    layers: Sequence[Mapping[str, Any]],
    mean_density: float,
    examples: int,
    means: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """What a run's record says of it.

    ``multiply_adds``: of one forward pass of one example (a sequence of tokens is one), dense;
    ``multiply_adds_left``: those of weights that are not zero after training, and all of what is
    not prunable; ``layers``: the dense ones by prunable layer, with its ``mean_density`` over the
    training steps if ``means`` are given; ``training_flops``: of the forward and backward passes
    over all ``examples`` that were seen, dense; ``training_flops_sparse``: the same as if products
    with pruned weights cost nothing, by the layers' means, or without them as if all layers had the
    ``mean_density``.
    """
    left = counted.at({layer["name"]: layer["density"] for layer in layers})
    sparse = counted.at(means or dict.fromkeys(counted.by_layer, mean_density))
    per_pass = FLOPS * PASSES * examples
    return {
        "multiply_adds": counted.total,
        "multiply_adds_left": left,
        "layers": [
            {"name": name, "multiply_adds": n, **({"mean_density": means[name]} if means else {})}
            for name, n in counted.by_layer.items()
        ],
        "training_flops": per_pass * counted.total,
        "training_flops_sparse": per_pass * sparse,
    }


def added(
    outcome: Mapping[str, Any],
    counted: Operations | None,
    spec: RunSpec,
    device_name: str,
    means: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """A training's outcome, and with it ``operations`` (:func:`record`); to its ``speed`` are added
    ``flops_per_second``, dense, and ``share_of_peak``, of what the device can compute at most.
    """
    if counted is None:
        return dict(outcome)
    pruning, speed = outcome["pruning"], dict(outcome["speed"])
    examples = speed.get("examples", 0)
    found = record(counted, pruning["layers"], pruning["mean_density"], examples, means)
    if rate := speed.get("examples_per_second"):
        speed["flops_per_second"] = FLOPS * PASSES * counted.total * rate
        precision = str(spec.values.get("PRECISION", "float32"))
        reached = gpu_peaks.share(device_name, precision, speed["flops_per_second"])
        if reached is not None:
            speed["share_of_peak"] = reached
    return {**outcome, "operations": found, "speed": speed}
