"""Axes of a metric: linear, or logarithmic where a few values would squeeze all others."""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullLocator

from adamwprune.base.metrics import Metric

LONGEST = 44  # characters of an axis's name that fit beside a panel
WIDE = 3  # times the smallest error that the largest one is: from here on a log scale
LEAST_ERROR = 1e-4  # of all examples: less is drawn as so much
FEW = 4  # ticks of a logarithmic axis, at least
BESIDE = 0.18  # of an axis below: where numbers beside each other have room in a narrow panel
MARGIN = 1.3  # of the largest error, at either end of a logarithmic axis


def metric_axis(axes: Axes, metric: Metric, of: str, *, vertical: bool = True) -> None:
    """Name an axis after a metric ``of`` a set, with its unit and direction in words.

    Where the largest error (of an accuracy: what it lacks to 100%) is :data:`WIDE` times the
    smallest, the scale is that of the error's logarithm: one bad value then leaves the others
    apart. An axis that is linear begins at a tick, and says so where it skips zero.
    """
    values = _values(axes, vertical)
    if metric.is_fraction and metric.better == "higher":
        errors = metric.scale - values
        if len(errors) and errors.max() >= WIDE * max(errors.min(), LEAST_ERROR * metric.scale):
            whole = _with_intervals(axes, metric.scale, errors, vertical)
            note = _error_axis(axes, metric.scale, whole, vertical)
            return _name(axes, f"{of} {metric.axis(note)}".lstrip(), vertical)
    elif metric.better == "lower" and len(values) and values.max() >= WIDE * values.min() > 0:
        log_axis(axes, vertical=vertical)
        return _name(axes, f"{of} {metric.axis('log scale')}".lstrip(), vertical)
    return _linear_axis(axes, metric, of, vertical)


def name_shared(grid: Any, metric: Metric, of: str) -> None:
    """:func:`metric_axis` of all panels of a grid that share it, named at the left of each row."""
    metric_axis(grid[0][0], metric, of)
    for row in grid[1:]:
        row[0].set_ylabel(grid[0][0].get_ylabel())


def _panels(axes: Axes, vertical: bool) -> list[Axes]:
    """Those that share an axis."""
    shared = axes.get_shared_y_axes() if vertical else axes.get_shared_x_axes()
    return shared.get_siblings(axes)


def _values(axes: Axes, vertical: bool) -> Any:
    """What is drawn on an axis, and on the same one of other panels, without intervals."""
    found = [value for each in _panels(axes, vertical) for value in _drawn(each, vertical)]
    return np.array([value for value in found if math.isfinite(value)])


def _with_intervals(axes: Axes, scale: float, errors: Any, vertical: bool) -> Any:
    """The errors and those at the ends of their intervals: of wide ones as much as leaves the
    values apart, so that one interval does not squeeze all others.
    """
    ends = [end for each in _panels(axes, vertical) for end in _interval_ends(each, vertical)]
    least = max(errors.min() / WIDE, LEAST_ERROR * scale)
    return np.concatenate([errors, np.clip(scale - np.array(ends), least, WIDE * errors.max())])


def _interval_ends(axes: Axes, vertical: bool) -> Iterator[float]:
    """Of whiskers and bands."""
    column = 1 if vertical else 0
    bands = [each for each in axes.collections if isinstance(each, PolyCollection)]
    whiskers = [
        bars
        for each in axes.containers
        if isinstance(each, ErrorbarContainer) and (each.has_yerr if vertical else each.has_xerr)
        for bars in each.lines[2]
    ]
    for each in (*bands, *whiskers):
        for path in each.get_paths():
            yield from np.asarray(path.vertices)[:, column].tolist()


def _drawn(axes: Axes, vertical: bool) -> Iterator[float]:
    errorbars = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
    caps = {id(cap) for each in errorbars for cap in each.lines[1]}
    across = axes.get_xaxis_transform("grid") if vertical else axes.get_yaxis_transform("grid")
    for line in axes.lines:
        is_data = line.get_transform() not in (across, axes.transAxes)
        if is_data and id(line) not in caps:
            yield from np.asarray(line.get_ydata() if vertical else line.get_xdata(), dtype=float)


class Ticks(Locator):
    """Fixed ticks; matplotlib's own class for them is that of categories here."""

    def __init__(self, ticks: Sequence[float]) -> None:
        self.ticks = ticks

    def __call__(self) -> Sequence[float]:
        return self.ticks

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        return self.ticks


def _error_axis(axes: Axes, scale: float, errors: Any, vertical: bool) -> str:
    """Shares of ``scale`` on a logarithmic scale of what they lack; the note on that.

    Errors below the least are drawn as the least, whose tick says ``≥``.
    """
    least = max(errors.min(), LEAST_ERROR * scale)
    ends = min(scale, MARGIN * errors.max()), least / MARGIN
    floor = least if errors.min() < least else 0.0

    def forward(value: Any) -> Any:
        return -np.log(np.maximum(scale - np.asarray(value, dtype=float), floor or 1e-9 * scale))

    def inverse(place: Any) -> Any:
        return scale - np.exp(-np.asarray(place, dtype=float))

    axis = axes.yaxis if vertical else axes.xaxis
    (axes.set_yscale if vertical else axes.set_xscale)("function", functions=(forward, inverse))
    marks = sorted(_marks(*ends))
    if not vertical:  # numbers beside each other need more room
        marks = apart(marks, math.log(ends[0] / ends[1]))
    axis.set_major_locator(Ticks([scale - error for error in marks]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{'≥ ' * (scale - value <= floor)}{value:.6g}")
    limits = [scale - error for error in ends]
    (axes.set_ylim if vertical else axes.set_xlim)(*limits)
    return "log scale of the error"


def _marks(most: float, least: float) -> list[float]:
    """Round errors between these, :data:`FEW` or more where a scale of steps has so many."""
    decades = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    marks: list[float] = []
    for steps in ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        found = [step * 10.0**decade for decade in decades for step in steps]
        marks = [error for error in found if least <= error <= most]
        if len(marks) >= FEW:
            break
    return marks


def apart(marks: Iterable[float], span: float) -> list[float]:
    """Those, from the first one on, whose numbers have room beside each other below a logarithmic
    axis that is ``span`` long.
    """
    found: list[float] = []
    for mark in marks:
        if not found or abs(math.log(found[-1] / mark)) >= BESIDE * span:
            found.append(mark)
    return found


def _linear_axis(axes: Axes, metric: Metric, of: str, vertical: bool) -> None:
    """From a tick on, so that the number at which it begins stands beside it. The axis of a share
    of the examples ends at all of them at most.
    """
    axis = axes.yaxis if vertical else axes.xaxis
    bins = 7 if vertical else 5  # numbers beside each other need more room
    axis.set_major_locator(MaxNLocator(nbins=bins, steps=[1, 2, 2.5, 5, 10]))
    low, high = axis.get_view_interval()
    least, most = (0.0, metric.scale) if metric.is_fraction else (-math.inf, math.inf)
    ticks = axis.get_major_locator().tick_values
    for _ in range(3):  # from another start other ticks may be found
        found = ticks(max(least, low), min(most, high))
        if any(map(partial(math.isclose, low), found)):
            break
        low = max([tick for tick in found if tick <= low], default=max(least, low))
    if metric.is_fraction:
        high = min(most + 0.02 * (most - low), high)
    (axes.set_ylim if vertical else axes.set_xlim)(low, high)
    note = f"axis starts at {low:g}" if low > 0 else ""
    _name(axes, f"{of} {metric.axis(note)}".lstrip(), vertical)


def loss_axis(axes: Axes, metric: Metric) -> None:
    """Name an axis of a metric beside the headline: logarithmic where less is better."""
    positive = all(np.min(np.asarray(line.get_ydata())) > 0 for line in axes.lines)
    if metric.better == "lower" and positive:
        log_axis(axes)
        _name(axes, metric.axis("log scale"), vertical=True)
    else:
        metric_axis(axes, metric, "")


def _name(axes: Axes, label: str, vertical: bool) -> None:
    """On two lines where one would be longer than a panel is high."""
    if not vertical:
        axes.set_xlabel(label)
        return
    axes.set_ylabel(label if len(label) <= LONGEST else label.replace(" (", "\n(", 1))


def log_axis(axes: Axes, *, vertical: bool = True) -> None:
    """A logarithmic axis with plain numbers; linear ticks where it spans little."""
    axis = axes.yaxis if vertical else axes.xaxis
    (axes.set_yscale if vertical else axes.set_xscale)("log")
    low, high = axis.get_view_interval()
    narrow = high < 4 * low
    axis.set_major_locator(MaxNLocator(5) if narrow else LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")
