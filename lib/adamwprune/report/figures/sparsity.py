"""What pruning costs: scores against sparsity, and against the bytes that training takes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from adamwprune.records.record import STALE
from adamwprune.report import style
from adamwprune.report.figures import panels, parts, scales
from adamwprune.report.figures.parts import Drawing, Series
from adamwprune.report.groups import Group, Setting, held_out, judged_by, percent

BESIDE = 2.2  # points between optimizers at one place
LEAST_LEFT = 0.1  # percent of the weights: where an axis of sparsities ends
FRONTIER = "#8c8c8c"
RING: dict[str, Any] = {
    **{"color": FRONTIER, "marker": "o", "markersize": 12, "markerfacecolor": "none"},
    "label": "frontier",
}
DOTTED: dict[str, Any] = {"linestyle": (0, (1, 2)), "linewidth": 0.8}


# -- against sparsity --------------------------------------------------------


def accuracy_against_sparsity(setting: Setting) -> Iterator[Drawing]:
    """The score at every target sparsity: a panel a method, a line an optimizer."""
    pruned = setting.pruned()
    if not parts.any_done(pruned):
        return
    groups = [*setting.dense(), *pruned]
    columns = {}
    for tag in setting.tags:
        own = [g for g in pruned if setting.tag(g) == tag]
        draw = partial(_by_sparsity, setting=setting, pruned=parts.without_twins(own))
        columns[parts.panel_title(tag, own)] = draw
    figure = columns_of("sparsity", groups, columns, (2.4, 3.9), 4.4)
    line = Line2D([], [], color=style.INK, **DOTTED, label="dense, mean")
    dense = [line] if parts.any_done(setting.dense()) else []
    parts.colour_legend(figure, setting.optimizers, *dense)
    parts.footer(figure, setting.title, groups, *notes_of(groups, groups))
    yield parts.drawing("accuracy_against_sparsity", figure, groups)


def columns_of(
    against: str,
    groups: Sequence[Group],
    draws: Mapping[str, Callable[[Axes], None]],
    widths: tuple[float, float],
    height: float,
) -> Figure:
    """A panel a title, all on one scale, in rows. ``against``: what the axes below show.

    ``widths`` in inches: of the margins and a panel.
    """
    metric, measured_on = judged_by(groups), held_out(groups)
    title = f"{measured_on.capitalize()} {metric.label} against {against}"
    columns = min(style.ABREAST, len(draws))
    rows = -(-len(draws) // columns)
    figure = style.new_figure(widths[0] + widths[1] * columns, 0.6 + (height - 0.6) * rows, title)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for panel in grid.flat[len(draws) :]:
        panel.remove()
    for panel, (name, draw) in zip(grid.flat, draws.items(), strict=False):
        draw(panel)
        panel.set_title(name)
    scales.name_shared(grid, metric, measured_on)
    return figure


def _by_sparsity(axes: Axes, setting: Setting, pruned: Sequence[Group]) -> None:
    lines_of(axes, setting, pruned, at_sparsity)
    sparsity_axis(axes, pruned)


def at_sparsity(group: Group) -> float:
    """Where a group lies on the axis below: the target in percent."""
    return 100 * group.sparsity


def sparsity_axis(axes: Axes, pruned: Iterable[Group], *, dense: bool = True) -> None:
    """An axis of target sparsities, on which 90 and 95% lie as far apart as 0 and 50%.

    ``dense``: whether it begins at 0%.
    """
    axes.set_xscale("function", functions=(_spread, _gather))
    ticks = sorted({*([0.0] if dense else []), *map(at_sparsity, pruned)})
    axes.set_xticks(ticks)
    if not dense:
        ends = [_spread(np.array(each)) for each in (ticks[0], ticks[-1])]
        margin = 0.06 * (ends[1] - ends[0]) or 0.1
        axes.set_xlim(_gather(ends[0] - margin), _gather(ends[1] + margin))
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("target sparsity (%; log scale of the weights left)")


def lines_of(
    axes: Axes, setting: Setting, pruned: Sequence[Group], place: Callable[[Group], float]
) -> None:
    """A line an optimizer, from its dense runs on, which a dotted line goes on with.

    ``place``: where a group lies on the axis below.
    """
    for place_beside, optimizer in enumerate(setting.optimizers):
        dense = [g for g in setting.dense(optimizer) if g.done]
        own = sorted((g for g in pruned if g.optimizer == optimizer and g.done), key=place)
        if not own:
            continue
        colour = style.colour_of(optimizer)
        for group in dense:
            axes.axhline(group.score.mean, color=colour, label=f"{optimizer} dense", **DOTTED)
        shown = [*dense, *own] if len(dense) == 1 else own
        shift = BESIDE * (place_beside - (len(setting.optimizers) - 1) / 2)
        draw_line(axes, [place(group) for group in shown], shown, colour, shift)


def draw_line(
    axes: Axes, at: Sequence[float], groups: Sequence[Group], colour: str, shift: float = 0.0
) -> None:
    """Means with their intervals, joined; the last group says which method they are of.

    ``shift``: points to the right, so that intervals at one place stand side by side.
    """
    means = [group.score.mean for group in groups]
    dashes = style.marker_and_dashes(groups[-1])[1]
    drawn: list[Any] = axes.plot(at, means, color=colour, linestyle=dashes)
    for x, group in zip(at, groups, strict=True):
        line, caps, bars = draw_point(axes, x, group, colour).lines
        drawn += [line, *caps, *bars]
    shift_aside(axes, drawn, shift)


def shift_aside(axes: Axes, drawn: Iterable[Any], points: float) -> None:
    """Move what is drawn to the right; the limits of the axes stay those of the data."""
    aside = axes.transData + ScaledTranslation(points / 72, 0, axes.figure.dpi_scale_trans)
    for artist in drawn:
        artist.set_transform(aside)


def _spread(sparsity: Any) -> Any:
    """Percent on a logarithmic scale of what is left: 90 and 95 lie as far apart as 0 and 50."""
    return -np.log(np.maximum(100.0 - sparsity, LEAST_LEFT))


def _gather(place: Any) -> Any:
    return 100.0 - np.exp(-place)


def draw_point(axes: Axes, x: float, group: Group, colour: str) -> ErrorbarContainer:
    """The mean and its interval; hollow where other code made a run."""
    look = Series.of(group, group.label, colour).dot
    if any(STALE in record.marks for record in group.done):
        look["markerfacecolor"] = "white"
    half = panels.half_interval(group.score)
    return axes.errorbar(x, group.score.mean, yerr=half, markersize=5.5, elinewidth=0.9, **look)


def notes_of(
    groups: Sequence[Group], wanted: Sequence[Group], lacking: Sequence[Group] = (), what: str = ""
) -> list[str]:
    return [
        *parts.twins_note(groups),
        *parts.marks_note(groups, hollow=True),
        *parts.places_note(groups),
        *parts.absent_note(wanted, lacking, what),
    ]


# -- against bytes -----------------------------------------------------------


def pareto(setting: Setting) -> Iterator[Drawing]:
    """The score against all bytes that training keeps, a panel a sparsity.

    The frontier: what nothing else in the panel is better than with as few bytes or fewer.
    """
    sparsities = setting.done_sparsities
    if not sparsities:
        return
    groups = [g for g in setting.groups if g.is_dense or g.sparsity in sparsities]
    columns = {}
    for sparsity in sparsities:
        own = [g for g in groups if g.done and (g.is_dense or g.sparsity == sparsity)]
        own = parts.without_twins(own, _kib)
        columns[f"{percent(sparsity)} sparsity, and dense"] = partial(_against_bytes, groups=own)
    figure = columns_of("the bytes of training", groups, columns, (2.6, 4.1), 4.6)
    parts.colour_legend(figure, setting.optimizers, *_keys(groups))
    note = (
        "Bytes counted in the tensors after training: weights, gradients, buffers, optimizer "
        "states and what pruning keeps. Weights are stored densely: zeros save no bytes here."
    )
    parts.footer(figure, setting.title, groups, note, *notes_of(groups, setting.groups))
    yield parts.drawing("pareto_accuracy_bytes", figure, groups)


def _against_bytes(axes: Axes, groups: Sequence[Group]) -> None:
    best = frontier([(_kib(group), group.worth) for group in groups])
    sign = judged_by(groups).sign
    costs, scores = [cost for cost, _ in best], [sign * worth for _, worth in best]
    look: dict[str, Any] = {**RING, "markeredgewidth": 1.0, "linewidth": 1.0, "zorder": 1.5}
    axes.plot(costs, scores, drawstyle="steps-post", **look)
    for group in groups:
        draw_point(axes, _kib(group), group, style.colour_of(group.optimizer))
    axes.margins(x=0.08, y=0.12)
    axes.set_xlabel("bytes of training (KiB)")


def _kib(group: Group) -> float:
    """Of all persistent tensors; the same for every seed."""
    return group.statistic(lambda record: record.memory["total"] / 1024).mean


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, worth) those that no other point of the same cost or less is worth more than."""
    best: list[tuple[float, float]] = []
    for cost, worth in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or worth > best[-1][1]:
            best.append((cost, worth))
    return best


def _keys(groups: Sequence[Group]) -> list[Line2D]:
    """What markers mean, each method once, and the frontier."""
    methods = {g.method: style.marker_and_dashes(g)[0] for g in groups if g.done}
    look: dict[str, Any] = {"color": style.INK, "linestyle": "none"}
    keys = [Line2D([], [], marker=mark, label=name, **look) for name, mark in methods.items()]
    return [*keys, Line2D([], [], **RING)]
