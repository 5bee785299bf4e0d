"""Scores along the axes of a sweep: curves over one, a map over two, and courses by value."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Self

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from adamwprune.plan.spec import IN_STEPS
from adamwprune.records.record import RunResult
from adamwprune.report import style
from adamwprune.report.figures import panels, parts, scales, sparsity
from adamwprune.report.figures.parts import Drawing, NotDrawn, Series
from adamwprune.report.groups import (
    Group,
    axis_name,
    held_out,
    judged_by,
    score_digits,
    value_text,
)
from adamwprune.report.sweeps import Sweep, is_numeric, place_text

MOST = 12  # panels that a page holds
PANEL = (3.6, 3.0)  # inches, beside others
SPREADS = 8  # largest over smallest value from which on an axis is logarithmic
_TOO_MANY = "{} panels are too many for a page; report.html shows all axes side by side"


def _name(axis: str) -> str:
    """As a figure's axis is named: ``learning rate`` for ``LR``."""
    return re.sub(r"^lr\b", "learning rate", axis_name(axis))


@dataclass(frozen=True, eq=False)
class _Layout:
    """Which axis lies below, which one colours tell apart, and which ones have panels."""

    sweep: Sweep
    along: str
    coloured: str  # empty where colours are optimizers
    facets: tuple[str, ...]

    @classmethod
    def of(cls, sweep: Sweep) -> Self:
        """The longest axis of numbers lies below; where there is none, the longest."""
        numeric = [axis for axis in sweep.axes if is_numeric(sweep.ticks(axis))]
        along = max(numeric or sweep.axes, key=lambda axis: len(sweep.ticks(axis)))
        rest = [axis for axis in sweep.axes if axis != along]
        coloured = rest.pop(0) if rest and len(sweep.cells) == 1 else ""
        return cls(sweep, along, coloured, tuple(rest))

    @cached_property
    def panels(self) -> dict[str, list[Group]]:
        """Title → the groups there."""
        return _by_place(self.sweep, self.facets)

    def lines(self, groups: Sequence[Group]) -> list[tuple[Series, list[Group]]]:
        """What is joined by a line, in the order of the values below."""
        found: dict[tuple[str, str], list[Group]] = {}
        for group in groups:
            colour = self.sweep.texts(group)[self.coloured] if self.coloured else ""
            found.setdefault((group.label, colour), []).append(group)
        return [(self.look[key], own) for key, own in found.items()]

    @cached_property
    def look(self) -> dict[tuple[str, str], Series]:
        """Of each line, the same in every panel."""
        if self.coloured:
            ticks = self.sweep.ticks(self.coloured)
            group = self.sweep.groups[0]
            colours = value_colours(ticks)
            name = _name(self.coloured)
            return {
                (group.label, value_text(tick)): Series.of(
                    group, f"{name} {value_text(tick)}", colour
                )
                for tick, colour in zip(ticks, colours, strict=True)
            }
        firsts = [cell[0] for cell in self.sweep.cells]
        return {(group.label, ""): _cell_series(group, firsts) for group in firsts}

    def runs(self, series: Series) -> list[RunResult]:
        """Of a line, in all panels."""
        found = (line for groups in self.panels.values() for line in self.lines(groups))
        return [run for each, own in found if each is series for group in own for run in group.done]

    def place(self, group: Group) -> float:
        """Where a group lies below: its number, or the place of its word."""
        ticks, value = self.sweep.ticks(self.along), self.sweep.values(group)[self.along]
        return float(value) if is_numeric(ticks) else ticks.index(value)  # type: ignore[arg-type]


def _cell_series(group: Group, cells: Sequence[Group]) -> Series:
    """The optimizer's colour, the method's line; lighter for lower targets."""
    alike = [(g.optimizer, g.method) for g in cells]
    own = [g for g, key in zip(cells, alike, strict=True) if key == (group.optimizer, group.method)]
    colour = style.shade(style.colour_of(group.optimizer), own.index(group), len(own))
    return Series.of(group, group.label, colour)


def value_colours(ticks: Sequence[object]) -> list[str]:
    """Light to dark along an axis of numbers; apart from each other for words."""
    if not is_numeric(ticks):
        return style.distinct(len(ticks))
    ramp, last = matplotlib.colormaps["viridis"], max(1, len(ticks) - 1)
    return [to_hex(ramp(0.82 - 0.8 * rank / last)) for rank in range(len(ticks))]


def _by_place(sweep: Sweep, axes: Sequence[str]) -> dict[str, list[Group]]:
    """The groups of each combination of these axes' values, by its name."""
    found: dict[str, list[Group]] = {}
    for group in sweep.groups:
        texts = sweep.texts(group)
        found.setdefault(place_text({name: texts[name] for name in axes}), []).append(group)
    return found


def _panels_beside(sweep: Sweep, shown: Sequence[str]) -> dict[str, list[Group]]:
    """The groups that have the ``shown`` axes, by optimizer, method, target and all other axes."""
    others = [axis for axis in sweep.axes if axis not in shown]
    found: dict[str, list[Group]] = {}
    for place, groups in _by_place(sweep, others).items():
        for group in groups:
            if all(axis in group.spec for axis in shown):
                title = ", ".join(filter(None, [group.label, place]))
                found.setdefault(title, []).append(group)
    return found


# -- curves over one axis ------------------------------------------------------


def along_axis(sweep: Sweep) -> Iterator[Drawing | NotDrawn]:
    """``sweep``: the score over one axis; the others are colours and panels."""
    if not sweep.axes or not parts.any_done(sweep.groups):
        return
    layout = _Layout.of(sweep)
    if len(layout.panels) > MOST:
        yield NotDrawn("sweep", _TOO_MANY.format(len(layout.panels)))
        return
    yield parts.drawing("sweep", partial(_curves, layout), sweep.groups)


def _curves(layout: _Layout) -> Figure:
    sweep = layout.sweep
    metric, measured_on = judged_by(sweep.groups), held_out(sweep.groups)
    heading = f"{measured_on.capitalize()} {metric.label} against {_name(layout.along)}"
    size = PANEL if len(layout.panels) > 1 else (4.6, 3.4)
    figure, grid = _grid(heading, len(layout.panels), size)
    alike = sweep.cells[0][0].label if layout.coloured else ""  # what no line is named after
    looks = list(layout.look.values())
    for axes, (name, groups) in zip(grid.flat, layout.panels.items(), strict=False):
        for series, own in layout.lines(groups):
            done = [group for group in own if group.done and layout.along in group.spec]
            _level_lines(axes, series, [g for g in own if layout.along not in g.spec])
            beside = looks.index(series) - (len(looks) - 1) / 2
            sparsity.shift_aside(axes, _line(axes, layout, series, done), sparsity.BESIDE * beside)
        _axis_below(axes, sweep, layout.along)
        axes.set_title(", ".join(filter(None, [alike, name])))
    scales.name_shared(grid, metric, measured_on)
    parts.legend(figure, [_spread_over(each, layout) for each in looks])
    parts.footer(figure, sweep.title, sweep.groups, *_absent(sweep))
    return figure


def _level_lines(axes: Axes, series: Series, groups: Sequence[Group]) -> None:
    """Groups that do not have the axis, to hold the others against."""
    look = {**series.line, "linestyle": series.dashes, "marker": ""}
    for group in groups:
        if group.done:
            axes.axhline(group.score.mean, **look)


def _absent(sweep: Sweep) -> list[str]:
    """A sentence on the groups without a run that is done, each with its place."""

    def name(group: Group) -> str:
        return ", ".join(filter(None, [group.label, place_text(sweep.texts(group))]))

    return parts.absent_note(sweep.groups, name=name)


def _spread_over(series: Series, layout: _Layout) -> Series:
    """For the legend: a line is of several groups, and there where one of them is."""
    own = next(cell for cell in layout.sweep.cells if series.group in cell)
    group = next((group for group in own if group.done), series.group)
    label = _signed(series.label, layout.runs(series), layout.sweep)
    return replace(series, group=group, label=label)


def _signed(label: str, runs: Sequence[RunResult], sweep: Sweep) -> str:
    """With what sets these runs apart from the others of the figure, which its foot explains."""
    return parts.origins_of(sweep.groups).label(label, runs)


def _line(axes: Axes, layout: _Layout, series: Series, groups: list[Group]) -> list[Any]:
    """What is drawn of it."""
    at = [layout.place(group) for group in groups]
    means = [group.score.mean for group in groups]
    joined = is_numeric(layout.sweep.ticks(layout.along))
    look = {**series.line, "linestyle": series.dashes if joined else "none"}
    drawn: list[Any] = axes.plot(at, means, **look)
    for x, group in zip(at, groups, strict=True):
        half = panels.half_interval(group.score)
        if half is not None:
            bars = axes.errorbar(x, group.score.mean, yerr=half, elinewidth=0.9, **series.dot)
            line, caps, whiskers = bars.lines
            drawn += [line, *caps, *whiskers]
    return drawn


def _axis_below(axes: Axes, sweep: Sweep, axis: str) -> None:
    ticks = sweep.ticks(axis)
    if is_numeric(ticks):
        numbers = [float(tick) for tick in ticks]  # type: ignore[arg-type]
        if _is_log(numbers):
            axes.set_xscale("log")
        axes.set_xticks(_legible(numbers), [f"{each:g}" for each in _legible(numbers)])
    else:
        axes.set_xticks(range(len(ticks)), [value_text(tick) for tick in ticks])
        axes.margins(x=0.15)
    axes.minorticks_off()
    scale = "log scale" if axes.get_xscale() == "log" else ""
    small_print = "; ".join(filter(None, [_unit(axis, ticks), scale]))
    axes.set_xlabel(f"{_name(axis)} ({small_print})" if small_print else _name(axis))


def _unit(axis: str, ticks: Sequence[object]) -> str:
    if axis not in IN_STEPS:
        return ""
    if not is_numeric(ticks):
        return "steps; below 1: of the training"
    return "of the training" if any(isinstance(tick, float) for tick in ticks) else "steps"


def _is_log(numbers: Sequence[float]) -> bool:
    return min(numbers) > 0 and max(numbers) >= SPREADS * min(numbers)


def _legible(numbers: Sequence[float]) -> list[float]:
    """All values of an axis, or of many every other one, every third one …, and the last."""
    step = -(-len(numbers) // 8)
    return [*numbers[:-1:step], numbers[-1]]


def _grid(heading: str, count: int, size: tuple[float, float]) -> tuple[Figure, Any]:
    """Panels that share the axis to their left, in rows that are about as many as columns."""
    columns = min(style.ABREAST, math.ceil(math.sqrt(count))) if count > 2 else count
    rows = -(-count // columns)
    figure = style.new_figure(2.6 + size[0] * columns, 1.1 + size[1] * rows, heading)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in list(grid.flat)[count:]:
        axes.set_axis_off()
    return figure, grid


# -- a map over two axes ---------------------------------------------------------


def heat_map(sweep: Sweep) -> Iterator[Drawing | NotDrawn]:
    """``sweep_heat_map``: the mean score over the first two axes of numbers, in colour and as
    numbers; a panel for each optimizer, method and target, and each value of a further axis.
    """
    numeric = [axis for axis in sweep.axes if is_numeric(sweep.ticks(axis))]
    if len(numeric) < 2 or not parts.any_done(sweep.groups):
        return
    pair = sorted(numeric, key=lambda axis: len(sweep.ticks(axis)), reverse=True)[:2]
    tables = _panels_beside(sweep, pair)
    if len(tables) > MOST:
        yield NotDrawn("sweep_heat_map", _TOO_MANY.format(len(tables)))
    elif tables:
        draw = partial(_maps, sweep, (pair[0], pair[1]), tables)
        yield parts.drawing("sweep_heat_map", draw, sweep.groups)


def _maps(sweep: Sweep, pair: tuple[str, str], tables: Mapping[str, Sequence[Group]]) -> Figure:
    metric, measured_on = judged_by(sweep.groups), held_out(sweep.groups)
    across, down = (sweep.ticks(axis) for axis in pair)
    size = (1.0 + 0.75 * len(across), 1.2 + 0.42 * len(down))
    heading = f"{measured_on.capitalize()} {metric.label} over {_name(pair[0])} and "
    figure, grid = _grid(heading + _name(pair[1]), len(tables), size)
    means = [group.score.mean for group in sweep.groups if group.done]
    limits = {"vmin": min(means), "vmax": max(means)}
    image: Any = None
    for axes, (title, groups) in zip(grid.flat, tables.items(), strict=False):
        image = _map(axes, sweep, pair, groups, limits)
        axes.set_title(_signed(title, [run for group in groups for run in group.done], sweep))
    figure.colorbar(image, ax=grid, label=f"{measured_on} {metric.axis()}", shrink=0.9)
    framed = ["Framed: the best mean of its panel, which need not be shown to be the best."]
    notes = [*(framed if _may_choose(sweep) else []), *_absent(sweep)]
    parts.footer(figure, sweep.title, sweep.groups, *notes)
    return figure


def _may_choose(sweep: Sweep) -> bool:
    """Whether a value may be called the best: what is chosen by test data is better on them."""
    return held_out(sweep.groups) == "validation"


def _map(
    axes: Axes, sweep: Sweep, pair: tuple[str, str], groups: Sequence[Group], limits: Any
) -> Any:
    ticks = [sweep.ticks(axis) for axis in pair]
    values = np.full((len(ticks[1]), len(ticks[0])), np.nan)
    digits, done = score_digits(sweep.groups), [group for group in groups if group.done]
    best = max(done, key=lambda group: group.worth, default=None)
    for group in done:
        x, y = (ticks[k].index(sweep.values(group)[axis]) for k, axis in enumerate(pair))
        values[y, x] = group.score.mean
    flip = judged_by(sweep.groups).sign < 0  # the better, the lighter
    image = axes.imshow(values, cmap="viridis_r" if flip else "viridis", aspect="auto", **limits)
    for y, x in itertools.product(range(len(ticks[1])), range(len(ticks[0]))):
        if np.isnan(values[y, x]):
            axes.text(x, y, "–", ha="center", va="center", color=style.FAINT)
            continue
        light = sum(image.cmap(image.norm(values[y, x]))[:3]) > 1.5
        ink = style.INK if light else "white"
        axes.text(x, y, f"{values[y, x]:.{digits}f}", ha="center", va="center", color=ink)
    if best is not None and _may_choose(sweep):
        x, y = (ticks[k].index(sweep.values(best)[axis]) for k, axis in enumerate(pair))
        frame: dict[str, Any] = {"fill": False, "edgecolor": style.INK, "linewidth": 2.2}
        axes.add_patch(matplotlib.patches.Rectangle((x - 0.5, y - 0.5), 1, 1, **frame))
    for axis, place in ((axes.xaxis, 0), (axes.yaxis, 1)):
        axis.set_ticks(range(len(ticks[place])), [value_text(tick) for tick in ticks[place]])
        axis.set_label_text(_name(pair[place]))
    axes.grid(visible=False)
    return image


# -- courses by value ---------------------------------------------------------------


def courses(sweep: Sweep) -> Iterator[Drawing | NotDrawn]:
    """``sweep_evolution``: the score over training, in the colour of one axis's value."""
    if not sweep.axes or not parts.any_done(sweep.groups):
        return
    layout = _Layout.of(sweep)
    found = _panels_beside(sweep, [layout.along])
    tables = {name: own for name, own in found.items() if parts.has_course(own)}
    if len(tables) > MOST:
        yield NotDrawn("sweep_evolution", _TOO_MANY.format(len(tables)))
    elif any(parts.any_done(groups) for groups in found.values()):
        draw = partial(_courses, sweep, layout.along, tables)
        yield parts.course("sweep_evolution", draw, sweep.groups)


def _courses(sweep: Sweep, along: str, tables: Mapping[str, Sequence[Group]]) -> Figure:
    metric, measured_on = judged_by(sweep.groups), held_out(sweep.groups)
    heading = f"{measured_on.capitalize()} {metric.label} over the epochs, by {_name(along)}"
    figure, grid = _grid(heading, len(tables), PANEL)
    ticks = sweep.ticks(along)
    colours = dict(zip(ticks, value_colours(ticks), strict=True))
    key: dict[object, Series] = {}
    for axes, (title, groups) in zip(grid.flat, tables.items(), strict=False):
        series = [
            Series(g, value_text(value), colours[value], "o", "-")
            for g in groups
            if (value := sweep.values(g)[along]) is not None
        ]
        key.update({sweep.values(each.group)[along]: each for each in series})
        panels.draw_curves(axes, series, metric)
        panels.epoch_axis(axes, series)
        axes.set_title(_signed(title, [run for group in groups for run in group.done], sweep))
    scales.name_shared(grid, metric, measured_on)
    shown = [key[tick] for tick in ticks if tick in key]
    parts.legend(figure, shown, _name(along))
    parts.footer(figure, sweep.title, sweep.groups)
    return figure
