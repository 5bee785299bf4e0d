"""How long runs take: only of runs that had the machine to themselves, or with a mark."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from adamwprune.records.record import RunResult
from adamwprune.report import style
from adamwprune.report.figures import panels, parts
from adamwprune.report.figures.parts import Drawing
from adamwprune.report.groups import Group, Setting, Statistic
from adamwprune.report.origins import Place

SHARED = "timings from runs that shared the machine"
PARTS = {"training": ("train",), "evaluation": ("evaluate",), "all else": ()}  # what seconds hold


def time_per_run(setting: Setting) -> Iterator[Drawing]:
    """Seconds of every group of runs, by what they were spent on.

    Of runs that had their device and cores to themselves (``environment["alone"]``); where there
    is none, of those that shared them, and the title and hatched bars say that their times are not
    comparable. Of either only those at the place where most of them were: a row without one says
    why it is absent.
    """
    groups = setting.groups
    if not parts.any_done(groups):
        return
    measured = [_alone(group) for group in groups]
    shared = not parts.any_done(measured)
    shown = _at_one_place(list(groups) if shared else measured)
    title = "Time per run"
    if shared:
        title += f" ({SHARED})"
    figure = style.new_figure(10.5, 2.2 + 0.27 * len(groups), title)
    axes = figure.subplots()
    origins = parts.origins_of(shown)
    labels = [origins.label(group.label, group.done) for group in shown]
    panels.category_axis(axes, labels)
    longest = 0.0
    for row, (group, known) in enumerate(zip(shown, groups, strict=True)):
        if group.done:
            longest = max(longest, _bar(axes, row, group, shared))
        else:
            why = _why_absent(known, shared) if known.done else group.absence
            panels.mark_absent(axes, row, why)
    axes.set_xlim(0, 1.25 * longest)
    axes.set_xlabel("seconds of wall clock a run")
    # In grey: each bar has its optimizer's colour.
    patches = [Patch(label=part, **look) for part, look in _looks("#444444", shared).items()]
    parts.key(figure, patches, "spent on")
    parts.footer(figure, setting.title, shown, scores=False, seconds=True)
    yield parts.drawing("time_per_run", figure, shown)


def _why_absent(group: Group, shared: bool) -> str:
    """Of a group with runs of which none is shown; ``shared``: where such runs are."""
    here = shared or _alone(group).done
    return "only runs elsewhere" if here else "only runs that shared the machine"


def _at_one_place(groups: Sequence[Group]) -> list[Group]:
    """Without the runs that were not where most were: a time says nothing beside another's."""
    most = parts.origins_of(groups).common
    return [
        replace(group, done=tuple(run for run in group.done if Place.of(run) == most))
        for group in groups
    ]


def _alone(group: Group) -> Group:
    return replace(group, done=tuple(filter(parts.is_alone, group.done)))


def seconds(record: RunResult) -> dict[str, float]:
    """Of one run by what they were spent on; they add up to its total."""
    found = {
        name: sum(record.seconds.get(part, 0.0) for part in own) for name, own in PARTS.items()
    }
    return {**found, "all else": record.seconds["total"] - sum(found.values())}


def _bar(axes: Axes, row: int, group: Group, shared: bool) -> float:
    """A stacked bar of means, the interval of the whole and its number; where it ends."""
    found = [seconds(record) for record in group.done]
    end = 0.0
    for part, look in _looks(style.colour_of(group.optimizer), shared).items():
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


def _looks(colour: str, shared: bool) -> dict[str, dict[str, Any]]:
    """A shade for each part of the seconds."""
    hatch = {"hatch": "////", "edgecolor": "white"} if shared else {}
    ranks = zip(PARTS, reversed(range(len(PARTS))), strict=True)
    shades = {part: style.shade(colour, rank, len(PARTS)) for part, rank in ranks}
    return {part: {"facecolor": shade, **hatch} for part, shade in shades.items()}
