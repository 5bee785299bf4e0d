"""How long runs take of which nothing like them was recorded: from a measured step of each network.

It is measured once a network, batch, device and machine, in a process of its own, within seconds,
and kept in the user's cache.
"""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Sequence

from adamwprune.base.errors import UserError
from adamwprune.base.wording import rounded
from adamwprune.plan.answers import Answer, Answers
from adamwprune.plan.spec import RunSpec
from adamwprune.progress.eta import Paces
from adamwprune.scheduler.devices import Slot

MOST = 6  # networks that are measured for one plan
OVERHEAD = 1.25  # of a run's time over that of its steps: data, evaluation, pruning, notes

_STEP = Answers("step", ("models", "datasets"), asks="adamwprune.run.pacing")


def learn(paces: Paces, specs: Sequence[RunSpec], slot: Slot, *, measure: bool) -> list[str]:
    """Add to ``paces`` what a step takes of the networks that they do not know; what was measured,
    a line a network. Without ``measure`` only what is cached counts.
    """
    kind = slot.device.partition(":")[0]
    place, told = (socket.gethostname(), kind, slot.cores), []
    tried: set[tuple[object, ...]] = set()
    for spec in specs:
        network = tuple(spec[name] for name in ("MODEL", "DATASET", "BATCH_SIZE"))
        if network in tried or paces.of(spec, place) is not None:
            continue
        tried.add(network)
        answer = _known(spec, slot)
        if answer is None and measure and len(tried) <= MOST:
            answer = _measured(spec, slot)
        if answer is not None:
            paces.observe(spec, place, OVERHEAD * answer["seconds"])
            told.append(_line(spec, answer["seconds"], slot))
    return told


def _question(spec: RunSpec, slot: Slot) -> dict[str, object]:
    here = {"PACE_DEVICE": slot.device, "PACE_THREADS": slot.cores}
    return {**spec.settings, **here, "PACE_HOST": socket.gethostname()}


def _known(spec: RunSpec, slot: Slot) -> Answer | None:
    return _STEP.known(_question(spec, slot))


def _measured(spec: RunSpec, slot: Slot) -> Answer | None:
    """None where PyTorch is not installed yet, or the network cannot be trained so."""
    if importlib.util.find_spec("torch") is None:
        return None
    try:
        return _STEP.of(_question(spec, slot))
    except UserError:
        return None


def _line(spec: RunSpec, seconds: float, slot: Slot) -> str:
    size = f"{spec['MODEL']} on {spec['DATASET']}, batch {spec['BATCH_SIZE']}"
    took = f"{rounded(seconds)} s" if seconds >= 1 else f"{rounded(1000 * seconds)} ms"
    return f"step    {size}: {took}, measured on {slot.device}"
