"""From a configuration to the list of runs it asks for, with a reason for each cell it drops.

Every family's members that are on, and every list of several values, are axes. One point of
their product is one cell: one member a family, one value a list, and Kconfig evaluated anew
there. A cell that ``depends on`` or an ``EXCLUDE_`` symbol forbids is dropped with its reason, and
so is one whose values contradict each other where others of the same members are legal; cells that
resolve to the same spec are one run (a dense run has no sparsity).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import kconfiglib

from adamwprune.base.errors import ConfigError, UserError
from adamwprune.base.files import expanded
from adamwprune.config.options import Value
from adamwprune.config.tree import CELL, PRESET, Tree
from adamwprune.plan import feasible, measured
from adamwprune.plan.lineage import NEUTRAL
from adamwprune.plan.spec import COMPONENTS, RunSpec

MEASURED = "DATASET_MEASURED"  # a bool: the dataset's files say what Kconfig cannot
Point = Mapping[str, str]  # axis -> the member or value chosen there


def data_dir(tree: Tree) -> Path:
    """Where the configuration's datasets are."""
    return expanded(str(tree.operational()["DATA_DIR"])).absolute()


@dataclass(frozen=True)
class Cell:
    """One run, the first point of the matrix that asks for it, and what resolved differently."""

    spec: RunSpec
    point: Point
    notes: tuple[str, ...] = ()
    presets: Mapping[str, str] = field(default_factory=dict)  # option -> the family that decides it


@dataclass(frozen=True)
class Dropped:
    """A point of the matrix that is no legal run, and why."""

    point: Point
    reason: str

    @property
    def label(self) -> str:
        """The point on one line, without its task, which follows from the data."""
        return " ".join(value for axis, value in self.point.items() if axis != "TASK")


@dataclass(frozen=True)
class Matrix:
    """The runs a configuration asks for, in the order of the menu, and the dropped cells."""

    cells: tuple[Cell, ...]
    dropped: tuple[Dropped, ...]

    @property
    def specs(self) -> list[RunSpec]:
        """The runs' specs."""
        return [cell.spec for cell in self.cells]

    def varying(self) -> list[str]:
        """Families and lists in which the runs differ: what a user can set to fewer."""
        axes = self.cells[0].point
        return [name for name in axes if len({cell.point[name] for cell in self.cells}) > 1]

    @property
    def notes(self) -> list[str]:
        """What resolved to something else than its name, once each."""
        return list(dict.fromkeys(note for cell in self.cells for note in cell.notes))

    @property
    def deciders(self) -> dict[str, Mapping[str, str]]:
        """Run id -> option that is left to a preset -> the family whose member decides it."""
        return {cell.spec.run_id: cell.presets for cell in self.cells}

    @property
    def presets(self) -> dict[str, dict[str, list[Value]]]:
        """What presets resolved to: member -> option -> its values over the runs, once each.

        Not a value that means that the option is not used.
        """
        found: dict[str, dict[str, list[Value]]] = {}
        families = dict.fromkeys(family for cell in self.cells for family in cell.presets.values())
        for family, cell in itertools.product(families, self.cells):
            member = str(cell.spec[family]) if family else "every run"
            for name in cell.presets:
                says = name in cell.spec and cell.spec[name] != NEUTRAL.get(name)
                if cell.presets[name] == family and says:
                    values = found.setdefault(member, {}).setdefault(name, [])
                    if cell.spec[name] not in values:
                        values.append(cell.spec[name])
        return found


def points(tree: Tree) -> int:
    """The points of the configuration's matrix: at least as many as it has cells."""
    axes = _axes(tree)
    tasks = _most_of_a_kind(tree, axes.pop("TASK"))
    return tasks * math.prod(map(len, axes.values()))


def _most_of_a_kind(tree: Tree, tasks: Sequence[str]) -> int:
    """Of these tasks the most that take the same kind of data: a dataset goes with no others."""
    taken: Counter[str] = Counter()
    for value, condition in tree.symbols["TASK_TAKES"].defaults:
        if kconfiglib.expr_value(condition):
            taken.update(value.str_value.split())
    return max(1, *taken.values()) if taken else len(tasks)


def expand(tree: Tree, outline: bool = False) -> Matrix:
    """All legal cells of the configuration that ``tree`` holds.

    With ``outline``, of each list that decides nothing but itself (seeds) the first value only.
    Raises :class:`ConfigError` if a family is empty, if no legal cell is left, or if in each cell
    of some members the values contradict each other in a way that Kconfig cannot express.
    """
    axes = _axes(tree)
    plain = [name for name in axes if name in tree.unread]
    if outline:
        axes = {name: values[:1] if name in plain else values for name, values in axes.items()}
    checked = [name for name in plain if name != "SEED"]  # a seed contradicts nothing
    cells: dict[RunSpec, Cell] = {}
    problems: dict[tuple[str, ...], list[str]] = {}
    files: dict[tuple[str, ...], _Files] = {}
    wrong: dict[RunSpec, list[str]] = {}
    dropped: list[Dropped] = []
    with _restored(tree, axes):
        places: dict[tuple[str, ...], _Place] = {}
        parsed = {name: _parsed(tree, name, axes[name]) for name in plain}
        for values in itertools.product(*axes.values()):
            point = dict(zip(axes, values, strict=True))
            # Kconfig is evaluated once for all values of the lists that it does not read.
            key = tuple([value for name, value in point.items() if name not in plain])
            if key not in places:
                _move_to(tree, point, axes)
                places[key] = _Place.of(tree, point)
            place = places[key]
            if place.illegal:
                dropped.append(Dropped(point, place.illegal))
                continue
            own = {name: parsed[name][point[name]] for name in plain if name in place.values}
            settings = {**place.values, **own}
            key += tuple([point[name] for name in checked])
            if place.is_measured and key not in files:
                files[key] = _measured(tree, settings)
            told = files.get(key, _NO_FILES)
            spec = RunSpec({**settings, **told.values})
            if spec in cells:
                notes = cells[spec].notes + told.notes
                cells[spec] = replace(cells[spec], notes=notes) if told.notes else cells[spec]
                continue
            cells[spec] = Cell(spec, point, place.notes + told.notes, place.presets)
            if key not in problems:
                unfit = [told.unfit] if told.unfit else []
                problems[key] = unfit or spec.problems() or feasible.problems(spec)
            if problems[key]:
                wrong[spec] = problems[key]
    if not cells:
        left = _distinct(dropped, ())
        raise ConfigError([f"no legal run is left: {each.label}: {each.reason}" for each in left])
    if wrong:
        dropped += _contradictions(cells, wrong)
    legal = tuple(cell for spec, cell in cells.items() if spec not in wrong)
    return Matrix(legal, _distinct(dropped, legal))


@dataclass(frozen=True)
class _Place:
    """What Kconfig makes of a point of the matrix."""

    illegal: str  # why it cannot be run, or an empty text
    values: Mapping[str, Value] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    presets: Mapping[str, str] = field(default_factory=dict)
    is_measured: bool = False  # by the dataset's files

    @classmethod
    def of(cls, tree: Tree, point: Point) -> _Place:
        """The place that ``tree`` is at."""
        reason = _illegal(tree, point)
        if reason:
            return cls(reason)
        notes = tuple(_notes(tree, point))
        return cls("", tree.cell_values(), notes, tree.presets(), tree.is_on(MEASURED))


@dataclass(frozen=True)
class _Files:
    """What a dataset's files say to the values of a point."""

    values: Mapping[str, Value] = field(default_factory=dict)  # in place of those
    unfit: str = ""  # why there can be no such run
    notes: tuple[str, ...] = ()


_NO_FILES = _Files()


def _measured(tree: Tree, values: Mapping[str, Value]) -> _Files:
    try:
        found, unused = measured.measured(values, data_dir(tree))
    except UserError as error:
        return _Files(unfit=str(error))
    for name in unused:
        if name not in tree.options or tree.declared(name) == PRESET:
            dataset = f"dataset {values['DATASET']}"
            raise UserError(f"{dataset}: {name} is no option that its files can leave unused")
    # As if they were not set: what does not matter makes no other run.
    defaults = {name: tree.default(name) for name in unused if name in values}
    notes = [
        f"{name}={values[name]} means nothing for the files of {values['DATASET']}"
        for name, default in defaults.items()
        if values[name] != default
    ]
    return _Files({**defaults, **found}, notes=tuple(notes))


def _parsed(tree: Tree, name: str, words: list[str]) -> dict[str, Value]:
    """What each word of a list means."""
    return dict(zip(words, tree.options[name].type.parse(" ".join(words)), strict=True))


def _contradictions(
    cells: Mapping[RunSpec, Cell], wrong: Mapping[RunSpec, list[str]]
) -> Iterator[Dropped]:
    """The cells that are wrong, each with its problems and the values of lists that make it so.

    Raises :class:`ConfigError` where no other cell of the same members is legal: to drop all of
    them would be to ignore what the user asked for.
    """
    legal: dict[tuple[str, ...], list[Point]] = {}
    for spec, cell in cells.items():
        if spec not in wrong:
            legal.setdefault(_members(cell), []).append(cell.point)
    alike: dict[tuple[str, tuple[str, ...]], list[Cell]] = {}
    hopeless: dict[str, list[RunSpec]] = {}
    for spec, problems in wrong.items():
        for problem in problems:
            members = _members(cells[spec])
            alike.setdefault((problem, members), []).append(cells[spec])
            if members not in legal:
                hopeless.setdefault(problem, []).append(spec)
    if hopeless:
        raise ConfigError(
            [
                problem if len(some) == len(cells) else f"{problem} ({_first(some)})"
                for problem, some in hopeless.items()
            ]
        )
    for (problem, members), some in alike.items():
        lists = _telling([cell.point for cell in some], legal[members])
        for cell in some:
            values = [f"{name}={cell.point[name]}" for name in lists]
            unsaid = " ".join(each for each in values if each not in problem)
            yield Dropped(cell.point, f"{unsaid}: {problem}" if unsaid else problem)


def _first(specs: Sequence[RunSpec]) -> str:
    """``lenet5-mnist-adam-none-s0 and 3 more``."""
    return specs[0].slug + (f" and {len(specs) - 1} more" if specs[1:] else "")


def _members(cell: Cell) -> tuple[str, ...]:
    return tuple(cell.point[axis] for axis in COMPONENTS)


def _telling(some: Sequence[Point], others: Sequence[Point]) -> list[str]:
    """The lists by whose values some points differ from all others; where no list does so alone,
    all in which points differ.
    """
    lists = [name for name in some[0] if name not in (*COMPONENTS, "SEED")]
    values = {name: {each[name] for each in some} for name in lists}
    theirs = {name: {each[name] for each in others} for name in lists}
    apart = [name for name in lists if values[name].isdisjoint(theirs[name])]
    return apart or [name for name in lists if len(values[name] | theirs[name]) > 1]


def configs_of(tree: Tree, cell: Cell) -> tuple[str, str]:
    """The minimal and the full ``.config`` of one cell, as texts."""
    # Lists are not split for each of perhaps ten thousand cells.
    axes = {name: tree.selected(name) if name in tree.families else [] for name in cell.point}
    with _restored(tree, axes):
        _move_to(tree, cell.point, axes)
        return tree.minimal_config(), tree.config()


def _axes(tree: Tree) -> dict[str, list[str]]:
    """Axis -> the members or values that are on; a list of one value is none."""
    axes: dict[str, list[str]] = {}
    empty: list[str] = []
    for name, family in tree.families.items():
        if family.exclusive:
            continue
        axes[name] = tree.selected(name)
        if not axes[name]:
            empty.append(
                f"no member of {name} is on; switch one on, for example "
                f"{name}={next(iter(family.members))}"
            )
    if empty:
        raise ConfigError(empty)
    for name, option in tree.options.items():
        if option.type.is_list and tree.is_visible(name):
            words = option.type.split(tree.text(name))
            if words != [tree.text(name)]:
                axes[name] = list(dict.fromkeys(words))
    return axes


def _move_to(tree: Tree, point: Point, axes: Mapping[str, list[str]]) -> None:
    """Make ``point`` the only member or value of each axis."""
    for name, value in point.items():
        if name not in tree.families:
            tree.set(name, value)
            continue
        for member in axes[name]:
            tree.set(tree.families[name].members[member], "y" if member == value else "n")


@contextmanager
def _restored(tree: Tree, axes: Mapping[str, list[str]]) -> Iterator[None]:
    """Give the axes their values back afterwards, set or not set as they were."""
    names = [
        symbol
        for name in axes
        for symbol in (tree.families[name].members.values() if name in tree.families else [name])
    ]
    saved = {name: tree.symbols[name].user_value for name in names}
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                tree.symbols[name].unset_value()
            else:
                tree.symbols[name].set_value(value)


def _illegal(tree: Tree, point: Point) -> str:
    """Why the point the tree is at cannot be run, or an empty text."""
    for name, value in point.items():
        if name in tree.families:
            symbol = tree.families[name].members[value]
            if not tree.is_on(symbol):
                return f"{symbol} {tree.unmet(symbol)}"
    return tree.exclusion() or _misfit(tree, point)


def _misfit(tree: Tree, point: Point) -> str:
    """Where the model or the task does not take what the dataset gives: which, or an empty text."""
    gives = tree.text("DATASET_GIVES")
    for family in ("MODEL", "TASK"):
        takes = tree.text(f"{family}_TAKES")
        if gives not in takes.split():
            return (
                f"{point[family]} takes {takes or 'nothing that it declares'}, "
                f"{point['DATASET']} gives {gives or 'nothing that it declares'}"
            )
    return ""


def _notes(tree: Tree, point: Point) -> Iterator[str]:
    """Where a member stands for another one under the rest of the cell."""
    for name, value in point.items():
        if name in tree.families and tree.text(CELL + name) != value:
            resolved = tree.text(CELL + name)
            yield f"under {point['OPTIMIZER']}, {name}={value} means {resolved}"


def _is_about_the_task(each: Dropped) -> bool:
    return each.reason.startswith(f"{each.point['TASK']} takes ")


def _distinct(dropped: list[Dropped], cells: Iterable[Cell]) -> tuple[Dropped, ...]:
    """One entry for points of the same components and reason, whatever their list values.

    Nothing is said of a task that does not fit the data where another one that is on does.
    """
    axes = [axis for axis in COMPONENTS if axis != "TASK"]
    legal = {tuple(cell.point[axis] for axis in axes) for cell in cells}
    first: dict[tuple[str, str], Dropped] = {}
    for each in dropped:
        components = {axis: each.point[axis] for axis in axes}
        if tuple(components.values()) not in legal or not _is_about_the_task(each):
            short = replace(each, point=components)
            first.setdefault((short.label, short.reason), short)
    return tuple(first.values())
