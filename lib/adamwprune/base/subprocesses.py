"""Python processes that this one starts: what they import, and what ended them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from adamwprune.base.errors import UserError

# How threads wait for each other. Those that spin as long as it takes starve every other process on
# the machine: one busy process beside a run on two cores made its epoch twelve times longer. Those
# that sleep at once take 1.2 (LeNet-5) to 1.4 times (GPT-nano) as long on a quiet machine: it
# takes longer to wake a thread than to do its share of a small layer. So they spin a thousand times
# (libgomp by itself: 300,000 times) and then sleep; beside a busy process a step takes 5 to 20%
# longer for that. Each library reads its own name, when it is loaded.
WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}


def environment(library: Path) -> dict[str, str]:
    """This process's environment, in which ``adamwprune`` is that of the folder ``library``.

    A file where make was started is nobody's module: neither json.py Python's json, nor a
    directory wandb the package of this name.
    """
    if os.pathsep in str(library):
        raise UserError(f"{library}: Python cannot import from a path with a {os.pathsep!r}")
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(library), *([inherited] if inherited else [])])
    return {**os.environ, **WAITING, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def of_make() -> Callable[[], bool]:
    """A function that says whether make, which started this process, has gone since.

    Then nobody can send it a signal by make any more. A shell may go while its command goes on.
    """
    parent = os.getppid()
    return lambda: "MAKELEVEL" in os.environ and os.getppid() != parent


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)
