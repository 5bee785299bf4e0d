"""A warm worker: imports torch and wakes its device once, then trains one job after another.

Jobs come as JSON lines on standard input, events go as JSON lines to the standard output it was
started with. What a run prints goes to its own ``log.txt``. SIGTERM stops the run in hand at a
checkpoint, and so does the end of standard input, which means that the scheduler is gone.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import queue
import signal
import sys
import threading
from types import FrameType
from typing import Any, TextIO

from adamwprune.base.imports import uncollected
from adamwprune.plan.job import Event, Job
from adamwprune.records.code import Sources, stamps

LOADED = stamps()  # the source files as they are now, before most are imported
GRACE = 5.0  # seconds to reach a checkpoint after the scheduler is gone


class Worker:
    """One job after another, until there is nobody to give one."""

    def __init__(self, events: TextIO) -> None:
        self.events, self.sources = events, Sources()
        self.jobs: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.busy = self.stopping = False

    def serve(self, device: str) -> None:
        """Train what comes on standard input, until that ends."""
        signal.signal(signal.SIGTERM, self._on_terminate)
        threading.Thread(target=self._read_jobs, daemon=True).start()
        _wake(device)
        while not self.stopping:
            plain = self.jobs.get()
            if plain is None:
                return
            self.busy = True
            self._train(plain)
            self.busy = False

    def _train(self, plain: dict[str, Any]) -> None:
        from adamwprune.base.errors import UserError
        from adamwprune.run import runner  # imports torch: after the code was looked at

        self._send({"event": Event.ACCEPTED})
        if stamps() != LOADED:  # what was imported need not be what is there now
            self._send({"event": Event.OUTDATED})
            return
        try:
            job = Job.from_json(plain)
            code = self.sources.of(job.spec)
            result = runner.run(job, code, self._send, lambda: self.stopping)
            self._send({"event": Event.END, "status": result.status})
        except runner.Stopped:
            self._send({"event": Event.STOPPED})
        except runner.Crashed as error:
            event = {"event": Event.CRASHED, "error": str(error)}
            self._send({**event, "out_of_memory": error.out_of_memory})
        except runner.Lost:
            self._send({"event": Event.LOST})
        except UserError as error:
            self._send({"event": Event.REFUSED, "reason": str(error)})

    def _send(self, event: dict[str, Any]) -> None:
        try:
            self.events.write(json.dumps(event) + "\n")
        except BrokenPipeError:  # the scheduler is gone: standard input has ended too
            self.stopping = True

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True
        if not self.busy:
            os._exit(0)

    def _read_jobs(self) -> None:
        for line in sys.stdin:
            self.jobs.put(json.loads(line))
        self.stopping = True
        self.jobs.put(None)
        limit = threading.Timer(GRACE, os._exit, [1])
        limit.daemon = True
        limit.start()


def _wake(device: str) -> None:
    """What takes seconds and is the same for every run, while other workers are at work."""
    with uncollected():
        from adamwprune.run import runner  # noqa: F401  imports torch: after the code was looked at

    if device != "cpu":
        import torch

        with contextlib.suppress(RuntimeError):  # of a device that fails the first run tells
            torch.ones(1, device=device).sum().item()


def main() -> None:
    """Serve jobs on the device that is named on the command line until standard input ends."""
    faulthandler.enable()  # a segmentation fault leaves its traceback on standard error
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # stray prints must not reach the event stream
    Worker(events).serve(sys.argv[1])
    # Taking torch down takes half a second, for which make would wait.
    for stream in (events, sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody listens any more
            stream.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
