"""Several runs on one GPU at the same time, by NVIDIA's Multi-Process Service (MPS).

Without it the processes on a GPU take turns; with it the kernels of small networks run side by
side. A daemon of our own is started for as long as a matrix trains, if MPS is installed and none
is there already. It ends with whoever started it, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from adamwprune.scheduler.devices import Slot

CONTROL = "nvidia-cuda-mps-control"
PIPES = "CUDA_MPS_PIPE_DIRECTORY"
DEFAULT_PIPES = Path("/tmp/nvidia-mps")  # where a daemon that was told nothing else listens
PATIENCE = 10.0  # seconds for the daemon to start, and to end
# Standard input ends with the process that holds it, also if that is killed: then nobody is left.
_UNTIL_ALONE = 'cat >/dev/null; echo quit | "$0"'


def is_shared(slots: Sequence[Slot]) -> bool:
    """Whether some GPU takes more than one run at a time."""
    gpus = [slot.device for slot in slots if slot.device != "cpu"]
    return len(gpus) > len(set(gpus))


@contextlib.contextmanager
def sharing(slots: Sequence[Slot], tell: Callable[[str], None]) -> Iterator[dict[str, str]]:
    """What the workers over ``slots`` need in their environment for their GPUs to be shared.

    Nothing where no GPU is shared, where a daemon is there, or where none can be started; the
    last is told.
    """
    control = shutil.which(CONTROL)
    there = PIPES in os.environ or (DEFAULT_PIPES / "control").exists()
    if not is_shared(slots) or there or control is None:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="mps-", ignore_cleanup_errors=True) as folder:
        ours = {PIPES: folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        environment = {**os.environ, **ours}
        problem = _start(control, environment)
        if problem:
            tell(f"MPS does not start, runs on one GPU take turns: {problem}")
            yield {}
            return
        guard = subprocess.Popen(
            ["/bin/sh", "-c", _UNTIL_ALONE, control],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is not for it
        )
        try:
            yield ours
        finally:
            assert guard.stdin is not None
            guard.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                guard.wait(PATIENCE)


def _start(control: str, environment: dict[str, str]) -> str:
    """Start the daemon; what went wrong, or nothing."""
    try:
        # No pipes: the daemon would hold their other ends open.
        done = subprocess.run(
            [control, "-d"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return f"{CONTROL} -d: exit status {done.returncode}" if done.returncode else ""
