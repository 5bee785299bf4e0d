"""Python processes that this one starts: what they import, and what ended them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from adamwprune.base.errors import UserError

# Threads that spin while they wait starve every other process on the machine: one busy process
# beside a run on two cores made its epoch twelve times longer. Each library reads its own name,
# when it is loaded.
PASSIVE = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}


def environment(library: Path) -> dict[str, str]:
    """This process's environment, in which ``adamwprune`` is that of the folder ``library``.

    A file where make was started is nobody's module: neither json.py Python's json, nor a
    directory wandb the package of this name.
    """
    if os.pathsep in str(library):
        raise UserError(f"{library}: Python cannot import from a path with a {os.pathsep!r}")
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(library), *([inherited] if inherited else [])])
    return {**os.environ, **PASSIVE, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


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
