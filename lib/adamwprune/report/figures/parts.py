"""What a figure is beside its panels: series, legends, and what is said of its runs."""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import Any, Self

from matplotlib.artist import Artist
from matplotlib.collections import PolyCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from adamwprune.base.wording import counted
from adamwprune.records.record import STALE, RunResult
from adamwprune.report import style
from adamwprune.report.groups import Group, percent, spread_note
from adamwprune.report.origins import Origins, Place

PRINT_PER_INCH = 15  # characters of small print
PRINT_HEIGHT = 0.13  # inches a line of it
NAMED = 6  # groups in a sentence
ONE_EVALUATION = "a curve needs two evaluations: more EPOCHS, or an EVALUATION_INTERVAL"
INTERVAL = "95% interval of the mean (Student's\N{NO-BREAK SPACE}t)"


@dataclass(frozen=True, eq=False)
class Series:
    """A group and how it looks wherever it appears in one figure."""

    group: Group
    label: str
    colour: str
    marker: Any
    dashes: Any

    @classmethod
    def of(cls, group: Group, label: str, colour: str) -> Self:
        """With the marker and the dashes of the group's method."""
        return cls(group, label, colour, *style.marker_and_dashes(group))

    @property
    def line(self) -> dict[str, Any]:
        """How matplotlib draws its curves."""
        look = {"color": self.colour, "linestyle": self.dashes, "marker": self.marker}
        return {**look, "label": self.label}

    @property
    def dot(self) -> dict[str, Any]:
        """How matplotlib draws one of its values, with whiskers."""
        return {**self.line, "linestyle": "none", "capsize": 2.5}


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure, the name of its file without an ending, and the runs it is drawn from."""

    name: str
    draw: Callable[[], Figure]
    records: tuple[RunResult, ...]

    @cached_property
    def figure(self) -> Figure:
        """Drawn when it is first asked for."""
        return self.draw()


@dataclass(frozen=True)
class NotDrawn:
    """A figure that there are no data for, and why: nothing is better than empty axes."""

    name: str
    why: str


def drawing(name: str, figure: Figure | Callable[[], Figure], groups: Iterable[Group]) -> Drawing:
    """Drawn from all completed runs of ``groups``.

    Who makes several figures gives functions: each is then drawn where, and if, it is wanted.
    """
    records = {record.run_id: record for group in groups for record in group.done}
    draw = (lambda: figure) if isinstance(figure, Figure) else figure
    return Drawing(name, draw, tuple(records.values()))


def has_course(groups: Iterable[Group]) -> bool:
    """Whether a completed run was evaluated twice or more: a curve needs two points."""
    return any(len(record.history) > 1 for group in groups for record in group.done)


def course(name: str, draw: Callable[[], Figure], groups: Sequence[Group]) -> Drawing | NotDrawn:
    """A figure that has nothing but curves over the epochs."""
    return drawing(name, draw, groups) if has_course(groups) else NotDrawn(name, ONE_EVALUATION)


def origins_of(groups: Iterable[Group]) -> Origins:
    """Of the completed runs of one figure."""
    return Origins.of(record for group in groups for record in group.done)


def flagged(series: Sequence[Series], groups: Iterable[Group] = ()) -> list[Series]:
    """With labels that tell runs of other code or another place from the rest of the figure.

    ``groups``: those of the figure, where it shows more than ``series``.
    """
    origins = origins_of([*(each.group for each in series), *groups])
    return [
        replace(each, label=origins.label(each.label, each.group.done)) if each.group.done else each
        for each in series
    ]


def any_done(groups: Iterable[Group]) -> bool:
    """Whether there is anything to draw."""
    return any(group.done for group in groups)


def absent_note(
    groups: Iterable[Group],
    lacking: Sequence[Group] = (),
    what: str = "",
    name: Callable[[Group], str] = attrgetter("label"),
) -> list[str]:
    """A sentence on the groups that are not drawn: missing, failed, or ``lacking`` ``what``."""
    by_reason: dict[str, list[Group]] = {}
    for group in groups:
        if not group.done:
            by_reason.setdefault(group.absence, []).append(group)
    if lacking:
        by_reason[f"no {what} in the records"] = list(lacking)
    found = [f"{_named(list(map(name, own)))} ({reason})" for reason, own in by_reason.items()]
    return [f"Not drawn: {'; '.join(found)}."] if found else []


def marks_note(groups: Iterable[Group], *, hollow: bool = False) -> list[str]:
    """A sentence for each mark that some of the groups have and others have not: it names them.

    ``hollow``: whether those that other code made are drawn so.
    """
    groups = [group for group in groups if group.done]
    lines = []
    for mark in origins_of(groups).marks:
        own = [group for group in groups if any(mark in run.marks for run in group.done)]
        if len(own) < len(groups):
            how = " (hollow)" if hollow and mark == STALE else ""
            lines.append(f"{mark.capitalize()}{how}: {_by_method(own)}.")
    return lines


def places_note(groups: Iterable[Group]) -> list[str]:
    """A sentence for each sign of another place that names the groups with runs there.

    For figures in which no label of a series or of a panel could carry the sign.
    """
    groups = [group for group in groups if group.done]
    lines = []
    for place, sign in origins_of(groups).signs.items():
        own = [group for group in groups if any(Place.of(run) == place for run in group.done)]
        everywhere = "some runs of each" if len(own) == len(groups) else _by_method(own)
        lines.append(f"{sign}: {everywhere}.")
    return lines


def _by_method(groups: Iterable[Group]) -> str:
    """All of them, short: ``adam dense; adam movement 50%, 70%``."""
    found: dict[str, list[str]] = {}
    for group in groups:
        name = f"{group.optimizer} {group.method}"
        found.setdefault(name, []).extend([] if group.is_dense else [percent(group.sparsity)])
    return "; ".join(f"{name} {', '.join(each)}".rstrip() for name, each in found.items())


def without_twins(
    groups: Iterable[Group], apart: Callable[[Group], object] = lambda group: None
) -> list[Group]:
    """Without the groups whose runs are the same in every epoch as those of an earlier one, of
    whichever seeds both have.

    AdamWPrune without pruning by state, for example, is AdamWSpam. ``apart``: what else must be
    equal. Groups without a completed run stay.
    """
    found: list[Group] = []
    for group in groups:
        if not any(_are_twins(group, each) and apart(group) == apart(each) for each in found):
            found.append(group)
    return found


def twins_of(group: Group, groups: Iterable[Group]) -> list[Group]:
    """The group itself, and of ``groups`` those that are the same in every epoch."""
    return [each for each in groups if each is group or _are_twins(each, group)]


def twins_note(groups: Iterable[Group]) -> list[str]:
    """A sentence on the groups that :func:`without_twins` leaves out."""
    groups = list(groups)
    alike: dict[str, list[str]] = {}
    for first in without_twins(groups):
        own = twins_of(first, groups)
        if len(own) > 1:
            names = " = ".join(dict.fromkeys(each.optimizer for each in own))
            kinds = dict.fromkeys(_kind(each) for each in own)
            if len(kinds) > 1 or " = " not in names:
                names, kinds = " = ".join(each.label for each in own), {"": None}
            alike.setdefault(names, []).extend(kinds)
    told = [f"{name} {', '.join(kinds)}".rstrip() for name, kinds in alike.items()]
    return [f"The same in every epoch, drawn once: {'; '.join(told)}."] if told else []


def _kind(group: Group) -> str:
    """``dense``, ``magnitude 50%``."""
    return group.label.removeprefix(f"{group.optimizer} ")


def _are_twins(one: Group, other: Group) -> bool:
    """Whether both have seeds in common, and of these the same course."""
    mine, theirs = _courses(one), _courses(other)
    common = mine.keys() & theirs.keys()
    return bool(common) and all(mine[seed] == theirs[seed] for seed in common)


def _courses(group: Group) -> dict[object, object]:
    """By seed what was measured in each epoch."""
    return {
        record.spec["SEED"]: [_measured(entry) for entry in record.history] for record in group.done
    }


def _measured(entry: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """Of an epoch, without what depends on the machine or on the recipe alone."""
    measured = ("train_", "test_", "sparsity")
    return tuple((name, value) for name, value in entry.items() if name.startswith(measured))


def _named(labels: Sequence[str]) -> str:
    """All of them; of many the first ones and a count."""
    if len(labels) <= NAMED:
        return ", ".join(labels)
    return f"{', '.join(labels[: NAMED - 1])} and {len(labels) - NAMED + 1} more"


def panel_title(tag: str, groups: Sequence[Group]) -> str:
    """The method, and which optimizer prunes by another one beside it."""
    if tag.startswith("state-"):
        return f"State ({tag.removeprefix('state-')})"
    title = style.TITLES.get(tag, tag.capitalize())
    others = [f"{g.optimizer}: {g.method}" for g in groups if g.method.split()[0] != tag]
    if tag == "dense" or not others:
        return title
    methods = {group.method for group in groups}
    if len(methods) == 1:
        return methods.pop().capitalize()
    return f"{title} ({', '.join(dict.fromkeys(others))})"


# -- around the panels -------------------------------------------------------


def count(group: Group) -> str:
    """``n = 3``, or ``n = 2 of 3`` where seeds lack."""
    total = len(group.specs)
    return f"n = {group.n}" if group.n == total else f"n = {group.n} of {total}"


def colour_legend(figure: Figure, optimizers: Sequence[str], *more: Artist) -> None:
    """One entry an optimizer, where methods have panels of their own; and ``more`` below them."""
    handles = [Patch(color=style.colour_of(n), label=n) for n in optimizers]
    key(figure, [*handles, *more], "optimizer")


def key(figure: FigureBase, handles: Sequence[Artist], title: str = "", **look: Any) -> None:
    """A legend to the right of all axes, or wherever ``look`` has it."""
    place: dict[str, Any] = {"loc": "outside right upper", "alignment": "left"}
    figure.legend(handles=handles, title=title or None, **(place | look))


def legend(figure: FigureBase, series: Sequence[Series], title: str = "", columns: int = 0) -> None:
    """A group without a number says so, seeds are counted.

    ``columns``: of entries above all axes; none is to the right of them.
    """
    above = {"loc": "outside upper left", "ncols": columns} if columns else {}
    several = any(len(each.group.specs) > 1 for each in series)
    handles: list[Artist] = []
    for each in series:
        if not each.group.done:
            handles.append(Patch(**style.ABSENT, label=f"{each.label}: {each.group.absence}"))
            continue
        label = f"{each.label}, {count(each.group)}" if several else each.label
        handles.append(Line2D([], [], **{**each.line, "label": label}))
    key(figure, handles, title, handlelength=3.4, **above)


def footer(
    figure: Figure,
    title: str,
    groups: Sequence[Group],
    *notes: str,
    scores: bool = True,
    seconds: bool = False,
) -> None:
    """Small print: what was run, how often, by which code, on what, from which commit.

    Of spread it explains what is drawn, so that it comes after all that.
    ``scores``: whether the figure shows what runs are judged by, so that noise must be named.
    ``seconds``: whether it shows times.
    """
    records = [record for group in groups for record in group.done]
    sentences = origins_of(groups).captions(seconds=seconds)
    if seconds:
        sentences += shared_note(records)
    spread = spread_note(groups, _spread(figure), noise=scores)
    told = [*notes, f"{title} · {spread}"]
    lines = [*_captions(figure, told), *_captions(figure, sentences)]
    figure.set_figheight(figure.get_figheight() + PRINT_HEIGHT * (len(lines) - len(told)))
    lines = [
        *lines,
        f"device: {devices(records)} · commit: {style.commits(records, digits=10)}",
    ]
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=7.5, color=style.FAINT)


def _spread(figure: Figure) -> str:
    """What the panels show of several runs: ``mean ± standard deviation; whiskers: 95% …``."""
    panels = figure.axes
    numbers = any("±" in text.get_text() for axes in panels for text in axes.texts)
    drawn = {
        "bands": any(isinstance(each, PolyCollection) for a in panels for each in a.collections),
        "whiskers": any(
            isinstance(each, ErrorbarContainer) and (each.has_xerr or each.has_yerr)
            for axes in panels
            for each in axes.containers
        ),
    }
    intervals = " and ".join(name for name, there in drawn.items() if there)
    told = ["mean ± standard deviation"] if numbers else ["means"] if intervals else []
    return "; ".join([*told, *([f"{intervals}: {INTERVAL}"] if intervals else [])])


def _captions(figure: Figure, sentences: Iterable[str]) -> list[str]:
    """Lines of small print that are no wider than the figure."""
    width = int(PRINT_PER_INCH * figure.get_figwidth())
    return [line for sentence in sentences for line in textwrap.wrap(sentence, width)]


def is_alone(record: RunResult) -> bool:
    """Whether nothing else of ours used the run's device or its cores, as its record says."""
    return record.environment.get("alone") is True


def shared_note(records: Sequence[RunResult]) -> list[str]:
    """A sentence on the runs whose times other work may have lengthened; none without any."""
    shared = sum(not is_alone(record) for record in records)
    if not shared:
        return []
    runs = counted(len(records), "run")
    return [f"Times of {shared} of {runs}: other work may have shared the machine."]


def devices(records: Iterable[RunResult]) -> str:
    """The kinds of device of the runs, each once: ``cpu (Some CPU @ 2 GHz)``."""
    names = (
        f"{record.environment['device'].split(':')[0]} ({record.environment['device_name']})"
        for record in records
    )
    return ", ".join(dict.fromkeys(names))
