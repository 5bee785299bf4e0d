"""One invocation of make: the configuration, its matrix, what is there, and what is missing."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adamwprune.config import sources
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree
from adamwprune.errors import ConfigError, UserError
from adamwprune.matrix import Cell, Matrix, configs_of, expand
from adamwprune.record import RunResult
from adamwprune.scheduler import devices
from adamwprune.scheduler.local import Outcome, Pool, Task
from adamwprune.scheduler.progress import Display, summary
from adamwprune.store import Store, read_published


@dataclass(frozen=True)
class Experiment:
    """A configuration and everything that follows from it."""

    tree: Tree
    workspace: Workspace
    source: str  # where the configuration comes from, for people
    matrix: Matrix
    defconfig: str = ""  # the target's own, whatever .config says

    @classmethod
    def load(cls, defconfig: str = "") -> Experiment:
        """The experiment of this process: make's variables, and CONFIG=, ``defconfig`` or
        ``.config``. Raises :class:`~adamwprune.errors.ConfigError`.
        """
        tree, workspace = Tree(), Workspace.from_environment()
        source = sources.load(workspace, tree, defconfig)
        return cls(tree, workspace, source, expand(tree), defconfig)

    def notes(self) -> list[str]:
        """What a user should know: what resolved to something else, and what changes nothing."""
        idle = [name for name in self.workspace.settings if self._is_idle(name)]
        settings = self.workspace.settings
        return [*self.matrix.notes, *(f"{name}={settings[name]} changes no run" for name in idle)]

    def _is_idle(self, name: str) -> bool:
        """Whether a setting of make's command line is another value and yet changes no run."""
        if self.tree.is_operational(name):
            return False
        others = {key: text for key, text in self.workspace.variables.items() if key != name}
        tree = Tree(self.tree.root)
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # what it says was said once
                sources.load(Workspace(others), tree, self.defconfig)
            same = expand(tree).specs == self.matrix.specs
        except ConfigError:  # without it the configuration does not hold: it does something
            return False
        return same and tree.value(name) != self.tree.value(name)

    @property
    def store(self) -> Store:
        """Where this experiment's records are."""
        return Store(self.workspace.results(self.tree))

    @property
    def published(self) -> Path:
        """The tracked folder of frozen records."""
        return self.tree.root / "results" / "published"

    def missing(self) -> list[Cell]:
        """Cells without a finished run; a failed one is to be tried again."""
        return [cell for cell in self.matrix.cells if self.store.status(cell.spec) != "done"]

    def records(self) -> list[RunResult]:
        """The records of this matrix, done and failed, in its order."""
        found = (self.store.result(cell.spec) for cell in self.matrix.cells)
        return [result for result in found if result is not None]

    def records_or_published(self) -> list[RunResult]:
        """As :meth:`records`; where a run was not done here, its published record if there is."""
        here = {r.spec: r for r in self.records()}
        frozen = {r.spec: r for r in read_published(self.published)}
        done = {spec: r for spec, r in here.items() if r.status == "done"}
        pool = {**here, **frozen, **done}
        return [pool[cell.spec] for cell in self.matrix.cells if cell.spec in pool]

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
        found = self.store.result(task.spec)
        if found is not None and found.status == "done":
            print(f"already trained; remove {self.store.folder(task.spec)} to train it again")
            return found
        operational = self.tree.operational()
        slot = devices.slots(str(operational["DEVICE"]), 1, 1)[0]
        self.store.check_writable()
        folder = self.store.prepare(task.spec, task.minimal, task.full)
        print(f"{folder}: {slot.device}, {slot.threads} threads", flush=True)
        from adamwprune import training  # imports torch: a refusal above has answered at once

        data_dir = Path(str(operational["DATA_DIR"]))
        return training.run(
            training.Job(task.spec, folder, data_dir, slot.device, slot.threads, task.command)
        )

    def train(self, cells: Sequence[Cell]) -> Outcome:
        """Train ``cells`` on the configured devices, showing progress."""
        operational = self.tree.operational()
        slots = devices.slots(str(operational["DEVICE"]), int(operational["JOBS"]), len(cells))
        data_dir = Path(str(operational["DATA_DIR"])).absolute()
        with Display([cell.spec for cell in cells]) as display:
            pool = Pool(self.store, slots, data_dir, display.observer)
            return pool.run([self.task(cell) for cell in cells])

    def task(self, cell: Cell) -> Task:
        """What the scheduler needs to know of a cell."""
        minimal, full = configs_of(self.tree, cell)
        return Task(cell.spec, minimal, full, sources.repeat_command(self.tree, minimal))


def train_in_foreground(experiment: Experiment) -> int:
    """Train the experiment's one run, showing its log; the exit status."""
    for note in experiment.notes():
        print(f"note: {note}")
    logging.getLogger("adamwprune").addHandler(logging.StreamHandler(sys.stdout))
    result = experiment.train_single()
    print(summary(result.spec, result))
    return 0 if result.status == "done" else 1
