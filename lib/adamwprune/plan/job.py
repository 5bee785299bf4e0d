"""What a scheduler and a worker say to each other, as plain data: a job, and events on its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from adamwprune.base.errors import UserError
from adamwprune.plan.spec import RunSpec


@dataclass(frozen=True)
class Job:
    """One run and how to run it; it crosses processes as JSON.

    ``device``, ``threads`` and ``ranks`` are those of the place that a scheduler finds for it.
    """

    spec: RunSpec
    folder: Path  # the run's own directory
    data_dir: Path
    device: str = "cpu"  # "cpu", "cuda:0", ...
    threads: int = 1  # of each rank
    ranks: int = 1  # processes that train it; on GPUs one after the other, from ``device`` on
    shards: bool = False  # whether each of these holds but its rows of weights and states
    command: str = ""  # the line that repeats the run
    checkpoint_seconds: float = 60.0
    source: Mapping[str, Any] = field(default_factory=dict)  # commit and changes of the tree
    retrain: bool = False  # also where there is a record: it is replaced
    defconfig: str = ""  # the run's configuration: what differs from the defaults
    config: str = ""  # and in full
    work: str = ""  # where the attempt makes its files, if the run is leased (records.lease)
    name: str = ""  # for people, where the slug is that of several runs

    @property
    def label(self) -> str:
        """What a person is told of the run by."""
        return self.name or self.spec.slug

    def to_json(self) -> dict[str, Any]:
        """Plain data, ready for ``json.dumps``."""
        paths = {"folder": str(self.folder), "data_dir": str(self.data_dir)}
        spec = {"spec": dict(self.spec.values), "run_id": self.spec.run_id}
        return {**vars(self), **paths, **spec, "source": dict(self.source)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Job:
        """The inverse of :meth:`to_json`.

        Raises :class:`UserError` where the sender's code gives the run another identity.
        """
        values = dict(plain)
        spec, named = RunSpec(values.pop("spec")), values.pop("run_id")
        if spec.run_id != named:
            raise UserError(
                f"{named}: the code here calls this run {spec.run_id}; it was changed since make "
                "was started: start make again"
            )
        folder, data = Path(values.pop("folder")), Path(values.pop("data_dir"))
        return cls(spec, folder, data, **values)


class Event(StrEnum):
    """The kinds of a worker's events; an event is a JSON object, ``event`` and these fields."""

    ACCEPTED = "accepted"  # the job has begun
    PROGRESS = "progress"  # how far the run is: the fields of progress.json
    MEMORY = "memory"  # bytes: the peak of the device's memory, once it is known
    NOTE = "note"  # text: what a user should know
    WAITING = "waiting"  # pid: another process trains this run
    END = "end"  # status: the record is there
    STOPPED = "stopped"  # at a checkpoint
    OUTDATED = "outdated"  # the code is another than the worker has loaded
    CRASHED = "crashed"  # error: a traceback; out_of_memory: whether it is that
    REFUSED = "refused"  # reason: no run could go on
    LOST = "lost"  # another attempt, perhaps on another host, has taken the run over
    # error: how the worker ended; killed: whether that may be for want of memory. Said by the
    # executor, in its place.
    DIED = "died"
