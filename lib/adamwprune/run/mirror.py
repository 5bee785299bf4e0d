"""A rank of a run beside the first (:mod:`adamwprune.run.ranks`): it makes the same steps.

It is told what to do by a line of JSON on standard input, says that it is ready, and ends with the
run, or with standard input.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from adamwprune.plan.job import Job
from adamwprune.run import checkpoint, process_settings, ranks
from adamwprune.train.loop import Training


class Silent:
    """Watches a training, and leaves to rank 0 what there is to do."""

    def stepped(self, training: Training) -> None:
        """Nothing."""

    def evaluated(self, training: Training, entry: dict[str, float]) -> None:
        """Nothing."""


def main() -> None:
    """Train as the line on standard input says."""
    faulthandler.enable()
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    job, rank = Job.from_json(told["job"]), told["rank"]
    device = ranks.device_of(rank, job.device)
    process_settings.prepare()
    torch.set_num_threads(told["threads"])
    state = checkpoint.read(Path(told["checkpoint"])) if told["checkpoint"] else None
    print(ranks.READY, flush=True)
    group = ranks.join(device, Path(told["store"]), rank, job.ranks)
    training = Training(job.spec, job.data_dir, device, group=group)
    if state is not None:
        training.load_state_dict(state["training"])
    training.train(Silent())
    dist.destroy_process_group()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
