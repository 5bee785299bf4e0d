"""One optimizer and method at every sparsity, or any chosen runs, in six panels."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adamwprune.base.metrics import Metric, second
from adamwprune.report import style
from adamwprune.report.figures import masks, panels, parts, scales
from adamwprune.report.figures.parts import Drawing, NotDrawn, Series
from adamwprune.report.groups import (
    Group,
    Setting,
    distinct_labels,
    held_out,
    judged_by,
    percent,
)

ROW_LABEL = 24  # characters in a line of a row's name
AXIS_LABEL = 28  # and of an axis's, in panels that are narrow
LEGEND_PER_INCH = 15  # characters of a legend
DENSE_COLOUR = "#000000"
HEADLINE = ("adamw", "adamwprune")  # whom model_comparison sets side by side, if both are there


def per_optimizer(setting: Setting) -> Iterator[Drawing | NotDrawn]:
    """Dense and each sparsity, for every optimizer and method."""
    for optimizer in setting.optimizers:
        for tag in setting.tags:
            groups = [g for g in setting.pruned(optimizer=optimizer) if setting.tag(g) == tag]
            if parts.any_done(groups):
                yield from _pair(setting, optimizer, tag, groups)


def _pair(
    setting: Setting, optimizer: str, tag: str, pruned: list[Group]
) -> Iterator[Drawing | NotDrawn]:
    groups = [*setting.dense(optimizer), *pruned]
    series = parts.flagged(_by_sparsity(groups, setting.sparsities))
    method = pruned[0].method
    heading = f"{optimizer} with {method} pruning"
    name = f"{optimizer}-with-{tag}"
    told = (heading, setting.title, series)
    draw = partial(six_panels, *told)
    yield parts.drawing(f"{name}-pruning-model_comparison", draw, groups)
    evolution = partial(accuracy_evolution, *told)
    yield parts.course(f"{name}-accuracy_evolution", evolution, groups)


def selection(setting: Setting) -> Iterator[Drawing | NotDrawn]:
    """adamw and adamwprune, dense and at the highest sparsity, with every method."""
    optimizers = headline_optimizers(setting)
    highest = max(setting.sparsities, default=None)
    groups = [
        group
        for group in setting.groups
        if group.optimizer in optimizers and (group.is_dense or group.sparsity == highest)
    ]
    if parts.any_done(groups):
        heading = f"{' and '.join(optimizers)}, dense"
        if highest is not None:
            heading += f" and pruned to {percent(highest)}"
        yield from comparison(groups, heading, setting.title)


def headline_optimizers(setting: Setting) -> Sequence[str]:
    """adamw and adamwprune, or the first two where these are not both there."""
    both = all(name in setting.optimizers for name in HEADLINE)
    return HEADLINE if both else setting.optimizers[:2]


def comparison(groups: Sequence[Group], heading: str, title: str) -> Iterator[Drawing | NotDrawn]:
    """Any groups side by side: ``model_comparison`` and ``accuracy_evolution``."""
    series = parts.flagged(chosen_series(groups))
    told = (heading, title, series)
    yield parts.drawing("model_comparison", partial(six_panels, *told), groups)
    yield parts.course("accuracy_evolution", partial(accuracy_evolution, *told), groups)


def chosen_series(groups: Sequence[Group]) -> list[Series]:
    """The optimizer's colour and the method's line; where both are alike, shades."""
    looks = [(group.optimizer, group.method) for group in groups]
    series = []
    for i, (group, label) in enumerate(zip(groups, distinct_labels(groups), strict=True)):
        rank, ranks = looks[:i].count(looks[i]), looks.count(looks[i])
        colour = style.shade(style.colour_of(group.optimizer), rank, ranks)
        series.append(Series.of(group, label, colour))
    return series


def _by_sparsity(groups: Sequence[Group], sparsities: Sequence[float]) -> list[Series]:
    colours = style.sparsity_colours(sparsities)
    return [
        Series.of(group, "dense", DENSE_COLOUR)
        if group.is_dense
        else Series.of(group, percent(group.sparsity), colours[group.sparsity])
        for group in groups
    ]


# -- the six panels ----------------------------------------------------------


def six_panels(heading: str, title: str, series: Sequence[Series]) -> Figure:
    """The headline and a second metric over the epochs, where there are two; the sparsity over
    training, the density of the layers; and, a row a group, the scores at the end and what pruning
    changed of them.
    """
    groups = [each.group for each in series]
    metric, measured_on = judged_by(groups), held_out(groups)
    rows = [replace(each, label=textwrap.fill(each.label, ROW_LABEL)) for each in series]
    columns = _legend_columns(series)
    lines = 2 if parts.has_course(groups) else 1
    heights = (2.7 * lines + 0.17 * -(-len(series) // columns), 0.9 + 0.34 * len(series))
    figure = style.new_figure(style.PAGE, 0.9 + sum(heights), heading)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    axes = above.subplots(lines, 2, squeeze=False)
    if parts.has_course(groups):
        _headline(axes[0, 0], series, metric, measured_on)
        _second_metric(axes[0, 1], series, measured_on)
    for each in series:
        for record in each.group.done:
            look = {"color": each.colour, "marker": each.marker, "label": each.label}
            panels.draw_sparsity(axes[-1, 0], record, linewidth=1.2, **look)
    _densities(axes[-1, 1], series)
    for panel in axes.flat:
        panel.set_ylabel(textwrap.fill(panel.get_ylabel(), AXIS_LABEL))
    scores, changes = below.subplots(1, 2, sharey=True)
    panels.draw_dots(scores, rows)
    scores.set_title(f"{metric.label.capitalize()} after the last epoch")
    panels.draw_changes(changes, rows)
    for panel in (scores, changes):
        panel.set_xlabel(textwrap.fill(panel.get_xlabel(), AXIS_LABEL))
    parts.legend(above, series, columns=columns)
    parts.footer(figure, title, groups)
    return figure


def _legend_columns(series: Sequence[Series]) -> int:
    """So many entries as stand side by side above the panels."""
    longest = max(len(each.label) for each in series) + len(", n = 3")
    return max(1, int(style.PAGE / (0.7 + longest / LEGEND_PER_INCH)))


def _headline(axes: Axes, series: Sequence[Series], metric: Metric, measured_on: str) -> None:
    panels.draw_curves(axes, series, metric)
    panels.epoch_axis(axes, series)
    scales.metric_axis(axes, metric, measured_on)
    axes.set_title(f"{measured_on.capitalize()} {metric.label}")


def _second_metric(axes: Axes, series: Sequence[Series], measured_on: str) -> None:
    """Mostly the loss; of runs that have one metric, that one, in training too."""
    metric = second(next(each.group.done[0].judged_by for each in series if each.group.done))
    panels.draw_curves(axes, series, metric)
    for each in series:
        if each.group.done:
            epochs, values = panels.curve(each.group, metric, "train")
            axes.plot(epochs, values.mean(axis=0), color=each.colour, linewidth=0.8, alpha=0.8)
    scales.loss_axis(axes, metric)
    panels.epoch_axis(axes, series)
    axes.set_title(f"{metric.label.capitalize()} (thick: {measured_on}, thin: training)")


def _densities(axes: Axes, series: Sequence[Series]) -> None:
    """Of the pruned groups; nothing where all are dense."""
    pruned = [each for each in series if each.group.done and not each.group.is_dense]
    if not pruned:
        axes.set_axis_off()
        return
    for each in pruned:
        rows = np.array([masks.densities(record) for record in each.group.done])
        axes.plot(range(rows.shape[1]), rows.mean(axis=0), **each.line)
        panels.draw_band(axes, range(rows.shape[1]), rows, each.colour)
    ticks = masks.layer_ticks(pruned[0].group.done[0])
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.tick_params(axis="x", labelrotation=0 if len(ticks) <= 6 else 90)
    axes.set_ylim(0, None)
    axes.set_ylabel("weights kept (%)")
    axes.set_title("Density of each layer after pruning")


# -- the headline alone ----------------------------------------------------------


def accuracy_evolution(heading: str, title: str, series: Sequence[Series]) -> Figure:
    """The headline over all epochs, on held-out data and in training, on one scale."""
    groups = [each.group for each in series]
    metric, measured_on = judged_by(groups), held_out(groups)
    heading = f"{heading}: {metric.label} over the epochs"
    columns = _legend_columns(series)
    lines = -(-len(series) // columns)
    figure = style.new_figure(style.PAGE, 4.0 + 0.17 * lines, heading)
    body = figure.subfigures(squeeze=False)[0, 0]  # its legend is below the heading
    left, right = body.subplots(1, 2, sharey=True)
    sets = [(left, f"{measured_on.capitalize()} set", "test"), (right, "Training set", "train")]
    for axes, name, part in sets:
        panels.draw_curves(axes, series, metric, part)
        panels.epoch_axis(axes, series)
        axes.set_title(name)
    scales.metric_axis(left, metric, "")
    parts.legend(body, series, columns=columns)
    parts.footer(figure, title, groups)
    return figure
