"""What one waits for at the prompt: commands that train nothing, on matrices small and large."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from adamwprune.config import sources
from adamwprune.config.tree import Tree
from adamwprune.plan.matrix import expand
from adamwprune.plan.spec import RunSpec
from adamwprune.records.brief import encode, read_result
from adamwprune.records.record import RunResult
from adamwprune.records.store import RESULT, Store
from benchmarks import metrics, processes
from benchmarks.matrix import make
from benchmarks.metrics import Goal, Metric, Options, at_most

SECTION = "commands"
CELLS = 10_000


@dataclass(frozen=True)
class Command:
    """``make`` with these goals in an output directory, and what it may take."""

    name: str
    folder: Path
    goals: tuple[str, ...] = ()
    goal: Goal | None = None
    memory: Goal | None = None  # of the peak in MB, of commands for which it is told


def template(options: Options) -> RunResult:
    """A real record: one epoch on the digits that come with the package."""
    folder = options.scratch / "template"
    words = ["--dataset", "mnist5k", "--optimizer", "adamw", "--epochs", "1"]
    words += ["--device", "cpu", "--results-dir", str(folder)]
    processes.run([sys.executable, "train.py", *words])
    (record,) = map(read_result, folder.glob(f"*/{RESULT}"))
    return record


def configured(folder: Path, defconfig: str, **settings: str) -> list[RunSpec]:
    """Write ``folder/.config`` and return the runs that it means."""
    tree = Tree()
    sources.load(sources.Workspace({"O": str(folder), "CONFIG": defconfig, **settings}), tree)
    sources.write(tree, folder / ".config")
    return expand(tree).specs


def synthesise(folder: Path, specs: Iterable[RunSpec], like: RunResult) -> None:
    """Records of ``specs`` as ``make`` would have left them, with the numbers of ``like``.

    Each is fresh only if it uses the modules that ``like`` does.
    """
    store = Store(folder / "results")
    for spec in specs:
        path = store.folder(spec) / RESULT
        path.parent.mkdir(parents=True)
        record = replace(like, run_id=spec.run_id, spec=spec)
        path.write_text(encode(record), encoding="utf-8")


def prepare(options: Options) -> list[Command]:
    """The directories, and what is run in them."""
    cells = 50 if options.quick else CELLS
    seeds = " ".join(map(str, range(cells)))
    empty, full, small = (options.scratch / name for name in ("empty", "full", "small"))
    like = template(options)
    configured(empty, "adamw", DATASET="mnist5k", EPOCHS="1", SEED=seeds)
    specs = configured(full, "adamw", DATASET="mnist5k", EPOCHS="1", SEED=seeds)
    synthesise(full, specs, like)
    few = configured(small, "adamw", DATASET="mnist5k", EPOCHS="1", SEED="0 1 2 3 4 5 6 7 8 9")
    synthesise(small, few, like)
    processes.run(make({"O": str(small)}))  # draws the figures
    counted = f"{cells:,}"
    return [
        Command("make help", small, ("help",)),
        Command(f"make plan, {counted} runs missing", empty, ("plan",), at_most(5.0)),
        Command(f"make plan, {counted} runs done", full, ("plan",)),
        Command(f"make status, {counted} records", full, ("status",), at_most(2.0)),
        Command("make with nothing to do, 10 runs", small, (), at_most(2.0)),
        Command(f"make export, {counted} records", full, ("export",), None, at_most(200)),
    ]


def measure(options: Options) -> list[Metric]:
    """All commands in turn, ``options.repetitions`` times, and what they import."""
    commands = prepare(options)
    words = [make({"O": str(each.folder)}, *each.goals) for each in commands]
    rounds = [[processes.run(w) for w in words] for _ in range(options.repetitions)]
    found = []
    for command, taken in zip(commands, zip(*rounds, strict=True), strict=True):
        note = "imports torch" if imports_torch(command) else "without torch"
        goal, memory = (None, None) if options.quick else (command.goal, command.memory)
        seconds = [done.seconds for done in taken]
        found.append(metrics.of(SECTION, command.name, "s", seconds, goal, note))
        if command.memory:
            name, peaks = f"{command.name}, peak memory", [done.rss / 1e6 for done in taken]
            found.append(metrics.of(SECTION, name, "MB", peaks, memory, "all processes"))
    return found


def imports_torch(command: Command) -> bool:
    """Whether an interpreter that the command starts imports torch, by its own list."""
    words = make({"O": str(command.folder)}, *command.goals)
    done = processes.run(words, extra={"PYTHONPROFILEIMPORTTIME": "1"})
    return "torch" in imported(line for _, line in done.lines)


def imported(lines: Iterable[str]) -> set[str]:
    """The modules that ``python -X importtime`` tells of among ``lines``."""
    return {line.rpartition("|")[2].strip() for line in lines if line.count("|") == 2}
