"""Networks of three sizes with random weights and gradients: what an optimizer's step works on."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adamwprune.optimizers import AdamWPrune
from adamwprune.optimizers._adam import AdamFamily
from adamwprune.pruning import Pruner, Schedule, State
from benchmarks.memory.counted import allocated_by
from benchmarks.memory.shapes import NETWORKS

SPARSITY = 0.9
NEVER = 1 << 40  # steps between mask updates


@dataclass(frozen=True)
class Network:
    """Layers that run nothing, and the gradients that every step is given, one a parameter."""

    model: nn.Module
    gradients: list[Tensor]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All of them."""
        return list(self.model.parameters())

    def give_gradients(self) -> None:
        """As a backward pass would leave them: the same ones each time."""
        for param, gradient in zip(self.parameters, self.gradients, strict=True):
            if param.grad is None:
                param.grad = gradient.clone()
            else:
                param.grad.copy_(gradient)


@torch.no_grad()
def build(name: str, device: str) -> Network:
    """The network ``name`` of :data:`benchmarks.memory.shapes.NETWORKS`.

    Weights are uniform in ±[0.01, 0.1): none is zero, and a step's size does not underflow.
    """
    with torch.device("meta"):
        model = NETWORKS[name]().module
    model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for param in model.parameters():
        param.uniform_(-0.09, 0.09, generator=generator).add_(param.sign(), alpha=0.01)
        param.masked_fill_(param == 0, 0.01)
    gradients = [
        torch.empty_like(param).normal_(std=0.01, generator=generator)
        for param in model.parameters()
    ]
    return Network(model, gradients)


def pruned(
    network: Network, storage: str, kind: type[AdamFamily] = AdamWPrune
) -> tuple[AdamFamily, Pruner]:
    """An optimizer of this ``kind`` over the network, pruned by state to 90%, all of its updates
    done.
    """
    optimizer = kind(network.parameters, lr=1e-3)
    schedule = Schedule(SPARSITY, warmup=0, interval=NEVER, ramp_end=2)
    pruner = Pruner(network.model, State("precond"), schedule, storage=storage)
    pruner.attach(optimizer)
    for _ in range(schedule.ramp_end):
        network.give_gradients()
        optimizer.step()
    return optimizer, pruner


def seconds(work: Callable[[], object], device: str) -> float:
    """Of ``work``, with all that it leaves a GPU to do."""
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def allocated(work: Callable[[], object], device: str) -> int:
    """Bytes that ``work`` took from torch's allocator at most, above those at its start."""
    if not device.startswith("cuda"):
        return allocated_by(work).peak
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def title(name: str) -> str:
    """The network and its parameters: ``gpt2 (124.4M)``."""
    with torch.device("meta"):
        count = sum(param.numel() for param in NETWORKS[name]().module.parameters())
    return f"{name} ({count / 1e6:.1f}M)" if count >= 1e6 else f"{name} ({count / 1e3:.0f}k)"
