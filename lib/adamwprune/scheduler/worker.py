"""A warm worker: imports torch and loads the data once, then trains one job after another.

Jobs come as JSON lines on standard input, events go as JSON lines to the standard output it was
started with. What a run prints goes to its own ``log.txt``. The end of standard input means that
the scheduler is gone: the worker ends at once, whatever it is doing.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from typing import Any, TextIO

from adamwprune import training
from adamwprune.errors import UserError

HEARTBEAT = 0.5  # seconds between progress events within an epoch


def main() -> None:
    """Serve jobs until standard input ends."""
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # stray prints must not reach the event stream
    jobs: queue.Queue[training.Job] = queue.Queue()
    threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()
    while True:
        _serve(jobs.get(), events)


def _read_jobs(jobs: queue.Queue[training.Job]) -> None:
    for line in sys.stdin:
        jobs.put(training.Job.from_json(json.loads(line)))
    os._exit(0)  # also in the middle of a run: nobody is left to care


def _serve(job: training.Job, events: TextIO) -> None:
    def send(event: dict[str, Any]) -> None:
        events.write(json.dumps({**event, "run_id": job.spec.run_id}) + "\n")

    try:
        result = training.run(job, _thinned(send))
        send({"event": "end", "status": result.status})
    except UserError as error:
        send({"event": "refused", "reason": str(error)})


def _thinned(send: training.Progress) -> training.Progress:
    """Pass all events on but steps, of which one each HEARTBEAT is enough."""
    last = time.monotonic()

    def progress(event: dict[str, Any]) -> None:
        nonlocal last
        if event["event"] == "step" and time.monotonic() - last < HEARTBEAT:
            return
        last = time.monotonic()
        send(event)

    return progress


if __name__ == "__main__":
    main()
