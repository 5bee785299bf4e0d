"""The course of training by step: gradient norms, spikes and resets of SPAM, the learning rate."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from adamwprune.base.wording import counted
from adamwprune.report import style
from adamwprune.report.figures import panels, parts
from adamwprune.report.figures.parts import Drawing, NotDrawn
from adamwprune.report.groups import Group, Setting, percent
from adamwprune.report.statistics import reach

RESET = (0, (4, 2))
SPIKE: dict[str, Any] = {"color": style.INK, "marker": "|", "linestyle": "none"}
TINY = 1e-12  # a norm of zero has no logarithm


def gradient_norms(setting: Setting) -> Iterator[Drawing | NotDrawn]:
    """Gradient norms of every optimizer, dense and with each method at the highest sparsity, and
    the learning rate below them.
    """
    highest = max(setting.done_sparsities, default=0.0)
    chosen = [g for g in setting.groups if g.is_dense or g.sparsity == highest]
    groups = [g for g in chosen if g.done and all(record.trace for record in g.done)]
    if not parts.any_done(chosen):
        return
    if not groups:
        yield NotDrawn("gradient_norms", "no record has a trace of its steps; new runs do")
        return
    optimizers = [n for n in setting.optimizers if any(g.optimizer == n for g in groups)]
    tags = sorted({setting.tag(g) for g in groups}, key=["", *setting.tags].index)
    title = "Gradient norm and learning rate"
    if any(tags):
        title += f", dense and pruned to {percent(highest)}"
    figure = style.new_figure(2.4 + 2.9 * max(3, len(optimizers)), 2.9 + 1.9 * len(tags), title)
    axes = _axes(figure, len(tags), len(optimizers))
    origins = parts.origins_of(groups)
    for column, optimizer in enumerate(optimizers):
        own = [g for g in chosen if g.optimizer == optimizer]
        for panel, tag in zip(axes[:, column], tags, strict=False):
            wanted = [g for g in own if setting.tag(g) == tag]
            panels.draw_each(panel, wanted, groups, _norms, origins)
        _rates(axes[-1, column], [g for g in own if g in groups])
    for row in axes[:-1]:
        panels.log_axis(row[0])  # of all that share its axis
        panels.name_leftmost(row, "gradient norm (log)")
    _name_rates(axes[-1])
    _legend(figure)
    lacking = [g for g in chosen if g.done and g not in groups]
    notes = [_note(groups), *parts.marks_note(groups), *parts.absent_note(chosen, lacking, "trace")]
    parts.footer(figure, setting.title, groups, *notes, scores=False)
    yield parts.drawing("gradient_norms", figure, groups)


def _name_rates(row: Any) -> None:
    """The axes of the lowest row."""
    for panel in row:
        panel.set_xlim(left=0)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panel.set_xlabel("training step")
        panel.set_ylim(bottom=0)
        panel.yaxis.set_major_locator(MaxNLocator(3))
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    row[0].set_ylabel("learning rate")


def _legend(figure: Figure) -> None:
    """What lines and marks mean, whatever their colour."""
    look: dict[str, Any] = {"color": style.INK}
    keys = [
        Line2D([], [], label="mean of a stretch", **look),
        Line2D([], [], linewidth=0.7, alpha=0.6, label="largest in it", **look),
        Line2D([], [], label="spikes (first seed)", **SPIKE),
        Line2D([], [], linestyle=RESET, linewidth=0.9, label="moments reset", **look),
    ]
    parts.key(figure, keys)


def _note(groups: Sequence[Group]) -> str:
    lengths = sorted({record.trace["interval"] for group in groups for record in group.done})
    unit = "step" if lengths == [1] else "steps"
    return (
        f"Stretches of {' or '.join(map(str, lengths))} {unit}. The norm of the gradient that the "
        "optimizer is given: pruned weights have none, nothing is clipped yet; over seeds the mean "
        "and interval of its logarithm. The learning rate is that of a stretch's last step, with "
        "SPAM's warm-up."
    )


def _axes(figure: Figure, rows: int, columns: int) -> Any:
    """Rows of norms, each with one scale, and a lower one of rates, whose sizes are the optimizers'
    own.
    """
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[1.0] * rows + [0.7])
    axes = np.empty((rows + 1, columns), dtype=object)
    for row, column in np.ndindex(axes.shape):
        left = axes[row, 0] if column and row < rows else None
        panel = figure.add_subplot(grid[row, column], sharex=axes[0, 0], sharey=left)
        panel.tick_params(labelbottom=row == rows, labelleft=left is None)
        axes[row, column] = panel
    return axes


def _norms(axes: Axes, group: Group) -> None:
    """Means over the seeds; spikes and resets as marks."""
    first = group.done[0].trace
    steps, colour = first["step"], style.colour_of(group.optimizer)
    means, largest = (
        np.log(np.maximum([record.trace[key] for record in group.done], TINY))
        for key in ("norm", "norm_max")
    )
    middle = means.mean(axis=0)
    axes.plot(steps, np.exp(middle), color=colour, linewidth=1.3, label=group.label)
    thin: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.6}
    label = f"{group.label}, largest"
    axes.plot(steps, np.exp(largest.mean(axis=0)), color=colour, label=label, **thin)
    if group.n > 1:
        half = reach(group.n) * means.std(axis=0, ddof=1)
        limits = np.exp(middle - half), np.exp(middle + half)
        panels.fill_band(axes, steps, limits, colour, whole=group.n >= panels.SHOWN_WHOLE)
    _mark_resets(axes, first["resets"])
    if first["spikes"] is None:
        return
    at = [step for step, count in zip(steps, first["spikes"], strict=True) if count]
    look: dict[str, Any] = {**SPIKE, "markersize": 5, "markeredgewidth": 0.6, "label": "spikes"}
    axes.plot(at, [0.03] * len(at), transform=axes.get_xaxis_transform(), **look)
    told = f"{counted(sum(first['spikes']), 'spike')} in {counted(steps[-1], 'step')}"
    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "va": "top"}
    axes.text(0.98, 0.95, told, fontsize=7.5, color=style.INK, **place)


def _mark_resets(axes: Axes, resets: Sequence[int]) -> None:
    for step in resets:
        look: dict[str, Any] = {"linewidth": 0.9, "linestyle": RESET, "zorder": 0.6}
        axes.axvline(step, color=style.INK, label="moments reset", **look)


def _rates(axes: Axes, groups: Sequence[Group]) -> None:
    """Of one optimizer's runs, which share a recipe; every distinct course once."""
    drawn = []
    for trace in (group.done[0].trace for group in groups):
        if trace["lr"] in drawn:
            continue
        drawn.append(trace["lr"])
        colour = style.colour_of(groups[0].optimizer)
        axes.plot(trace["step"], trace["lr"], color=colour, linewidth=1.2, label="learning rate")
        _mark_resets(axes, trace["resets"])
