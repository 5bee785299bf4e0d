"""The product, step by step as its parent asks (:mod:`benchmarks.training.paced`).

Parts: ``all``, a run as :mod:`adamwprune.run.runner` trains it, with trace, progress and whatever
else belongs to it; ``data``, its batches alone; ``step``, its network, task and optimizer alone, on
a batch that stays the same.
"""

import os
import time

import torch

from adamwprune import optimizers, tasks
from adamwprune.plan.job import Event, Job
from adamwprune.records.code import Sources
from adamwprune.run import process_settings, runner
from adamwprune.train import precision
from adamwprune.train.data import Order, loaded, network_for
from benchmarks.training.paced import Pace, Work, run

NEVER = 1e9  # seconds between checkpoints


def train(work: Work, pace: Pace) -> None:
    """A run that is stopped when no other step is wanted; tells what a checkpoint took."""
    threads = len(os.sched_getaffinity(0))
    device = "cuda:0" if work.device == "cuda" else work.device
    folder = work.folder / work.spec.run_id
    job = Job(work.spec, folder, work.data_dir, device, threads, checkpoint_seconds=NEVER)
    asked_to_stop = 0.0

    def should_stop() -> bool:
        nonlocal asked_to_stop
        goes_on = pace.stepped()
        asked_to_stop = time.perf_counter()
        return not goes_on

    def progress(event: dict[str, object]) -> None:
        if event["event"] == Event.NOTE:
            pace.notes.append(str(event["text"]))

    if not pace.begin():
        return
    try:
        result = runner.run(job, Sources().of(work.spec), progress, should_stop)
    except runner.Stopped:
        pace.tell({"checkpoint": time.perf_counter() - asked_to_stop})
    else:
        raise SystemExit(f"the run ended: {result.status}, {result.error}")


def data(work: Work, pace: Pace) -> None:
    """The batches that a run trains on, and nothing that is done with them."""
    process_settings.prepare()
    spec, device = work.spec, torch.device(work.device)
    takes = network_for(spec.settings).takes
    examples = loaded(spec.settings, work.data_dir, takes, device)
    order = Order(examples.examples, spec["BATCH_SIZE"], spec["SEED"], device)
    going = pace.begin()
    while going:
        examples.batch(order.next())
        going = pace.stepped()
    pace.tell({})


def step(work: Work, pace: Pace) -> None:
    """Forward, backward and the optimizer's step on one batch: what no training can do without."""
    process_settings.prepare()
    spec, device = work.spec, torch.device(work.device)
    network = network_for(spec.settings)
    model = precision.in_format(network.module.to(device), spec).train()
    examples = loaded(spec.settings, work.data_dir, network.takes, device)
    task = tasks.build(spec.settings, examples)
    parameters = optimizers.decayed(model, spec["DECAYED"])
    optimizer = optimizers.build(spec["OPTIMIZER"], parameters, spec.settings)
    forward = precision.Forward(model, spec, device)
    order = Order(examples.examples, spec["BATCH_SIZE"], spec["SEED"], device)
    batch = examples.batch(order.next())
    going = pace.begin()
    while going:
        loss, _ = task.loss(forward, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        going = pace.stepped()
    pace.tell({})


if __name__ == "__main__":
    run({"all": train, "data": data, "step": step})
