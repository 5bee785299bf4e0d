"""How long runs take that had the machine to themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from adamwprune.records.record import RunResult
from adamwprune.report import style
from adamwprune.report.figures import panels, parts
from adamwprune.report.figures.parts import Drawing, NotDrawn
from adamwprune.report.groups import Group, Setting, Statistic
from adamwprune.report.origins import Place

NOT_ALONE = "other work may have shared the machine with each run; make measure takes their times"
PARTS = {"training": ("train",), "evaluation": ("evaluate",), "all else": ()}  # what seconds hold


def time_per_run(setting: Setting) -> Iterator[Drawing | NotDrawn]:
    """Seconds of every group of runs, by what they were spent on.

    Only of runs that had their device and cores to themselves (``environment["alone"]``), at the
    place where most of them were: a row without one says why it is absent.
    """
    groups = setting.groups
    alone = [replace(group, done=tuple(filter(parts.is_alone, group.done))) for group in groups]
    if parts.any_done(alone):
        shown = _at_one_place(alone)
        draw = partial(_rows, setting, alone, shown)
        yield parts.drawing("time_per_run", draw, shown)
    elif parts.any_done(groups):
        yield NotDrawn("time_per_run", NOT_ALONE)


def _rows(setting: Setting, alone: Sequence[Group], shown: Sequence[Group]) -> Figure:
    figure = style.new_figure(10.5, 2.2 + 0.27 * len(shown), "Time per run")
    axes = figure.subplots()
    origins = parts.origins_of(shown)
    panels.category_axis(axes, [origins.label(group.label, group.done) for group in shown])
    longest = 0.0
    for row, known in enumerate(setting.groups):
        if shown[row].done:
            longest = max(longest, _bar(axes, row, shown[row]))
        else:
            why = "elsewhere" if alone[row].done else "that shared the machine"
            panels.mark_absent(axes, row, known.absence or f"only runs {why}")
    axes.set_xlim(0, 1.25 * longest)
    axes.set_xlabel("seconds of wall clock a run")
    # In grey: each bar has its optimizer's colour.
    patches = [Patch(label=part, **look) for part, look in _looks("#444444").items()]
    parts.key(figure, patches, "spent on")
    parts.footer(figure, setting.title, shown, scores=False, seconds=True)
    return figure


def _at_one_place(groups: Sequence[Group]) -> list[Group]:
    """Without the runs that were not where most were: a time says nothing beside another's."""
    most = parts.origins_of(groups).common
    return [
        replace(group, done=tuple(run for run in group.done if Place.of(run) == most))
        for group in groups
    ]


def seconds(record: RunResult) -> dict[str, float]:
    """Of one run by what they were spent on; they add up to its total."""
    found = {
        name: sum(record.seconds.get(part, 0.0) for part in own) for name, own in PARTS.items()
    }
    return {**found, "all else": record.seconds["total"] - sum(found.values())}


def _bar(axes: Axes, row: int, group: Group) -> float:
    """A stacked bar of means, the interval of the whole and its number; where it ends."""
    found = [seconds(record) for record in group.done]
    end = 0.0
    for part, look in _looks(style.colour_of(group.optimizer)).items():
        size = Statistic.of([each[part] for each in found]).mean
        axes.barh(row, size, left=end, height=0.62, label=part, **look)
        end += size
    total = group.statistic(lambda record: record.seconds["total"])
    half = panels.half_interval(total)
    if half is not None:
        axes.errorbar(end, row, xerr=half, color="#888888", capsize=2.5, linestyle="none")
    reach = end + (half or 0.0)
    panels.write_beside(axes, row, reach, f"{total.text(1)} s  {parts.count(group)}")
    return reach


def _looks(colour: str) -> dict[str, dict[str, Any]]:
    """A shade for each part of the seconds."""
    ranks = zip(PARTS, reversed(range(len(PARTS))), strict=True)
    return {part: {"facecolor": style.shade(colour, rank, len(PARTS))} for part, rank in ranks}
