"""Shows a matrix that is acted out, in a process of its own: shown.py RUNNING [STEP]."""

import os
import sys
import tempfile
import time
from pathlib import Path

from adamwprune.progress.live import display
from adamwprune.scheduler.devices import Slot
from tests.support.records import expand, synthetic


def event(spec, step: int) -> dict:
    return {
        "epoch": step // spec.steps_per_epoch + 1,
        "step": step,
        "train_loss": 0.0412,
        "test_accuracy": 0.9876,
        "sparsity": 0.499,
        "rate": 120.0,
    }


def main() -> None:
    count = int(sys.argv[1])
    specs, slots = expand("memory-comparison"), [Slot("cpu", 1)] * count
    with tempfile.TemporaryDirectory() as root, display(specs, slots, [], Path(root)) as watcher:
        for spec in specs[:count]:
            watcher.started(spec, slots[0])
        watcher.told("waiting for another make (pid 123)")
        for spec in specs[:count]:
            watcher.progress(spec, event(spec, 300))
        watcher.told(f"retry 1 of 1: {specs[0].slug}: signal SIGKILL")
        watcher.ended(specs[1], synthetic(specs[1]))
        time.sleep(0.6)  # two more drawings at least
        os.write(1, b"<looked at>")  # past the display, which would draw anew
        if sys.argv[2:] == ["fail"]:
            raise KeyboardInterrupt


if __name__ == "__main__":
    main()
