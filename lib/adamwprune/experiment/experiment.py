"""One invocation of make: the configuration, its matrix, what is there, and what is missing."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

from adamwprune.base import registry
from adamwprune.base.errors import ConfigError, UserError
from adamwprune.config import sources
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import SOURCE_TREE, Tree
from adamwprune.plan.matrix import Cell, Matrix, configs_of, expand
from adamwprune.plan.spec import RunSpec
from adamwprune.progress import history
from adamwprune.progress.live import Display, summary
from adamwprune.records import index, provenance, staleness
from adamwprune.records.code import Sources
from adamwprune.records.record import STALE, Brief, RunResult
from adamwprune.records.staleness import DONE, FAILED, MISSING, State
from adamwprune.records.store import RESULT, SPEC, Store, only, read_published, read_result
from adamwprune.report import present
from adamwprune.report.comparisons import Commands
from adamwprune.report.present import Request
from adamwprune.scheduler import devices
from adamwprune.scheduler.devices import Machine, Slot
from adamwprune.scheduler.packing import History, Packer
from adamwprune.scheduler.pool import Outcome, Policy, Pool, Task
from adamwprune.trackers.supervisor import PATIENCE, Tracked, Tracking


@dataclass(frozen=True)
class Experiment:
    """A configuration and everything that follows from it."""

    tree: Tree
    workspace: Workspace
    source: str  # where the configuration comes from, for people
    matrix: Matrix
    defconfig: str = ""  # the target's own, whatever .config says
    kept: Store | None = None  # one that remembers what it has read, in place of a plain one

    @classmethod
    def load(cls, workspace: Workspace, defconfig: str = "") -> Experiment:
        """The experiment of this invocation: its variables, and CONFIG=, ``defconfig`` or
        ``.config``. Raises :class:`~adamwprune.base.errors.ConfigError`.
        """
        tree = Tree()
        source = sources.load(workspace, tree, defconfig)
        for name in ("KEEP_STALE", "PUBLISHED"):
            if workspace.variables.get(name, "") not in ("", "0", "1"):
                raise UserError(f"{name}={workspace.variables[name]}: is neither 0 nor 1")
        return cls(tree, workspace, source, expand(tree), defconfig)

    def notes(self) -> list[str]:
        """What a user should know: what resolved to something else, and what changes nothing."""
        idle = [name for name in self.workspace.settings if self._is_idle(name)]
        settings = self.workspace.settings
        return [
            *self.matrix.notes,
            *(f"{name}={settings[name]} changes no run" for name in idle),
            *self._repeated(),
        ]

    def _repeated(self) -> Iterator[str]:
        """Values of a list, or members that the command line names, that are there twice."""
        for name, option in self.tree.options.items():
            if option.type.is_list and self.tree.is_visible(name):
                yield from _twice(name, self.tree.text(name), self.tree.value(name))
        for name, text in self.workspace.settings.items():
            if name in self.tree.families:
                yield from _twice(name, text, text.split())

    @property
    def request(self) -> Request:
        """How these runs were asked for, for a report on them."""
        return Request(self.matrix.deciders, Commands(self.workspace.variables, self.defconfig))

    def _is_idle(self, name: str) -> bool:
        """Whether a setting of make's command line is another value and yet changes no run."""
        if self.tree.is_operational(name):
            return False
        others = {key: text for key, text in self.workspace.variables.items() if key != name}
        tree = Tree(self.tree.root)
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # what it says was said once
                sources.load(Workspace(others), tree, self.defconfig)
            if tree.value(name) == self.tree.value(name):
                return False
            if name in tree.unread:
                return all(name not in spec for spec in self._outline)
            return expand(tree, outline=True).specs == self._outline
        except ConfigError:  # without it the configuration does not hold: it does something
            return False

    @cached_property
    def _outline(self) -> list[RunSpec]:
        return expand(self.tree, outline=True).specs

    # -- what there is -----------------------------------------------------------

    @property
    def store(self) -> Store:
        """Where this experiment's records are."""
        return self.kept or Store(self.workspace.results(self.tree))

    @property
    def published(self) -> Path:
        """The tracked folder of frozen records."""
        return self.tree.root / "results" / "published"

    @cached_property
    def code(self) -> Sources:
        """The code that is here."""
        return Sources()

    @property
    def keeps_stale(self) -> bool:
        """KEEP_STALE=1: records that other code made are accepted, and marked."""
        return self.workspace.variables.get("KEEP_STALE") == "1"

    def state(self, spec: RunSpec) -> State:
        """What is there of a run, and what it is worth."""
        state = staleness.judge(self.store.result(spec), self.code.of(spec))
        begun = self.store.progress(spec)
        if state.result is not None or begun is None:
            return state
        return replace(state, why=self._standing(spec, begun))

    def outlook(self) -> Iterator[tuple[Cell, str, str]]:
        """Each cell, the name of its state, and why; as :meth:`state`, but records are read only
        where what they say is not known.
        """
        with index.opened(self.store) as runs:
            for cell in self.matrix.cells:
                spec = cell.spec
                name, why = staleness.verdict(runs.result(spec), self.code.of(spec))
                begun = self.store.progress(spec) if name == MISSING and runs.files(spec) else None
                yield cell, name, self._standing(spec, begun) if begun else why

    def _standing(self, spec: RunSpec, begun: Mapping[str, Any]) -> str:
        """Where a run without a record is."""
        at = f"step {begun.get('step')} of {spec.total_steps}"
        if self.store.is_running(spec):
            return f"running, at {at}"
        if begun.get("code") != self.code.of(spec).digest:
            return f"interrupted at {at}, by other code: it starts anew"
        return f"interrupted at {at}, goes on from its checkpoint"

    def verdict(self, result: RunResult | Brief) -> str:
        """What a record counts as: ``done``, ``failed`` or, unless that is kept, ``stale``."""
        name, _ = staleness.verdict(result, self.code.of(result.spec))
        return result.status if name == STALE and self.keeps_stale else name

    @property
    def takes_published(self) -> bool:
        """PUBLISHED=1: a published record stands for a run that was not done here."""
        return self.workspace.variables.get("PUBLISHED") == "1"

    def missing(self) -> list[Cell]:
        """Cells to train: without a record, or with a stale one that is not accepted."""
        there = {result.spec for result in self.frozen()} if self.takes_published else set()
        with index.opened(self.store) as runs:
            return [
                cell
                for cell in self.matrix.cells
                if cell.spec not in there
                and ((result := runs.result(cell.spec)) is None or self.verdict(result) == STALE)
            ]

    def unmeasured(self) -> list[Cell]:
        """Cells without a record of a run that was alone on its device from start to end."""
        missing = {cell.spec for cell in self.missing()}
        return [
            cell
            for cell in self.matrix.cells
            if cell.spec in missing
            or ((result := self.store.result(cell.spec)) and not result.environment.get("alone"))
        ]

    def named(self, prefix: str) -> str:
        """The id of the one run that ``prefix`` is the id of, or the start of its id.

        It is looked for in the matrix, in the directory of runs, begun ones among them, and in
        the published records. Raises :class:`UserError` where there is none or are several.
        """
        known = {spec.run_id for spec in self.matrix.specs}
        known |= {path.parent.name for path in self.store.root.glob(f"*/{SPEC}")}
        known |= {path.parent.name for path in self.store.root.glob(f"*/{RESULT}")}
        if prefix not in known:  # which is read in no time
            known |= {result.run_id for result in self._published()}
        found = only(prefix, {name: name for name in sorted(known)})
        if found is None:
            raise UserError(f"{self.store.root}: no run starts with {prefix!r}")
        return found

    def find(self, prefix: str) -> RunResult:
        """The record of the run that is :meth:`named` so: here, or else a published one.

        Raises :class:`UserError` where that run has none.
        """
        name = self.named(prefix)
        path = self.store.root / name / RESULT
        if path.is_file():
            return read_result(path)
        published = {result.run_id: result for result in self._published()}
        if name not in published:
            begun = path.with_name(SPEC).is_file()
            raise UserError(
                f"{name}: has not finished; make trains it on"
                if begun
                else f"{name}: has no record; make trains it"
            )
        return published[name]

    def failed(self) -> list[Cell]:
        """Cells whose run failed, and that will not be trained again for another reason."""
        with index.opened(self.store) as runs:
            return [
                cell
                for cell in self.matrix.cells
                if (result := runs.result(cell.spec)) and self.verdict(result) == FAILED
            ]

    def records(self) -> list[RunResult]:
        """The records of this matrix, done and failed, in its order; stale ones only if kept, and
        published ones only if taken.
        """
        return self.records_or_published() if self.takes_published else self._records_here()

    def _records_here(self) -> list[RunResult]:
        states = [self.state(cell.spec) for cell in self.matrix.cells]
        return [
            replace(state.result, marks=frozenset({STALE})) if state.name == STALE else state.result
            for state in states
            if state.result and (state.name != STALE or self.keeps_stale)
        ]

    def records_or_published(self) -> list[RunResult]:
        """The records of this matrix: where a run was not done here, its published one."""
        here = {r.spec: r for r in self._records_here()}
        frozen = {r.spec: r for r in self.frozen()}
        fresh = {s: r for s, r in here.items() if r.status == DONE and STALE not in r.marks}
        pool = {**here, **frozen, **fresh}
        return [pool[cell.spec] for cell in self.matrix.cells if cell.spec in pool]

    def _published(self) -> list[RunResult]:
        own = self.defconfig or self.workspace.variables.get("CONFIG", "")
        return read_published(self.published, own)

    def frozen(self) -> list[RunResult]:
        """The published records of this matrix, verbatim, marked unless the code here made them."""
        specs = set(self.matrix.specs)
        found = (result for result in self._published() if result.spec in specs)
        return [staleness.frozen(result, self.code.of(result.spec)) for result in found]

    def publish(self, name: str, records: Sequence[RunResult], *, memory: bool) -> None:
        """Write these records of the matrix, their table, and the uncommitted changes that they
        were made with, to the tracked folder; tells of changes that are lost.
        """
        presets = self.matrix.deciders
        present.publish(self.published, name, self.matrix.specs, records, memory, presets)
        made_with = [diff for r in records for diff in provenance.diffs(r.environment)]
        for diff in provenance.publish_diffs(made_with, self.store.root, self.published):
            count = made_with.count(diff)
            print(f"note: {count} of these runs had uncommitted changes that are lost ({diff})")

    # -- training ------------------------------------------------------------------

    def train(
        self, choose: Callable[[Experiment], Sequence[Cell]], *, alone: bool = False
    ) -> Outcome:
        """Train the cells that ``choose`` names, showing progress.

        While another make trains into the same directory this one waits; what it has done by
        then is not chosen again. ``alone``: one at a time, also those that have a record; with
        the threads that each would have beside others, so that a CPU's bits are the same.
        """
        with self.store.locked(self._tell_waiting):
            now = replace(self)  # the code may have been changed while this one waited
            cells = choose(now)
            if cells:
                return now._train(cells, alone)
        print("nothing is left to train: another make has done it", flush=True)
        return Outcome()

    def _tell_waiting(self, pid: str) -> None:
        root = self.store.root
        print(f"another make (process {pid}) is training into {root}: waiting for it", flush=True)

    def _train(self, cells: Sequence[Cell], alone: bool) -> Outcome:
        operational, here = self.tree.operational(), self.machine()
        limits = devices.limits(here, int(operational["JOBS"]), int(operational["THREADS"]))
        for limit in limits:
            print(f"note: {limit}")
        slots = self.slots(here, len(cells))[: 1 if alone else None]
        policy = Policy(
            int(operational["RETRIES"]),
            bool(operational["FAIL_FAST"]),
            float(operational["CHECKPOINT_SECONDS"]),
            bool(operational["SHARE_GPUS"]),
            anew=alone,
        )
        earlier = history.records(self.store.root)
        specs = [cell.spec for cell in cells]
        with (
            Display(specs, slots, earlier, self.store.root) as display,
            self.tracking(display.observer.told) as tracking,
        ):
            pool = Pool(
                self.store,
                slots,
                self.data_dir,
                Tracked(display.observer, tracking),
                policy,
                source=self.provenance,
                packer=Packer(slots, here.cores, here.gpus),
                history=History(earlier),
            )
            return pool.run([self.task(cell) for cell in cells])

    @property
    def trackers(self) -> list[str]:
        """The trackers that are on."""
        known = registry.members("adamwprune.trackers")
        on = {f"TRACKER_{name.upper()}": name for name in known}
        return [on[each] for each in self.tree.symbols if each in on and self.tree.is_on(each)]

    def tracking(self, told: Callable[[str], None], patience: float | None = PATIENCE) -> Tracking:
        """The trackers that are on, to be entered while there is something to track."""
        group = self.workspace.variables.get("CONFIG") or self.defconfig
        return Tracking(self.trackers, self.store.root, group, told, patience)

    def track(self, prefix: str = "") -> int:
        """Have the trackers that are on write the runs that are there, whatever they have of them:
        those of this matrix whose record counts or that are under way, or the one run, of whatever
        configuration, whose identity starts with ``prefix``. Returns the exit status.
        """
        if not self.trackers:
            known = registry.members("adamwprune.trackers")
            symbols = ", ".join(f"TRACKER_{name.upper()}=y" for name in known)
            raise UserError(f"no tracker is on: set one of {symbols}")
        runs = [self.store.find(self.named(prefix)).run_id] if prefix else self._trackable()
        if not runs:
            raise UserError(f"{self.source}: no run has a record to track; make trains them")
        with self.tracking(lambda text: print(text, flush=True), None) as tracking:
            for run_id in runs:
                tracking.news(run_id)
        for folder in tracking.complete:
            print(f"{folder}: {len(runs)} run{'s' if len(runs) > 1 else ''}")
        return 1 if tracking.failed else 0

    def _trackable(self) -> list[str]:
        counted = {record.run_id for record in self._records_here()}
        under_way = {spec.run_id for spec in self.matrix.specs if self.store.is_running(spec)}
        known = counted | under_way
        return [spec.run_id for spec in self.matrix.specs if spec.run_id in known]

    def machine(self) -> Machine:
        """What there is to train on, as DEVICE sees it."""
        return devices.machine(str(self.tree.operational()["DEVICE"]))

    def slots(self, here: Machine, runs: int) -> list[Slot]:
        """The places for so many runs of the matrix.

        The threads of each follow from the whole matrix, not from what of it is missing: a run
        that is trained again gets as many as the first time.
        """
        operational = self.tree.operational()
        jobs, threads = int(operational["JOBS"]), int(operational["THREADS"])
        return devices.slots(here, jobs, threads, len(self.matrix.cells))[:runs]

    @property
    def data_dir(self) -> Path:
        """Where data sets are."""
        return Path(str(self.tree.operational()["DATA_DIR"])).absolute()

    def provenance(self) -> dict[str, Any]:
        """Commit and uncommitted changes of the source tree, and of the members outside of it; the
        changes are kept by their hash.
        """
        return provenance.record(SOURCE_TREE, self.tree.outside, self.store.root)

    def task(self, cell: Cell) -> Task:
        """What the scheduler needs to know of a cell."""
        minimal, full = configs_of(self.tree, cell)
        return Task(cell.spec, minimal, full, sources.repeat_command(self.tree, minimal))

    def train_single(self) -> RunResult:
        """Train the one run of this experiment in this process, unless it is done.

        Raises :class:`UserError` where the configuration is not one run.
        """
        if len(self.matrix.cells) != 1:
            raise UserError(
                f"{self.source} expands to {len(self.matrix.cells)} runs, this trains one; use "
                f"make matrix, or one value for {', '.join(self.matrix.varying())}"
            )
        task = self.task(self.matrix.cells[0])
        found = self.state(task.spec)
        if found.result is not None and found.name == DONE:
            print(f"already trained; remove {self.store.folder(task.spec)} to train it again")
            return found.result
        self.store.check_writable()
        folder = self.store.prepare(task.spec, task.minimal, task.full)
        operational = self.tree.operational()
        here = devices.machine(str(operational["DEVICE"]))
        slot = devices.slots(here, 1, int(operational["THREADS"]), 1)[0]
        run_id = task.spec.run_id
        with self.tracking(lambda text: print(f"note: {text}", flush=True)) as tracking:

            def watch(event: dict[str, Any]) -> None:
                _tell(event)
                tracking.progress(run_id, event)

            result = self.train_here(task.spec, folder, task.command, slot, watch)
            tracking.news(run_id)
        return result

    def train_here(
        self,
        spec: RunSpec,
        folder: Path,
        command: str,
        slot: Slot,
        progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> RunResult:
        """Train a run in this process and in ``folder``; Ctrl-C stops it at a checkpoint."""
        print(f"{folder}: {slot.device}, {slot.threads} threads", flush=True)
        os.environ.update(devices.environment(slot.threads))
        from adamwprune.run import runner  # imports torch: a refusal above has answered at once

        job = runner.Job(
            spec,
            folder,
            self.data_dir,
            slot.device,
            slot.threads,
            command,
            float(self.tree.operational()["CHECKPOINT_SECONDS"]),
            self.provenance(),
        )
        code = self.code.of(spec)
        with _stoppable() as should_stop:
            try:
                return runner.run(job, code, progress or _tell, should_stop)
            except runner.Stopped:
                print(f"stopped; the same command goes on from {folder}/checkpoint.pt")
                raise KeyboardInterrupt from None
            except runner.Crashed as error:
                return runner.fail(job, code, str(error))


def _tell(event: dict[str, Any]) -> None:
    """What of a run in the foreground its log does not say."""
    if event["event"] == "waiting":
        print(f"another process ({event['pid']}) is training this run: waiting for it", flush=True)


def _twice(name: str, text: str, values: Sequence[object]) -> Iterator[str]:
    """A note where a value is repeated."""
    if len(set(values)) < len(values):
        yield f"{name}={text}: a value that is repeated counts once"


@contextlib.contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C or SIGTERM is a wish, the second ends the process at once."""
    asked = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("stopping at a checkpoint; again: at once", file=sys.stderr, flush=True)

    before = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def train_in_foreground(experiment: Experiment) -> int:
    """Train the experiment's one run, showing its log; the exit status."""
    for note in experiment.notes():
        print(f"note: {note}")
    logging.getLogger("adamwprune").addHandler(logging.StreamHandler(sys.stdout))
    result = experiment.train_single()
    print(summary(result.spec, result))
    return 0 if result.status == DONE else 1
