"""All optimizers side by side: dense, and at each target sparsity."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adamwprune.report import style
from adamwprune.report.figures import panels, parts, scales
from adamwprune.report.figures.parts import Drawing, Series
from adamwprune.report.groups import Group, Setting, held_out, judged_by, percent

SCORES = "After the last epoch"


def baseline(setting: Setting) -> Iterator[Drawing]:
    """Dense training with every optimizer: its score over the epochs, and at the end."""
    groups = setting.dense()
    if not parts.any_done(groups):
        return
    title = f"Optimizers without pruning: {held_out(groups)} {judged_by(groups).label}"
    curves = {"dense": [_series(g, g.optimizer) for g in parts.without_twins(groups)]}
    figure = _compare(setting, title, curves, _rows(groups))
    yield parts.drawing("optimizer_comparison_baseline", figure, groups)


def at_each_sparsity(setting: Setting) -> Iterator[Drawing]:
    """Every optimizer and method at one target sparsity, one figure a sparsity."""
    for sparsity in setting.sparsities:
        groups = setting.pruned(sparsity)
        if not parts.any_done(groups):
            continue
        curves: dict[str, list[Series]] = {}
        for group in parts.without_twins(groups):
            curves.setdefault(setting.tag(group), []).append(_series(group, group.optimizer))
        title = f"Optimizers and pruning methods at {percent(sparsity)} sparsity"
        title += f": {held_out(setting.groups)} {judged_by(groups).label}"
        draw = partial(_compare, setting, title, curves, _rows(groups))
        yield parts.drawing(f"optimizer_comparison_{100 * sparsity:g}_pruning", draw, groups)


def _series(group: Group, label: str) -> Series:
    return Series.of(group, label, style.colour_of(group.optimizer))


def _rows(groups: Sequence[Group]) -> list[Series]:
    """A row a group, with the names of all optimizers whose runs are the same."""
    rows = []
    for group in parts.without_twins(groups):
        names = dict.fromkeys(each.optimizer for each in parts.twins_of(group, groups))
        method = "" if group.is_dense else f"  {group.method}"
        rows.append(_series(group, f"{' = '.join(names)}{method}"))
    return rows


def _compare(
    setting: Setting, title: str, curves: dict[str, list[Series]], rows: Sequence[Series]
) -> Figure:
    """A panel of curves a method, all on one scale, and the scores at the end; these alone of runs
    that were evaluated once.
    """
    groups = [row.group for row in rows]
    curves = {tag: own for tag, own in curves.items() if parts.has_course(e.group for e in own)}
    everything = setting.dense() if groups[0].is_dense else setting.pruned(groups[0].sparsity)
    metric = judged_by(groups)
    rows = parts.flagged(rows)
    columns = min(style.ABREAST, len(curves))
    lines = -(-len(curves) // style.ABREAST) or 1
    width, least = (5.6 + 4.4 * columns, 3.0 * lines) if curves else (9.0, 0.6)
    figure = style.new_figure(width, 2.4 + max(least, 0.27 * len(rows)), title)
    places = [*curves, *["."] * (columns * lines - len(curves))]  # a dot has no panel
    mosaic: list[Any] = [[*places[n * columns : (n + 1) * columns], SCORES] for n in range(lines)]
    axes = figure.subplot_mosaic(mosaic, width_ratios=[1] * columns + [0.9])
    first: Axes | None = None
    for tag, series in curves.items():
        if first:
            axes[tag].sharey(first)
        first = first or axes[tag]
        panels.draw_curves(axes[tag], series, metric)
        panels.epoch_axis(axes[tag], series)
        axes[tag].set_title(parts.panel_title(tag, [each.group for each in series]))
    if first:
        leftmost = [[axes[line[0]]] for line in mosaic]
        scales.name_shared(leftmost, metric, held_out(groups))
    panels.draw_dots(axes[SCORES], rows)
    axes[SCORES].set_title(SCORES)
    parts.colour_legend(figure, list(dict.fromkeys(row.group.optimizer for row in rows)))
    parts.footer(figure, setting.title, groups, *parts.twins_note(everything))
    return figure
