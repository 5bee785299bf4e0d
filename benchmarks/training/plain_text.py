"""The baseline: a GPT as nanoGPT's train.py trains it, step by step as its parent asks.

Blocks at random offsets of a numpy array, gradients added over the parts of a batch, clipping,
torch's AdamW with decay of matrices alone, a cosine by hand, ``loss.item()`` every tenth step;
where the run says so autocast and ``torch.compile``, of the network with its loss. The library is
asked for the network and for the tokens, and for nothing else. Parts: ``all``, and ``data``.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from adamwprune import datasets
from adamwprune.train.data import network_for
from benchmarks.training.paced import Pace, Work, run

LOGGED = 10  # steps between looks at the loss


class WithLoss(nn.Module):
    """Tokens and the next ones -> the mean loss."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        logits = self.network(tokens)
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


def tokens_of(work: Work) -> NDArray[Any]:
    """The training tokens, of one or two bytes."""
    found: Any = datasets.load(work.spec.settings, Path(work.data_dir))
    numbers: NDArray[Any] = found.train.numpy()
    return numbers.view(np.uint16) if numbers.dtype == np.int16 else numbers


def get_batch(
    tokens: NDArray[Any], batch: int, block: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Blocks at random offsets, and the tokens one further on."""
    starts = torch.randint(len(tokens) - block, (batch,)).tolist()
    x, y = (
        torch.stack(
            [torch.from_numpy(tokens[i + on : i + on + block].astype(np.int64)) for i in starts]
        )
        for on in (0, 1)
    )
    if device.type == "cuda":
        x, y = (each.pin_memory().to(device, non_blocking=True) for each in (x, y))
    return x, y


def rate(work: Work, step: int) -> float:
    """Cosine to a tenth."""
    share = step / work.spec.total_steps
    return float(work.spec["LR"]) * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


def optimizer_for(work: Work, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW; fused on a GPU, as nanoGPT has it."""
    spec, parameters = work.spec, list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": spec["WEIGHT_DECAY"]},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    betas, fused = (spec["BETA1"], spec["BETA2"]), work.device != "cpu"
    return torch.optim.AdamW(groups, lr=spec["LR"], betas=betas, fused=fused)


def data(work: Work, pace: Pace) -> None:
    """The batches alone, on the device."""
    tokens, device = tokens_of(work), torch.device(work.device)
    going = pace.begin()
    while going:
        get_batch(tokens, work.spec["BATCH_SIZE"], work.spec["BLOCK"], device)
        going = pace.stepped()


def train(work: Work, pace: Pace) -> None:
    """The loop."""
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    device, spec, tokens = torch.device(work.device), work.spec, tokens_of(work)
    model = network_for(spec.settings).module.to(device).train()
    optimizer = optimizer_for(work, model)
    with_loss = WithLoss(model)
    network = torch.compile(with_loss) if spec["TORCH_COMPILE"] else with_loss
    parts: int = spec["ACCUMULATION"]
    part, block = spec["BATCH_SIZE"] // parts, spec["BLOCK"]
    step = 0
    batch = get_batch(tokens, part, block, device)
    going = pace.begin()
    while going:
        for group in optimizer.param_groups:
            group["lr"] = rate(work, step)
        for _ in range(parts):
            with torch.autocast(device.type, torch.bfloat16, spec["PRECISION"] == "bf16"):
                loss = network(*batch) / parts
            batch = get_batch(tokens, part, block, device)  # while a GPU is at work
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), spec["MAX_GRAD_NORM"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % LOGGED == 0:
            loss.item()
        step += 1
        going = pace.stepped()


if __name__ == "__main__":
    run({"all": train, "data": data}).tell({})
