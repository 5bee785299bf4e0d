"""The runs of an experiment, looked at again and again while another process trains them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from adamwprune.experiment.catalogue import Catalogue
from adamwprune.plan.spec import RunSpec
from adamwprune.records.locks import is_locked
from adamwprune.records.state import IN_HAND, RUNNING, State
from adamwprune.records.store import LOCK, RESULT, TICK, Stamp, Store, stamp

EVERY = 1.0  # seconds between looks


@dataclass(frozen=True)
class Seen:
    """A run at one look."""

    state: State
    record: Stamp | None  # of its file
    folder: Stamp | None
    settled: bool  # the same next time, while its directory is

    @classmethod
    def of(cls, catalogue: Catalogue, spec: RunSpec, before: Seen | None) -> Seen:
        """Look at the run's directory.

        Whatever is renamed into a directory or removed from it changes the directory's time.
        """
        now = time.time_ns()
        folder = stamp(f"{catalogue.store.root}/{spec.run_id}")
        if before is not None and before.settled and before.folder == folder:
            return before
        record = None if folder is None else record_stamp(catalogue.store, spec)
        state = catalogue.state(spec)
        at_rest = state.name not in IN_HAND
        return cls(state, record, folder, at_rest and (folder is None or now - folder[0] > TICK))


class Looks:
    """The latest look at each run of the matrix; one costs one ``stat`` where nothing changed."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.seen: dict[str, Seen] = {}  # by run id
        self.again()

    def again(self) -> list[Seen]:
        """Look at all runs; those of which something is new."""
        news = []
        for spec in self.catalogue.experiment.matrix.specs:
            before = self.seen.get(spec.run_id)
            found = self.seen[spec.run_id] = Seen.of(self.catalogue, spec, before)
            if before is None or (found.state, found.record) != (before.state, before.record):
                news.append(found)
        return news

    @property
    def is_under_way(self) -> bool:
        """Whether a process trains one of the runs, or a scheduler is about to."""
        running = any(seen.state.name == RUNNING for seen in self.seen.values())
        return running or is_locked(self.catalogue.store.root / LOCK)


def record_stamp(records: Store, spec: RunSpec) -> Stamp | None:
    """What tells the file of a record from another of its name; None where there is none."""
    return stamp(f"{records.root}/{spec.run_id}/{RESULT}")
