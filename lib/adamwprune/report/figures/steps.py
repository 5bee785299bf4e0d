"""The course of training by step: gradient norms, spikes and resets of SPAM, the learning rate."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from adamwprune.base.wording import counted
from adamwprune.report import style
from adamwprune.report.figures import panels, parts, scales
from adamwprune.report.figures.parts import Drawing, NotDrawn
from adamwprune.report.groups import Group, Setting, percent
from adamwprune.report.statistics import LEAST, reach

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
    tags = sorted({setting.tag(g) for g in groups}, key=["", *setting.tags].index)
    title = "Gradient norm and learning rate"
    if any(tags):
        title += f", dense and pruned to {percent(highest)}"
    figure = style.new_figure(2.4 + 4.4 * max(2, len(tags)), 6.0, title)
    # A column a method; below them the learning rate, which is much the same in all of them.
    places = [*map(str, range(len(tags)))]
    both: list[Any] = [places, ["rates"] * len(tags)]
    axes = figure.subplot_mosaic(both, sharex=True, height_ratios=[1, 0.45])
    first = axes[places[0]]
    for panel, tag in zip((axes[place] for place in places), tags, strict=True):
        own = [g for g in groups if setting.tag(g) == tag]
        for place, group in enumerate(parts.without_twins(own)):
            _norms(panel, group, place)
        panel.set_title(parts.panel_title(tag or "dense", own))
        panel.tick_params(labelbottom=True)  # these are narrower than the panel below them
        if panel is not first:
            panel.sharey(first)
            panel.tick_params(labelleft=False)
    scales.log_axis(first)  # of all that share its axis
    first.set_ylabel("gradient norm (log scale)")
    _rates(axes["rates"], groups)
    _name_rates(axes["rates"])
    parts.colour_legend(figure, list(dict.fromkeys(g.optimizer for g in groups)), *_keys(groups))
    lacking = [g for g in chosen if g.done and g not in groups]
    notes = [_note(groups), *parts.twins_note(groups), *parts.places_note(groups)]
    notes += [*parts.marks_note(groups), *parts.absent_note(chosen, lacking, "trace")]
    parts.footer(figure, setting.title, groups, *notes, scores=False)
    yield parts.drawing("gradient_norms", figure, groups)


def _name_rates(axes: Any) -> None:
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("training step")
    axes.set_ylabel("learning rate")


def _keys(groups: Sequence[Group]) -> list[Line2D]:
    """What the marks mean that are there."""
    traces = [record.trace for group in groups for record in group.done[:1]]
    look: dict[str, Any] = {"color": style.INK}
    keys = []
    if any(trace["spikes"] for trace in traces):
        keys.append(Line2D([], [], label="spikes (first seed)", **{**SPIKE, **look}))
    if any(trace["resets"] for trace in traces):
        keys.append(Line2D([], [], linestyle=RESET, linewidth=0.9, label="moments reset", **look))
    return keys


def _note(groups: Sequence[Group]) -> str:
    lengths = sorted({record.trace["interval"] for group in groups for record in group.done})
    unit = "step" if lengths == [1] else "steps"
    return (
        f"Stretches of {' or '.join(map(str, lengths))} {unit}. The norm of the gradient that the "
        "optimizer is given: pruned weights have none, nothing is clipped yet; over seeds the mean "
        "and interval of its logarithm. The learning rate is that of a stretch's last step, with "
        "SPAM's warm-up; dotted where several optimizers share it."
    )


def _norms(axes: Axes, group: Group, place: int) -> None:
    """Means over the seeds; spikes as a row of marks, the ``place``-th from below, and resets."""
    first = group.done[0].trace
    steps, colour = first["step"], style.colour_of(group.optimizer)
    means = np.log(np.maximum([record.trace["norm"] for record in group.done], TINY))
    middle = means.mean(axis=0)
    axes.plot(steps, np.exp(middle), color=colour, linewidth=1.1, label=group.label)
    if group.n >= LEAST:
        half = reach(group.n) * means.std(axis=0, ddof=1)
        panels.fill_band(axes, steps, (np.exp(middle - half), np.exp(middle + half)), colour)
    _mark_resets(axes, first["resets"])
    if first["spikes"] is None:
        return
    at = [step for step, count in zip(steps, first["spikes"], strict=True) if count]
    look: dict[str, Any] = {**SPIKE, "markersize": 5, "markeredgewidth": 0.7, "color": colour}
    height = [0.02 + 0.025 * place] * len(at)
    told = f"{group.optimizer}: {counted(sum(first['spikes']), 'spike')}"
    axes.plot(at, height, transform=axes.get_xaxis_transform(), label=told, **look)


def _mark_resets(axes: Axes, resets: Sequence[int]) -> None:
    for step in resets:
        look: dict[str, Any] = {"linewidth": 0.9, "linestyle": RESET, "zorder": 0.6}
        axes.axvline(step, color=style.INK, label="moments reset", **look)


def _rates(axes: Axes, groups: Sequence[Group]) -> None:
    """Every distinct course of the learning rate once; dotted where several optimizers share it."""
    courses: dict[tuple[float, ...], list[Group]] = {}
    for group in groups:
        courses.setdefault(tuple(group.done[0].trace["lr"]), []).append(group)
    for own in courses.values():
        trace, name = own[0].done[0].trace, own[0].optimizer
        look: dict[str, Any] = {"color": style.INK, "linestyle": (0, (1, 1)), "linewidth": 1.6}
        names = dict.fromkeys(group.optimizer for group in own)
        if len(names) == 1:
            look = {"color": style.colour_of(name), "linewidth": 1.2}
        axes.plot(trace["step"], trace["lr"], label=", ".join(names), **look)
        _mark_resets(axes, trace["resets"])
