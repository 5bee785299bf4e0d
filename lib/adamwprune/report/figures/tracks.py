"""A pruning track as a figure: the score against the weights and multiply-adds that are left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from adamwprune.records.record import RunResult
from adamwprune.report import style
from adamwprune.report.figures import FORMATS, panels, parts, write
from adamwprune.report.figures.operations import is_counted, speed_up
from adamwprune.report.figures.sparsity import DOTTED, focus, sparsity_axis
from adamwprune.report.groups import Group, percent
from adamwprune.report.track import Arm, Track

CONTROL: dict[str, Any] = {"color": "#8a8a8a", "linewidth": 1.2}
MARKERS = "osD^vPXphd<>"


def draw(track: Track, folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write ``track_NAME`` and what it plots into ``folder``; the files written."""
    with style.sheet():
        counted = [arm for arm in track.arms if _is_counted(arm)] if is_counted(track.dense) else []
        figure = style.new_figure(11.5, 5.0, f"Pruning track: {track.title.split(',')[0]}")
        left, *right = figure.subplots(1, 2 if counted else 1, sharey=True, squeeze=False)[0]
        looks, dense = _looks(track.arms), track.dense.done[0]
        _panel(left, track, track.arms, looks, lambda sparsity, group: 100 * sparsity)
        sparsity_axis(left, [c.group for arm in track.arms for c in arm.cells.values()])
        left.set_title("Against the target sparsity")
        for axes in right:
            _panel(axes, track, counted, looks, lambda sparsity, group: speed_up(group, dense))
            panels.log_axis(axes, vertical=False)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}×")
            axes.set_xlabel("theoretical speed-up: multiply-adds, dense over left (log scale)")
            axes.set_title("Against multiply-adds")
        near = focus(track.groups)
        if near:
            left.set_ylim(*near)
        panels.metric_axis(left, dense.headline, "test")
        origins = parts.origins_of(track.groups)
        handles = [
            Line2D([], [], label=origins.label(arm.label, _records(arm)), **looks[arm.label])
            for arm in track.arms
        ]
        mean = Line2D([], [], color=style.INK, **DOTTED, label="dense, mean")
        figure.legend(handles=[mean, *handles], loc="outside right center")
        at = " ".join(map(percent, track.sparsities))
        notes = ["Lines that leave the axis go on in the track's table."] if near else []
        parts.footer(figure, f"{track.title}; {at}", track.groups, *notes)
        name = track.name.replace("-", "_")
        return write(parts.drawing(name, figure, track.groups), folder / name, formats, data=True)


def _looks(arms: Sequence[Arm]) -> dict[str, dict[str, Any]]:
    """A colour and a marker for each arm; controls are grey."""
    methods = [arm for arm in arms if not arm.is_control]
    colours = iter(style.distinct(len(methods)))
    looks = {}
    for arm, marker in zip(arms, MARKERS * (1 + len(arms) // len(MARKERS)), strict=False):
        look = CONTROL if arm.is_control else {"color": next(colours)}
        looks[arm.label] = {**look, "marker": marker}
    return looks


def _records(arm: Arm) -> tuple[RunResult, ...]:
    return tuple(record for cell in arm.cells.values() for record in cell.group.done)


def _is_counted(arm: Arm) -> bool:
    return all(is_counted(cell.group) for cell in arm.cells.values())


def _panel(
    axes: Axes,
    track: Track,
    arms: Sequence[Arm],
    looks: dict[str, dict[str, Any]],
    place: Callable[[float, Group], float],
) -> None:
    """Means with their 95% intervals, a line an arm. ``place``: of a cell on the axis below, by its
    sparsity and its group.
    """
    axes.axhline(track.dense.score.mean, color=style.INK, **DOTTED)
    for arm in arms:
        groups = [cell.group for cell in arm.cells.values()]
        at = [place(sparsity, cell.group) for sparsity, cell in arm.cells.items()]
        means = [group.score.mean for group in groups]
        halves = [panels.half_interval(group.score) or 0.0 for group in groups]
        dashes = (0, (4, 1.5)) if arm.is_control else "-"
        axes.errorbar(at, means, yerr=halves, linestyle=dashes, elinewidth=0.9, **looks[arm.label])
