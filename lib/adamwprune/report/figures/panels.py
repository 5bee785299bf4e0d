"""What several figures' panels are made of: curves, bars, dots, the axis of epochs."""

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.ticker import MaxNLocator

from adamwprune.base.metrics import Metric
from adamwprune.records.record import RunResult
from adamwprune.report import style
from adamwprune.report.figures.parts import Series, count
from adamwprune.report.figures.scales import metric_axis
from adamwprune.report.groups import Group, Statistic, held_out, judged_by, score_digits
from adamwprune.report.origins import Origins
from adamwprune.report.statistics import LEAST, reach

BAND_ALPHA = 0.18
SMALL: dict[str, Any] = {"va": "center", "fontsize": 8, "color": style.INK}


def no_panel(axes: Axes, groups: Sequence[Group]) -> None:
    """Empty axes: nothing where the matrix has no such runs, otherwise why nothing is drawn."""
    if not groups:
        axes.set_axis_off()
        return
    why = ", ".join(dict.fromkeys(group.absence or "not recorded" for group in groups))
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", color=style.FAINT)


def draw_each(
    axes: Axes,
    wanted: Sequence[Group],
    there: Sequence[Group],
    draw: Callable[[Axes, Group], None],
    origins: Origins | None = None,
) -> None:
    """One panel of a grid: the ``wanted`` groups that are ``there``, or why none is drawn.

    With ``origins`` a group's name is the panel's title.
    """
    own = [group for group in wanted if group in there]
    for group in own:
        draw(axes, group)
        if origins:
            name = f"{group.optimizer}  {group.method}"
            axes.set_title(origins.signed(name, group.done))
    if not own:
        no_panel(axes, wanted)


def name_lowest(axes: Any, label: str = "") -> None:
    """The axis below each column of a grid, under its lowest panel that is not left out."""
    for column in axes.T:
        shown = [panel for panel in column if panel.axison]
        if shown:
            shown[-1].tick_params(labelbottom=True)
            shown[-1].set_xlabel(label)


def name_leftmost(row: Any, label: str) -> None:
    """The axis to the left of a row of a grid, at its first panel that is not left out."""
    for panel in [panel for panel in row if panel.axison][:1]:
        panel.tick_params(axis="y", labelleft=True)
        panel.set_ylabel(label)


# -- curves ------------------------------------------------------------------


def curve(group: Group, metric: Metric, part: str) -> tuple[list[float], np.ndarray[Any, Any]]:
    """Epochs, and one row of values a run in the metric's unit; ``part``: ``test`` or ``train``."""
    epochs = [entry["epoch"] for entry in group.done[0].history]
    rows = [[entry[f"{part}_{metric.name}"] for entry in run.history] for run in group.done]
    return epochs, metric.scale * np.array(rows)


def draw_curves(axes: Axes, series: Sequence[Series], metric: Metric, part: str = "test") -> None:
    """The mean over seeds by epoch; its 95% interval as a band if n > 1."""
    for each in series:
        if not each.group.done:
            continue
        epochs, values = curve(each.group, metric, part)
        mean = values.mean(axis=0)
        every = max(1, len(epochs) // 10)
        axes.plot(epochs, mean, markevery=every, **each.line)
        draw_band(axes, epochs, values, each.colour)


def draw_band(
    axes: Axes, x: Sequence[float], values: np.ndarray[Any, Any], colour: str, *, least: float = 0.0
) -> None:
    """The 95% interval of the mean of ``values`` [runs, points], of three runs or more.

    No lower than ``least``: what is shown has no values below it.
    """
    n = len(values)
    if n < LEAST or len(x) < 2:
        return
    mean, half = values.mean(axis=0), reach(n) * values.std(axis=0, ddof=1)
    fill_band(axes, x, (np.maximum(mean - half, least), mean + half), colour)


def fill_band(
    axes: Axes,
    x: Sequence[float],
    limits: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
    colour: str,
) -> None:
    """Between two lines."""
    low, high = limits
    outline = [*zip(x, low, strict=True), *zip(x[::-1], high[::-1], strict=True)]
    band = PolyCollection([outline], facecolor=colour, alpha=BAND_ALPHA, linewidth=0)
    axes.add_collection(band)
    axes.autoscale_view()


def half_interval(found: Statistic) -> float | None:
    """From the mean to either end of its 95% interval; None for fewer than three runs: that of two
    is 18 deviations wide.
    """
    if found.deviation is None or found.n < LEAST:
        return None
    return reach(found.n) * found.deviation


def draw_sparsity(axes: Axes, record: RunResult, *, linewidth: float, **look: Any) -> None:
    """A run's steps at the mask updates, markers where zeros were counted after an epoch."""
    updates, history = record.pruning["updates"], record.history
    steps = [0, *(update["step"] for update in updates), history[-1]["step"]]
    values = [0.0, *(100 * each["zeros"] / record.pruning["prunable"] for each in updates)]
    thin = {**look, "marker": None, "linewidth": linewidth}
    axes.step(steps, [*values, values[-1]], where="post", **thin)
    at, counted = zip(*((each["step"], 100 * each["sparsity"]) for each in history), strict=True)
    axes.plot(at, counted, **{**look, "linestyle": "none"})
    axes.set_ylim(-3, 103)
    axes.set_xlabel("training step")
    axes.set_ylabel("zeros among prunable weights (%)")
    axes.set_title("Sparsity (markers: zeros counted)")


def epoch_axis(axes: Axes, series: Sequence[Series]) -> None:
    """Epochs from the first one that was measured after; fractions of one where the runs are no
    longer than that. Marks the ramp's end and says which groups are not drawn.
    """
    specs = [each.group.spec for each in series]
    begin = min(spec.epochs_after(spec.evaluated_after[0]) for spec in specs)
    last = max(spec.epochs for spec in specs)
    margin = max(0.04 * (last - begin), 0.2 if last >= 1 else 0.04 * last, 1e-4)
    axes.set_xlim(begin - margin, last + margin)
    bins = 10 if last >= 1 else 4  # small fractions are long numbers
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=bins, integer=last >= 2 or last == begin == 1, min_n_ticks=1)
    )
    pruned = [each.group.spec for each in series if not each.group.is_dense]
    for end in {spec.ramp_end_step / spec.steps_per_epoch for spec in pruned}:
        axes.axvline(end, color=style.FAINT, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0.5)
    absent = [f"{each.label} ({each.group.absence})" for each in series if not each.group.done]
    label = "epoch (thin dashes: target reached)" if pruned else "epoch"
    lines = textwrap.wrap(f"not drawn: {', '.join(absent)}", 38) if absent else []
    axes.set_xlabel("\n".join([label, *lines]))
    if len(absent) == len(series):
        axes.text(0.5, 0.5, "no completed run", transform=axes.transAxes, ha="center")


# -- one value a group -------------------------------------------------------


def category_axis(axes: Axes, labels: Sequence[str]) -> None:
    """One row a label, from the top down."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def mark_absent(axes: Axes, row: int, why: str) -> None:
    """A hatched row across the whole axes: no number is drawn where there is none."""
    band = axes.axhspan(row - 0.32, row + 0.32, **style.ABSENT, zorder=0.8)
    band.set_gid(f"absent-{why}")
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    place = axes.get_yaxis_transform()
    axes.text(0.5, row, why, transform=place, ha="center", bbox=box, **SMALL)


def draw_dots(axes: Axes, series: Sequence[Series]) -> None:
    """The score after the last epoch, one row a group; its number and n stand to the right.

    Dots, not bars: their axis need not start at zero.
    """
    groups = [each.group for each in series]
    metric, digits = judged_by(groups), score_digits(groups)
    _dots(axes, series, lambda g: (g.score, f"{g.score.text(digits)}  {count(g)}"))
    axes.margins(x=0.08)
    metric_axis(axes, metric, held_out(groups), vertical=False)


def draw_changes(axes: Axes, series: Sequence[Series]) -> None:
    """Each pruned group's score minus that of the same optimizer's dense runs of equal seeds."""
    groups = [each.group for each in series]
    metric, digits = judged_by(groups), score_digits(groups)
    dense = {group.optimizer: group for group in groups if group.is_dense and group.done}

    def change(group: Group) -> tuple[Statistic | None, str]:
        if group.is_dense:
            return None, "dense"
        found = paired(group, dense.get(group.optimizer))
        return (found, found.text(digits)) if found else (None, "no dense run")

    _dots(axes, series, change)
    axes.axvline(0, color=style.FAINT, linewidth=0.8, zorder=0.5)
    axes.margins(x=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.set_xlabel(f"{metric.label}, pruned minus dense ({metric.difference_unit})")
    axes.set_title("Change from dense, paired")


def paired(group: Group, other: Group | None) -> Statistic | None:
    """Of the differences of equal seeds; None without any."""
    if other is None:
        return None
    one, two = ({run.spec["SEED"]: run.score for run in each.done} for each in (group, other))
    differences = [one[seed] - two[seed] for seed in one if seed in two]
    return Statistic.of(differences) if differences else None


def _dots(
    axes: Axes, series: Sequence[Series], value: Callable[[Group], tuple[Statistic | None, str]]
) -> None:
    """A row a group: a dot with its interval, and a text to the right."""
    category_axis(axes, [each.label for each in series])
    for row, each in enumerate(series):
        if not each.group.done:
            mark_absent(axes, row, each.group.absence)
            continue
        found, told = value(each.group)
        if found is not None:
            look = {**each.dot, "markersize": 6.5}
            axes.errorbar(found.mean, row, xerr=half_interval(found), **look)
        axes.text(1.02, row, told, transform=axes.get_yaxis_transform(), **SMALL)


def draw_bars(
    axes: Axes,
    series: Sequence[Series],
    value: Callable[[Group], Statistic],
    text: Callable[[Statistic], str],
) -> None:
    """One horizontal bar a group, from zero, its number at its end."""
    category_axis(axes, [each.label for each in series])
    lowest, longest = 0.0, 0.0
    for row, each in enumerate(series):
        if not each.group.done:
            mark_absent(axes, row, each.group.absence)
            continue
        found = value(each.group)
        length = found.mean if math.isfinite(found.mean) else 0.0
        bar_style: dict[str, Any] = {"color": each.colour, "ecolor": "#888888", "capsize": 2.5}
        half = half_interval(found)
        axes.barh(row, length, height=0.62, xerr=half, label=each.label, **bar_style)
        end = max(0.0, length) + (half or 0.0)
        lowest, longest = min(lowest, length), max(longest, end)
        write_beside(axes, row, end, text(found))
    axes.set_xlim(1.1 * lowest, 1.35 * longest if longest else 1)


def write_beside(axes: Axes, row: int, end: float, text: str) -> None:
    """A number to the right of a horizontal bar that ends there."""
    axes.annotate(text, (end, row), xytext=(4, 0), textcoords="offset points", **SMALL)
