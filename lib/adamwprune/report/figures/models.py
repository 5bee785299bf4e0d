"""One optimizer and method at every sparsity, or any chosen runs, in six panels."""

import math
from collections.abc import Iterator, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from adamwprune.base.metrics import Metric, second
from adamwprune.report import style
from adamwprune.report.figures import panels, parts
from adamwprune.report.figures.parts import Drawing, Series
from adamwprune.report.groups import (
    Group,
    Setting,
    Statistic,
    distinct_labels,
    held_out,
    judged_by,
    percent,
    score_digits,
)

DENSE_COLOUR = "#000000"
HEADLINE = ("adamw", "adamwprune")  # whom model_comparison sets side by side, if both are there


def per_optimizer(setting: Setting) -> Iterator[Drawing]:
    """Dense and each sparsity, for every optimizer and method."""
    for optimizer in setting.optimizers:
        for tag in setting.tags:
            groups = [g for g in setting.pruned(optimizer=optimizer) if setting.tag(g) == tag]
            if parts.any_done(groups):
                yield from _pair(setting, optimizer, tag, groups)


def _pair(setting: Setting, optimizer: str, tag: str, pruned: list[Group]) -> Iterator[Drawing]:
    groups = [*setting.dense(optimizer), *pruned]
    series = parts.flagged(_by_sparsity(groups, setting.sparsities))
    method = pruned[0].method
    heading = f"{optimizer} with {method} pruning"
    name = f"{optimizer}-with-{tag}"
    legend = f"{optimizer}\n{method}"
    told = (heading, legend, setting.title, series)
    draw = partial(six_panels, *told)
    yield parts.drawing(f"{name}-pruning-model_comparison", draw, groups)
    yield parts.drawing(f"{name}-accuracy_evolution", partial(accuracy_evolution, *told), groups)


def selection(setting: Setting) -> Iterator[Drawing]:
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


def comparison(groups: Sequence[Group], heading: str, title: str) -> Iterator[Drawing]:
    """Any groups side by side: ``model_comparison`` and ``accuracy_evolution``."""
    series = parts.flagged(chosen_series(groups))
    told = (heading, "", title, series)
    yield parts.drawing("model_comparison", partial(six_panels, *told), groups)
    yield parts.drawing("accuracy_evolution", partial(accuracy_evolution, *told), groups)


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


def six_panels(heading: str, legend: str, title: str, series: Sequence[Series]) -> Figure:
    """The headline, a second metric and sparsity over training; score, compression, and both."""
    groups = [each.group for each in series]
    metric, measured_on = judged_by(groups), held_out(groups)
    rows = 0.24 * max(0, len(series) - 6)
    longest = max(len(each.label) for each in series)
    figure = style.new_figure(14 + 0.14 * max(0, longest - 6), 8.2 + rows, heading)
    axes = figure.subplots(2, 3)
    _headline(axes[0, 0], series, metric, measured_on)
    _second_metric(axes[0, 1], series, measured_on)
    for each in series:
        for record in each.group.done:
            look = {"color": each.colour, "marker": each.marker, "label": each.label}
            panels.draw_sparsity(axes[0, 2], record, linewidth=1.2, **look)
    _scores(axes[1, 0], series, metric, measured_on)
    _compression(axes[1, 1], series)
    axes[1, 1].sharey(axes[1, 0])
    axes[1, 1].tick_params(axis="y", labelleft=False)  # the same rows as to its left
    _tradeoff(axes[1, 2], series, metric, measured_on)
    parts.legend(figure, series, legend)
    parts.footer(figure, title, groups)
    return figure


def _headline(axes: Axes, series: Sequence[Series], metric: Metric, measured_on: str) -> None:
    panels.draw_curves(axes, series, metric)
    panels.epoch_axis(axes, series)
    panels.metric_axis(axes, metric, measured_on)
    axes.set_title(f"{measured_on.capitalize()} {metric.label}")


def _second_metric(axes: Axes, series: Sequence[Series], measured_on: str) -> None:
    """Mostly the loss; of runs that have one metric, that one, in training too."""
    metric = second(next(each.group.done[0].judged_by for each in series if each.group.done))
    panels.draw_curves(axes, series, metric)
    for each in series:
        if each.group.done:
            epochs, values = panels.curve(each.group, metric, "train")
            axes.plot(epochs, values.mean(axis=0), color=each.colour, linewidth=0.8, alpha=0.8)
    panels.loss_axis(axes, metric)
    panels.epoch_axis(axes, series)
    axes.set_title(f"{metric.label.capitalize()} (thick: {measured_on}, thin: training)")


def _scores(axes: Axes, series: Sequence[Series], metric: Metric, measured_on: str) -> None:
    digits = score_digits(each.group for each in series)
    panels.draw_bars(axes, series, lambda group: group.score, lambda value: value.text(digits))
    if metric.is_fraction:
        axes.set_xlim(0, 1.35 * metric.scale)
        axes.set_xticks([metric.scale * fifth / 5 for fifth in range(6)])
    axes.set_xlabel(f"{measured_on} {metric.axis()}")
    axes.set_title(f"{metric.label.capitalize()} after the last epoch")


def _compression(axes: Axes, series: Sequence[Series]) -> None:
    panels.draw_bars(
        axes, series, lambda group: Statistic(group.n, group.compression, None), _times
    )
    axes.set_xlabel("prunable weights / nonzero ones (×, counted)")
    axes.set_title("Compression of the prunable weights")


def _times(value: Statistic) -> str:
    return f"{value.mean:.2f}×" if value.mean != float("inf") else "∞: no weight is left"


def _tradeoff(axes: Axes, series: Sequence[Series], metric: Metric, measured_on: str) -> None:
    shown = [s for s in series if s.group.done and s.group.compression != float("inf")]
    for each in shown:
        score, at = each.group.score, each.group.compression
        half = panels.half_interval(score)
        axes.errorbar(at, score.mean, yerr=half, markersize=7, **each.dot)
    axes.set_xscale("log")
    ticks = sorted({round(each.group.compression, 2) for each in shown})
    axes.xaxis.set_major_locator(FixedLocator(_apart(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}×")
    axes.margins(x=0.12, y=0.15)
    panels.metric_axis(axes, metric, measured_on)
    axes.set_xlabel("compression of the prunable weights (log scale)")
    axes.set_title(f"{metric.label.capitalize()} against compression")


def _apart(ticks: Sequence[float]) -> list[float]:
    """Those that can be told apart on a logarithmic axis: the ends first, then what fits."""
    if not ticks:
        return []
    least = (ticks[-1] / ticks[0]) ** 0.1
    kept = [ticks[0]]
    for tick in ticks[1:]:
        if tick >= kept[-1] * least and tick > kept[-1]:
            kept.append(tick)
    return kept


# -- the headline alone ----------------------------------------------------------


def accuracy_evolution(heading: str, legend: str, title: str, series: Sequence[Series]) -> Figure:
    """The headline over all epochs, its later half enlarged, and in training."""
    groups = [each.group for each in series]
    metric, measured_on = judged_by(groups), held_out(groups)
    epochs = math.ceil(max(each.group.spec.epochs for each in series))
    later = epochs // 2 + 1
    name = f"{measured_on.capitalize()} set"
    columns = [(name, "test", 0), ("Training set", "train", 0)]
    if epochs >= 4:
        columns.insert(1, (f"{name} from epoch {later}, enlarged", "test", later))
    figure = style.new_figure(
        3 + 4.6 * len(columns), 5, f"{heading}: {metric.label} over the epochs"
    )
    for axes, (name, part, first) in zip(figure.subplots(1, len(columns)), columns, strict=True):
        panels.draw_curves(axes, series, metric, part, first=first)
        panels.epoch_axis(axes, series, first)
        panels.metric_axis(axes, metric, "training" if part == "train" else measured_on)
        axes.set_title(name)
    parts.legend(figure, series, legend)
    parts.footer(figure, title, groups)
    return figure
