"""``torch.compile`` for a run's network, where there is a compiler for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

BACKEND = "inductor"  # torch's own: C++ on a CPU, Triton on a GPU; both need a compiler there


class CannotCompile(Exception):
    """There is no compiler for this device, or it does not take this network."""


def compiled(module: nn.Module, batches: Iterable[Tensor]) -> Callable[[Tensor], Tensor]:
    """``module``, its weights its own, compiled for training on the shapes of ``batches``.

    Everything is compiled here: a later call with one of these shapes compiles nothing, so that
    steps can be timed and captured. Weights, buffers and random states are afterwards what they
    were. Raises :class:`CannotCompile`, after which ``module`` can be used as it is.
    """
    before = {name: value.clone() for name, value in module.state_dict().items()}
    device = next(module.parameters()).device
    try:
        fast = torch.compile(module, backend=BACKEND, dynamic=False)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            _compile(fast, list(batches))
    except Exception as error:  # what it raises is the affair of whichever compiler it calls
        cause = getattr(error, "inner_exception", error)  # torch's name for it
        if isinstance(cause, (MemoryError, torch.OutOfMemoryError)):
            raise cause from None
        reason = next(iter(str(cause).strip().splitlines()), "")
        raise CannotCompile(f"{type(cause).__name__}: {reason}") from error
    finally:
        module.load_state_dict(before)
        module.zero_grad()
    return fast


def _compile(fast: Callable[[Tensor], Tensor], batches: Sequence[Tensor]) -> None:
    """A step with each of ``batches``, all of them by compiled code."""
    from torch._dynamo import config  # the compiler takes as long to import as torch
    from torch._dynamo.exc import FailOnRecompileLimitHit

    # In a process all networks of a class share what was compiled of it. After some variants torch
    # would compute every further one as it is, without a word.
    with config.patch(fail_on_recompile_limit_hit=True):
        try:
            for batch in batches:
                _one_step(fast, batch)
        except FailOnRecompileLimitHit:  # by the variants of earlier runs, which nobody uses now
            torch.compiler.reset()
            for batch in batches:
                _one_step(fast, batch)


def _one_step(fast: Callable[[Tensor], Tensor], batch: Tensor) -> None:
    with warnings.catch_warnings():
        # What is cached beside the network are constants, and may be compiled as such.
        warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
        fast(batch).sum().backward()
