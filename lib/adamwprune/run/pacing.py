"""Answer how long a training step of a network takes here: JSON lines, as planning's questions.

    {"about": "step", "values": {...}}   -> seconds of a step

No data are read. The network, freshly initialised, is trained on zeros, on a few examples first and
on more while that takes a moment: what a whole batch would take follows from that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adamwprune.models import Model
from adamwprune.train import answering
from adamwprune.train.data import network_for

FEWEST = 2  # examples: batch normalisation has no variance of one
GROWTH = 8  # times as many examples in the next try
MOMENT = 0.4  # seconds that the next try may take
REPEATS = 3  # of which the fastest counts


def step(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of the values of a run, and ``PACE_DEVICE``, ``PACE_THREADS`` and ``PACE_HOST``."""
    device, batch = torch.device(values["PACE_DEVICE"]), int(values["BATCH_SIZE"])
    torch.set_num_threads(int(values["PACE_THREADS"]))
    network = network_for(values)
    model = network.module.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters())
    examples = min(FEWEST, batch)
    passes = _passes(network, model, examples, device)
    while examples < batch and GROWTH * passes < MOMENT:
        examples = min(GROWTH * examples, batch)
        passes = _passes(network, model, examples, device)
    update = _fastest(optimizer.step, device)
    host = values["PACE_HOST"]  # read, since another machine has another answer
    return {"seconds": passes * batch / examples + update, "host": host}


def _passes(network: Model, model: nn.Module, examples: int, device: torch.device) -> float:
    """Seconds of a forward and a backward pass."""
    inputs = network.example(examples, str(device))

    def both() -> None:
        output = model(inputs)
        first = output if isinstance(output, Tensor) else next(iter(output))
        model.zero_grad()
        first.float().square().mean().backward()

    return _fastest(both, device)


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    """Of a few, after one that does not count, which may compile; what takes long is not repeated.

    One thread on a CPU is timed by what it computes, so that other work of the moment is left out:
    the answer is remembered.
    """
    is_alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if is_alone else time.perf_counter
    work()
    found: list[float] = []
    for _ in range(REPEATS):
        began = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(clock() - began)
        if found[-1] > MOMENT:
            break
    return min(found)


if __name__ == "__main__":
    answering.QUESTIONS["step"] = step
    answering.main()
