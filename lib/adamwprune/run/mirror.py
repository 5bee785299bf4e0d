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
    """Watches a training, and leaves to rank 0 what there is to do; but for what it holds itself of
    a checkpoint.
    """

    def stepped(self, training: Training) -> None:
        """Take part in a checkpoint if one is due."""
        if training.shares_checkpoints and training.tell_checkpoint(False):
            training.state_dict()

    def evaluated(self, training: Training, entry: dict[str, float]) -> None:
        """Take part in the checkpoint that follows, unless the training has ended."""
        if training.shares_checkpoints and training.step < training.spec.total_steps:
            training.state_dict()


def main() -> None:
    """Train as the line on standard input says."""
    faulthandler.enable()
    words = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # stray prints: nobody reads the pipe once this rank is ready
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    job, rank = Job.from_json(told["job"]), told["rank"]
    device = ranks.device_of(rank, job.device)
    process_settings.prepare()
    torch.set_num_threads(told["threads"])
    state = checkpoint.read(Path(told["checkpoint"])) if told["checkpoint"] else None
    print(ranks.READY, file=words, flush=True)
    group = ranks.join(device, rank, job.ranks, told["port"])
    training = Training(job.spec, job.data_dir, device, group=group, shards=job.shards)
    if state is not None:
        training.load_state_dict(state["training"])
    training.train(Silent())
    training.outcome()
    training.whole_weights()
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads, which the model keeps, may abort an interpreter that ends


def _end_with_input() -> None:
    """Rank 0 has gone."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
