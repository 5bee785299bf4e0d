"""Train the runs of an experiment: where, how many at a time, watched by whom."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from adamwprune.base import registry
from adamwprune.base.errors import UserError
from adamwprune.base.wording import counted
from adamwprune.config import sources
from adamwprune.config.tree import SOURCE_TREE, Tree
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.looks import EVERY, Looks
from adamwprune.plan.job import Job
from adamwprune.plan.matrix import Cell, configs_of
from adamwprune.plan.spec import RunSpec
from adamwprune.progress import history
from adamwprune.progress.live import display
from adamwprune.progress.status import Places
from adamwprune.records import provenance
from adamwprune.records.locks import is_locked
from adamwprune.records.published import each_published
from adamwprune.records.record import RunResult
from adamwprune.records.state import RUNNING
from adamwprune.records.store import LOCK, Store
from adamwprune.scheduler import devices, engines
from adamwprune.scheduler.cluster import Cluster
from adamwprune.scheduler.devices import Agents, Machine, Slot
from adamwprune.scheduler.events import Outcome, Policy
from adamwprune.scheduler.packing import History, Packer
from adamwprune.scheduler.pool import Pool
from adamwprune.scheduler.spool import Spool
from adamwprune.trackers.supervisor import PATIENCE, Tracked, Tracking

LOCAL = "local"  # the executor on this machine
Choose = Callable[[Catalogue], Sequence[Cell]]  # which cells are to be trained


@dataclass(frozen=True)
class Launch:
    """Trains runs of an experiment, on this machine or on a cluster."""

    experiment: Experiment

    @property
    def store(self) -> Store:
        """Where the runs are."""
        return Store(self.experiment.root)

    # -- the matrix ------------------------------------------------------------------

    def train(self, choose: Choose, *, alone: bool = False) -> Outcome:
        """Train the cells that ``choose`` names, showing progress.

        While another make trains into the same directory this one waits; what the other one has
        done by then is not chosen again. ``alone``: one at a time, also those that have a record;
        with the threads that each would have beside others, so that a CPU's bits are the same.
        """
        if self.executor != LOCAL:
            return self._train_on_cluster(choose(Catalogue.of(self.experiment)), alone)
        Spool(self.store.root).refuse_if_live()
        with self.store.locked(self._tell_waiting):
            cells = choose(Catalogue.of(self.experiment))
            if cells:
                return self._train(cells, alone)
        print("nothing is left to train: another make has done it", flush=True)
        return Outcome()

    def _tell_waiting(self, pid: str) -> None:
        root = self.store.root
        self.__dict__.pop("here", None)  # by then its GPUs have other bytes free
        print(f"another make (process {pid}) is training into {root}: waiting for it", flush=True)

    def _refuse_ranks(self) -> None:
        """Raise :class:`UserError` for what several ranks cannot train."""
        operational, specs = self.experiment.tree.operational(), self.experiment.matrix.specs
        ranks = int(operational["RANKS"])
        if operational["SHARD"]:
            _refuse_shards(ranks, specs)
        for spec in specs:
            if spec.smallest_part < ranks:
                raise UserError(
                    f"RANKS={ranks}: {spec.slug}: a batch, or a part of one, has "
                    f"{counted(spec.smallest_part, 'example')}, and each rank needs one"
                )
        if ranks > 1 and any(spec.values.get("RELEASE_GRADIENTS") for spec in specs):
            raise UserError(
                f"RANKS={ranks}: gradients are averaged over ranks before they are released; "
                "RELEASE_GRADIENTS=n, or RANKS=1"
            )

    def _train(self, cells: Sequence[Cell], alone: bool) -> Outcome:
        operational, here = self.experiment.tree.operational(), self.here
        asked = (int(operational[name]) for name in ("JOBS", "THREADS", "RANKS"))
        limits = devices.limits(here, *asked)
        for note in (*limits, *self._notes()):
            print(f"note: {note}")
        slots = self.slots(here, len(cells))[: 1 if alone else None]
        policy = Policy(
            int(operational["RETRIES"]),
            bool(operational["FAIL_FAST"]),
            bool(operational["SHARE_GPUS"]),
        )
        earlier = history.records(self.store.root)
        specs = [cell.spec for cell in cells]
        with (
            display(
                specs, slots, earlier, self.store.root, self.experiment.names, here=True
            ) as observer,
            self.tracking(observer.told) as tracking,
        ):
            pool = Pool(
                self.store,
                slots,
                Tracked(observer, tracking),
                policy,
                source=self.provenance,
                packer=Packer(slots, here.cores, here.gpus),
                history=History(earlier, self._measured_elsewhere if here.gpus else tuple),
            )
            return pool.run([replace(self.job(cell), retrain=alone) for cell in cells])

    def _measured_elsewhere(self) -> list[RunResult]:
        """The published records, whatever is damaged left out: they say how large a run is."""
        with contextlib.suppress(UserError):
            found = each_published(self.experiment.published)
            return [each for each in found if isinstance(each, RunResult)]
        return []

    @property
    def executor(self) -> str:
        """Where runs are trained: ``local`` or an engine's name."""
        return str(self.experiment.tree.operational()["EXECUTOR"])

    def _train_on_cluster(self, cells: Sequence[Cell], alone: bool) -> Outcome:
        if alone:
            raise UserError("make measure takes times on this machine: EXECUTOR=local")
        if is_locked(self.store.root / LOCK):
            raise UserError(f"{self.store.root}: a make on this machine is training into it")
        operational = self.experiment.tree.operational()
        agents, engine = engines.agents(operational, len(cells)), engines.engine(operational)
        engines.refuse_another(Spool(self.store.root), engine)
        for note in self._notes():
            print(f"note: {note}")
        earlier = history.records(self.store.root)
        slots = self.places()(len(cells))
        specs, names = [cell.spec for cell in cells], self.experiment.names
        with (
            display(specs, slots, earlier, self.store.root, names) as observer,
            self.tracking(observer.told) as tracking,
        ):
            settings = engines.settings(operational, len(self.experiment.matrix.cells))
            cluster = Cluster(
                self.store,
                engine,
                agents.count,
                settings,
                Tracked(observer, tracking),
                source=self.provenance(),
                fail_fast=bool(operational["FAIL_FAST"]),
            )
            return cluster.run(self.job(cell) for cell in cells)

    @cached_property
    def here(self) -> Machine:
        """What there is to train on, as DEVICE sees it; asked once, as GPUs take a second."""
        return devices.machine(str(self.experiment.tree.operational()["DEVICE"]))

    def slots(self, here: Machine, runs: int) -> list[Slot]:
        """The places for so many runs of the matrix.

        The threads of each follow from the whole matrix, not from what of it is missing: a run
        that is trained again gets as many as the first time.
        """
        operational = self.experiment.tree.operational()
        jobs, threads, ranks = (int(operational[each]) for each in ("JOBS", "THREADS", "RANKS"))
        cells = len(self.experiment.matrix.cells)
        return devices.slots(here, jobs, threads, cells, ranks)[:runs]

    def place(self, spec: RunSpec) -> Slot:
        """Where a run is trained on this machine: on as many threads as its record says, or else
        as the matrix gives it.
        """
        here, asked = self.here, int(self.experiment.tree.operational()["THREADS"])
        slot, record = self.slots(here, 1)[0], self.store.result(spec)
        threads = None if asked or record is None else record.environment.get("threads")
        return replace(slot, threads=min(threads, here.cores)) if threads else slot

    def agents(self, runs: int) -> Agents | None:
        """What a cluster is asked for, for so many runs; None where this machine trains them."""
        if self.executor == LOCAL:
            return None
        return engines.agents(self.experiment.tree.operational(), runs)

    def places(self) -> Places:
        """The places that so many runs would get, here or on a cluster.

        Raises :class:`UserError` where DEVICE is not on this machine, which would train them, where
        it has not enough for one run, and where an agent has not.
        """
        self._refuse_ranks()
        if not self.agents(1):
            self.slots(self.here, 1)  # or it says what is too much for this machine

        def found(runs: int) -> list[Slot]:
            agents = self.agents(runs)
            if agents is None:
                return self.slots(self.here, runs)
            return (self.slots(agents.node, runs) * agents.count)[:runs]

        return found

    # -- one run ---------------------------------------------------------------------

    def job(self, cell: Cell) -> Job:
        """What a worker needs to know of a cell, but its place."""
        tree = self.experiment.tree
        minimal, full = configs_of(tree, cell)
        return Job(
            cell.spec,
            self.store.folder(cell.spec).absolute(),
            self.experiment.data_dir,
            command=sources.repeat_command(tree, minimal),
            checkpoint_seconds=float(tree.operational()["CHECKPOINT_SECONDS"]),
            defconfig=minimal,
            config=full,
            name=self.experiment.names[cell.spec],
            shards=bool(tree.operational()["SHARD"]),
        )

    def single(self) -> Job:
        """The job of the experiment's one run, alone on this machine.

        Raises :class:`UserError` where the configuration is not one run.
        """
        matrix, operational = self.experiment.matrix, self.experiment.tree.operational()
        if len(matrix.cells) != 1:
            raise UserError(
                f"{self.experiment.source} expands to {len(matrix.cells)} runs, this trains one; "
                f"use make matrix, or one value for {', '.join(matrix.varying())}"
            )
        self._refuse_ranks()
        threads, ranks = int(operational["THREADS"]), int(operational["RANKS"])
        slot = devices.slots(self.here, 1, threads, 1, ranks)[0]
        return self.placed(self.job(matrix.cells[0]), slot)

    def placed(self, job: Job, slot: Slot) -> Job:
        """The job at this place, made by the source tree as it is now."""
        for note in self._notes():
            print(f"note: {note}")
        return replace(
            job,
            device=slot.device,
            threads=slot.threads,
            ranks=slot.ranks,
            source=self.provenance(),
        )

    def _notes(self) -> list[str]:
        """What a user should know before something is trained."""
        note = provenance.note(SOURCE_TREE, self.experiment.tree.outside)
        return [note] if note else []

    def provenance(self) -> dict[str, Any]:
        """Commit and uncommitted changes of the source tree, and of the members outside of it; the
        changes are kept by their hash.
        """
        return provenance.record(SOURCE_TREE, self.experiment.tree.outside, self.store.root)

    # -- trackers --------------------------------------------------------------------

    @property
    def trackers(self) -> list[str]:
        """The trackers that are on."""
        tree = self.experiment.tree
        return [name for name in trackers_of(tree) if tree.is_on(f"TRACKER_{name.upper()}")]

    def tracking(self, told: Callable[[str], None], patience: float | None = PATIENCE) -> Tracking:
        """The trackers that are on, to be entered while there is something to track."""
        group = self.experiment.workspace.variables.get("CONFIG") or self.experiment.defconfig
        return Tracking(self.trackers, self.store.root, group, told, patience)

    def track(self, prefix: str = "") -> int:
        """Have the trackers that are on write the runs that are there, whatever they have of them.

        These are the runs of this matrix whose record counts, and those that another process
        trains: they are followed until they have ended, or until Ctrl-C. ``prefix``: the one run
        instead, of whatever configuration, whose id starts so. Returns the exit status.
        """
        if not self.trackers:
            known = trackers_of(self.experiment.tree)
            symbols = ", ".join(f"TRACKER_{name.upper()}=y" for name in known)
            raise UserError(f"no tracker is on: set one of {symbols}")
        catalogue = Catalogue.of(self.experiment)
        looks = None if prefix else Looks(catalogue)
        runs = [catalogue.find(prefix).run_id] if looks is None else trackable(looks)
        if not runs and not (looks and looks.is_under_way):
            raise UserError(
                f"{self.experiment.source}: no run has a record to track; make trains them"
            )
        tracking = self.tracking(lambda text: print(text, flush=True), None)
        with contextlib.suppress(KeyboardInterrupt), tracking:
            for run_id in runs:
                tracking.news(run_id)
            if looks is not None:
                follow(looks, tracking)
                runs = trackable(looks)
        for folder in tracking.complete:
            print(f"{folder}: {counted(len(runs), 'run')}")
        return 1 if tracking.failed else 0


def trackers_of(tree: Tree) -> list[str]:
    """All trackers that there are: the modules that have a symbol."""
    known = registry.members("adamwprune.trackers")
    return [name for name in known if f"TRACKER_{name.upper()}" in tree.symbols]


def trackable(looks: Looks) -> list[str]:
    """The runs whose record counts or that a process trains."""
    states = [seen.state for seen in looks.seen.values()]
    return [each.spec.run_id for each in states if each.counts or each.name == RUNNING]


def follow(looks: Looks, tracking: Tracking) -> None:
    """Track the runs that other processes train until these have ended."""
    is_under_way = True
    while is_under_way and tracking.is_running:
        is_under_way = looks.is_under_way  # asked first, so that nothing is missed by the last look
        for each in looks.again():
            run_id, progress = each.state.spec.run_id, each.state.progress
            if each.state.name == RUNNING and progress is not None:
                tracking.progress(run_id, progress)
            elif each.state.counts:
                tracking.news(run_id)
        tracking.listen()
        if is_under_way:
            time.sleep(EVERY)


def _refuse_shards(ranks: int, specs: Sequence[RunSpec]) -> None:
    if ranks == 1:
        raise UserError("SHARD=y: a run is spread over its ranks; RANKS= says how many")
    for spec in specs:
        storage = spec.values.get("MASK_STORAGE", "implied")
        if storage != "implied" or spec.values.get("PRUNING_SCOPE") == "2-4":
            raise UserError(
                f"SHARD=y: {spec.slug}: sharded weights are pruned by magnitude or by state, with "
                "MASK_STORAGE=implied and not 2:4"
            )
        if spec["TORCH_COMPILE"] or spec["MEMORY_FORMAT"] != "contiguous":
            raise UserError(
                f"SHARD=y: {spec.slug}: needs TORCH_COMPILE=n and MEMORY_FORMAT=contiguous"
            )
