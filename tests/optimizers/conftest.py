"""The optimizers under test, found as the build finds them, and small problems to train on."""

from __future__ import annotations

from functools import partial
from types import ModuleType

import torch
from torch import nn

from adamwprune.base import registry
from adamwprune.optimizers import SGD, Adam, AdamW, AdamWSpam, Spam
from tests.members.language.optimizers import lion

PACKAGE = "adamwprune.optimizers"


def class_of(module: ModuleType) -> type[torch.optim.Optimizer]:
    """The one optimizer that a member's module declares."""
    (found,) = (
        each
        for each in vars(module).values()
        if isinstance(each, type)
        and issubclass(each, torch.optim.Optimizer)
        and each.__module__ == module.__name__
    )
    return found


IN_THE_TREE = registry.members(PACKAGE)
MODULES = {name: registry.member(PACKAGE, name) for name in IN_THE_TREE}
MODULES["lion"] = lion  # as a member from outside the tree: no Adam, and betas of another meaning
ALL = {name: class_of(module) for name, module in MODULES.items()}
# Settings with states or a course of their own; the intervals let short runs meet resets.
SPAMS = {
    "adamwspam-clip": Spam(zscore=True, theta=3.0, interval=25, warmup_steps=6),
    "adamwspam-paper": Spam(theta=3.0, interval=25, warmup_steps=6),
    "adamwspam-stable": Spam(interval=25, gammas=(0.7, 0.9, 0.999)),
}
CASES = {**ALL, **{name: partial(AdamWSpam, spam=spam) for name, spam in SPAMS.items()}}

OURS_AND_TORCHS = [
    (SGD, torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}),
    (Adam, torch.optim.Adam, {"weight_decay": 0.1}),
    (AdamW, torch.optim.AdamW, {"weight_decay": 0.1, "amsgrad": True}),
]


def exceptions(name: str) -> dict[str, str]:
    """The tests that a member's module takes itself out of, by name, each with the reason."""
    return getattr(MODULES.get(name), "CONFORMANCE", {})


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def backward(model: nn.Module, number: int) -> None:
    """A gradient that depends on the step's number alone, with a spike now and then."""
    generator = torch.Generator().manual_seed(number)
    dtype = next(model.parameters()).dtype
    inputs = torch.randn(16, 6, generator=generator, dtype=torch.float64).to(dtype)
    scale = 40.0 if number % 17 == 16 else 1.0
    model.zero_grad()
    (scale * model(inputs).square().mean()).backward()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, first: int = 0) -> None:
    for number in range(first, first + steps):
        backward(model, number)
        optimizer.step()


def assert_close(ours: nn.Module, theirs: nn.Module, rtol: float = 1e-9) -> None:
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=1e-12)


def same_bits(ours: nn.Module, theirs: nn.Module) -> bool:
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
