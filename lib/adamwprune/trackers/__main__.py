"""The process of one tracker: ``python -m adamwprune.trackers NAME ROOT GROUP PATIENCE``.

Run ids come on standard input, one a line: that run below ROOT has news. When it ends, the logs are
completed. What a user should know goes to standard output, one line each; everything that a tracker
prints to ``tracking/NAME.log``. PATIENCE seconds after the end of standard input the process ends,
whatever it is doing; 0: it takes its time. While another process is the same tracker, it waits.
"""

import contextlib
import faulthandler
import os
import queue
import sys
import threading
import traceback
from pathlib import Path
from typing import TextIO

from adamwprune.base import registry
from adamwprune.base.errors import UserError
from adamwprune.base.files import no_link
from adamwprune.config.tree import IS_CHECKOUT, SOURCE_TREE
from adamwprune.records.locks import lock
from adamwprune.trackers import FOLDER, LACKING, WRITTEN
from adamwprune.trackers._follower import Follower

NICE = 10  # training goes first


def main() -> int:
    """Follow runs until standard input ends; the exit status, WRITTEN or LACKING."""
    name, root, group, patience = sys.argv[1], Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])
    os.nice(NICE)
    hints, told = _take_streams()
    try:
        folder = root / FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        waiting = _read(hints, patience)
        with lock(folder.with_suffix(".lock"), lambda pid: _tell_waiting(pid, folder, told)):
            _log_to(folder.with_suffix(".log"))
            tracker = registry.member("adamwprune.trackers", name).Tracker(folder)
            return _follow(Follower(tracker, root, group), waiting, told)
    except UserError as error:
        print(_one_line(error), file=told)
    except ImportError as error:
        package = f"-e '{SOURCE_TREE}[{name}]'" if IS_CHECKOUT else f"'adamwprune[{name}]'"
        remedy = f"{sys.executable} -m pip install {package}"
        print(f"{error}; to install it: {remedy}", file=told)
    except Exception as error:  # noqa: BLE001  whatever a tracker raises, it must be said
        print(f"{type(error).__name__}: {_one_line(error)}", file=told)
        with contextlib.suppress(OSError):  # the disk may be full
            traceback.print_exc()
    return LACKING


def _tell_waiting(pid: str, folder: Path, told: TextIO) -> None:
    print(f"another process ({pid}) writes to {folder}: waiting for it", file=told)


def _follow(follower: Follower, waiting: queue.SimpleQueue[str | None], told: TextIO) -> int:
    status = WRITTEN
    while (run_id := waiting.get()) is not None:
        try:
            follower.look(run_id)
        except UserError as error:  # its files are damaged: no reason to leave others out
            print(_one_line(error), file=told)
            status = LACKING
    follower.close()
    return status


def _take_streams() -> tuple[int, TextIO]:
    """Standard input and output, which no tracker, and nothing that it starts, shall have."""
    hints = os.dup(0)
    told = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    with open(os.devnull, "r+b", buffering=0) as null:  # noqa: PTH123
        for stream in (0, 1, 2):
            os.dup2(null.fileno(), stream)
    return hints, told


def _log_to(path: Path) -> None:
    """Send standard output and standard error to a file."""
    with open(path, "wb", opener=no_link) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    faulthandler.enable()  # a segmentation fault leaves its traceback there


def _read(hints: int, patience: float) -> queue.SimpleQueue[str | None]:
    """The run ids, as they come, and None at their end: then time is limited."""
    waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        half = b""
        # Without a buffer: Python aborts if it ends while a thread is within one.
        with contextlib.suppress(OSError):  # somebody closed it
            while text := os.read(hints, 1 << 16):
                *lines, half = (half + text).split(b"\n")
                for line in lines:
                    waiting.put(line.decode())
        waiting.put(None)
        if patience:
            limit = threading.Timer(patience, os._exit, [1])
            limit.daemon = True
            limit.start()

    threading.Thread(target=read, daemon=True).start()
    return waiting


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    status = main()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    sys.exit(status)
