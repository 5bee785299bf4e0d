"""What several figures are made of: series, curves, bars, axes that say where they begin."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from adamwprune.record import STALE, RunResult
from adamwprune.report import style
from adamwprune.report.groups import Group, Statistic, held_out, spread_note
from adamwprune.report.origins import Origins
from adamwprune.report.statistics import reach

PRINT_PER_INCH = 15  # characters of small print
PRINT_HEIGHT = 0.13  # inches a line of it
NAMED = 6  # groups in a sentence
BAND_ALPHA = 0.18
SHOWN_WHOLE = 3  # runs from which on a band is drawn whole: that of two is 18 deviations wide
INTERVALS = "bands and whiskers: 95% interval of the mean (Student's t)"


@dataclass(frozen=True, eq=False)
class Series:
    """A group and how it looks wherever it appears in one figure."""

    group: Group
    label: str
    colour: str
    marker: str
    dashes: Any

    @classmethod
    def of(cls, group: Group, label: str, colour: str) -> Series:
        """With the marker and the dashes of the group's method."""
        return cls(group, label, colour, *style.marker_and_dashes(group))


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure, the name of its file without an ending, and the runs it is drawn from."""

    name: str
    figure: Figure
    records: tuple[RunResult, ...]


@dataclass(frozen=True)
class NotDrawn:
    """A figure that there are no data for, and why: nothing is better than empty axes."""

    name: str
    why: str


def drawing(name: str, figure: Figure, groups: Iterable[Group]) -> Drawing:
    """Drawn from all completed runs of ``groups``."""
    records = {record.run_id: record for group in groups for record in group.done}
    return Drawing(name, figure, tuple(records.values()))


def origins_of(groups: Iterable[Group]) -> Origins:
    """Of the completed runs of one figure."""
    return Origins.of(record for group in groups for record in group.done)


def flagged(series: Sequence[Series], groups: Iterable[Group] = ()) -> list[Series]:
    """With labels that tell runs of other code or another place from the rest of the figure.

    ``groups``: those of the figure, where it shows more than ``series``.
    """
    origins = origins_of([*(each.group for each in series), *groups])
    return [
        replace(each, label=origins.label(each.label, each.group.done)) if each.group.done else each
        for each in series
    ]


def any_done(groups: Iterable[Group]) -> bool:
    """Whether there is anything to draw."""
    return any(group.done for group in groups)


def absent_note(
    groups: Iterable[Group], lacking: Sequence[Group] = (), what: str = ""
) -> list[str]:
    """A sentence on the groups that are not drawn: missing, failed, or ``lacking`` ``what``."""
    by_reason: dict[str, list[Group]] = {}
    for group in groups:
        if not group.done:
            by_reason.setdefault(group.absence, []).append(group)
    if lacking:
        by_reason[f"no {what} in the records"] = list(lacking)
    found = [f"{_named(own)} ({reason})" for reason, own in by_reason.items()]
    return [f"Not drawn: {'; '.join(found)}."] if found else []


def stale_note(groups: Iterable[Group], *, hollow: bool = False) -> list[str]:
    """A sentence that names the groups with a run that other code made, where some are not."""
    groups = [group for group in groups if group.done]
    stale = [group for group in groups if is_stale(group)]
    if not stale or len(stale) == len(groups):
        return []
    return [f"Stale{' (hollow)' if hollow else ''}: {_named(stale)}."]


def is_stale(group: Group) -> bool:
    """Whether other code than is here made one of its runs."""
    return any(STALE in record.marks for record in group.done)


def twins_note(groups: Iterable[Group]) -> list[str]:
    """A sentence on groups whose runs are the same in every epoch: one hides the other.

    AdamWPrune without pruning by state, for example, is AdamWSpam.
    """
    alike: dict[object, list[str]] = {}
    for group in groups:
        if group.done:
            alike.setdefault(_course(group), []).append(group.label)
    found = [" = ".join(labels) for labels in alike.values() if len(labels) > 1]
    return (
        [f"The same in every epoch, one on top of the other: {'; '.join(found)}."] if found else []
    )


def _course(group: Group) -> tuple[object, ...]:
    names = ("train_loss", "test_loss", "test_accuracy", "sparsity")
    return tuple(
        (record.spec["SEED"], *(entry[name] for entry in record.history for name in names))
        for record in group.done
    )


def _named(groups: Sequence[Group]) -> str:
    """Their labels; of many the first ones and a count."""
    labels = [group.label for group in groups]
    if len(labels) <= NAMED:
        return ", ".join(labels)
    return f"{', '.join(labels[: NAMED - 1])} and {len(labels) - NAMED + 1} more"


def panel_title(tag: str, groups: Sequence[Group]) -> str:
    """The method, and which optimizer does something else under its name."""
    title = style.TITLES.get(tag, tag.capitalize())
    others = [f"{g.optimizer}: {g.method}" for g in groups if g.method.split()[0] != tag]
    if tag == "dense" or tag.startswith("state-") or not others:
        return title
    return f"{title} ({', '.join(dict.fromkeys(others))})"


def colour_legend(figure: Figure, optimizers: Sequence[str], *more: Artist) -> None:
    """One entry an optimizer, where methods have panels of their own; and ``more`` below them."""
    handles: list[Artist] = [Patch(color=style.colour_of(n), label=n) for n in optimizers]
    figure.legend(
        handles=[*handles, *more],
        loc="outside right upper",
        title="optimizer",
        alignment="left",
    )


def no_panel(axes: Axes, groups: Sequence[Group]) -> None:
    """Empty axes: nothing where the matrix has no such runs, otherwise why nothing is drawn."""
    if not groups:
        axes.set_axis_off()
        return
    why = ", ".join(dict.fromkeys(group.absence or "not recorded" for group in groups))
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", color=style.FAINT)


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


def curve(group: Group, key: str) -> tuple[list[int], np.ndarray[Any, Any]]:
    """Epochs, and one row of values a run."""
    epochs = [int(entry["epoch"]) for entry in group.done[0].history]
    return epochs, np.array([[entry[key] for entry in run.history] for run in group.done])


def draw_curves(
    axes: Axes, series: Sequence[Series], key: str, *, scale: float = 1.0, first: int = 1
) -> None:
    """The mean over seeds by epoch, from epoch ``first``; its 95% interval as a band if n > 1."""
    for each in series:
        if not each.group.done:
            continue
        epochs, values = curve(each.group, key)
        shown = slice(epochs.index(first) if first in epochs else 0, None)
        values = scale * values
        mean = values.mean(axis=0)
        axes.plot(
            epochs[shown],
            mean[shown],
            color=each.colour,
            linestyle=each.dashes,
            marker=each.marker,
            markevery=max(1, len(epochs) // 10),
            label=each.label,
        )
        draw_band(axes, epochs[shown], values[:, shown], each.colour)


def draw_band(
    axes: Axes, x: Sequence[float], values: np.ndarray[Any, Any], colour: str, *, least: float = 0.0
) -> None:
    """The 95% interval of the mean of ``values`` [runs, points]; nothing for one run.

    No lower than ``least``: what is shown has no values below it.
    """
    n = len(values)
    if n < 2 or len(x) < 2:
        return
    mean, half = values.mean(axis=0), reach(n) * values.std(axis=0, ddof=1)
    fill_band(
        axes, x, (np.maximum(mean - half, least), mean + half), colour, whole=n >= SHOWN_WHOLE
    )


def fill_band(
    axes: Axes,
    x: Sequence[float],
    limits: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
    colour: str,
    *,
    whole: bool = True,
) -> None:
    """Between two lines; where it is not to be seen as a whole, the axes make no room for it."""
    low, high = limits
    outline = [*zip(x, low, strict=True), *zip(x[::-1], high[::-1], strict=True)]
    band = PolyCollection([outline], facecolor=colour, alpha=BAND_ALPHA, linewidth=0)
    axes.add_collection(band, autolim=whole)
    axes.autoscale_view()


def half_interval(found: Statistic) -> float | None:
    """From the mean to either end of its 95% interval; None for one run."""
    return None if found.deviation is None else reach(found.n) * found.deviation


def draw_thin_curves(axes: Axes, series: Sequence[Series], key: str) -> None:
    """The mean over seeds by epoch as a thin line without markers, for comparison."""
    for each in series:
        if each.group.done:
            epochs, values = curve(each.group, key)
            axes.plot(epochs, values.mean(axis=0), color=each.colour, linewidth=0.8, alpha=0.8)


def epoch_axis(axes: Axes, series: Sequence[Series], first: int = 1) -> None:
    """Whole epochs from ``first``; marks the ramp's end and says which groups are not drawn."""
    last = max(int(each.group.spec["EPOCHS"]) for each in series)
    margin = max(0.04 * (last - first), 0.2)
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    pruned = [each.group.spec for each in series if not each.group.is_dense]
    for end in {spec.ramp_end_step / spec.steps_per_epoch for spec in pruned}:
        axes.axvline(end, color=style.FAINT, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0.5)
    absent = [f"{each.label} ({each.group.absence})" for each in series if not each.group.done]
    label = "epoch (thin dashes: target sparsity reached)" if pruned else "epoch"
    lines = textwrap.wrap(f"not drawn: {', '.join(absent)}", 48) if absent else []
    axes.set_xlabel("\n".join([label, *lines]))
    if len(absent) == len(series):
        axes.text(0.5, 0.5, "no completed run", transform=axes.transAxes, ha="center")


def percent_axis(axes: Axes, what: str, *, vertical: bool = True) -> None:
    """Name an axis of percentages that ends at 100 at most, and say so where it skips zero.

    It starts at a tick, so that the number at which it starts stands beside it.
    """
    axis = axes.yaxis if vertical else axes.xaxis
    axis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
    low, high = axis.get_view_interval()
    ticks = axis.get_major_locator().tick_values(max(0.0, low), min(100.0, high))
    low = max([tick for tick in ticks if tick <= low], default=0.0)
    high = min(100.0 + 0.02 * (100 - low), high)
    label = f"{what} (%)" if low == 0 else f"{what} (%; axis starts at {low:g})"
    if vertical:
        axes.set_ylim(low, high)
        axes.set_ylabel(label)
    else:
        axes.set_xlim(low, high)
        axes.set_xlabel(label)


def loss_axis(axes: Axes) -> None:
    """Of cross-entropies, logarithmic."""
    log_axis(axes)
    axes.set_ylabel("cross-entropy (nats, log scale)")


def log_axis(axes: Axes) -> None:
    """A logarithmic axis with plain numbers; linear ticks where it spans little."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    narrow = high < 4 * low
    axes.yaxis.set_major_locator(MaxNLocator(5) if narrow else LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


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
    axes.text(
        0.5,
        row,
        why,
        transform=axes.get_yaxis_transform(),
        ha="center",
        va="center",
        fontsize=8,
        color=style.INK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )


def draw_dots(axes: Axes, series: Sequence[Series]) -> None:
    """Final test accuracy, one row a group; its number and n stand to the right.

    Dots, not bars: their axis need not start at zero.
    """
    category_axis(axes, [each.label for each in series])
    for row, each in enumerate(series):
        if not each.group.done:
            mark_absent(axes, row, each.group.absence)
            continue
        accuracy = each.group.accuracy
        axes.errorbar(
            accuracy.mean,
            row,
            xerr=half_interval(accuracy),
            label=each.label,
            color=each.colour,
            marker=each.marker,
            markersize=6.5,
            capsize=2.5,
            linestyle="none",
        )
        axes.text(
            1.02,
            row,
            f"{accuracy.text()}  {count(each.group)}",
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color=style.INK,
        )
    axes.margins(x=0.08)
    measured_on = held_out([each.group for each in series])
    percent_axis(axes, f"{measured_on} accuracy", vertical=False)


def count(group: Group) -> str:
    """``n = 3``, or ``n = 2 of 3`` where seeds lack."""
    total = len(group.specs)
    return f"n = {group.n}" if group.n == total else f"n = {group.n} of {total}"


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
    axes.annotate(
        text,
        (end, row),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=style.INK,
    )


# -- around the axes ---------------------------------------------------------


def legend(figure: Figure, series: Sequence[Series], title: str = "") -> None:
    """To the right of all axes; a group without a number says so, seeds are counted."""
    several = any(len(each.group.specs) > 1 for each in series)
    handles: list[Artist] = []
    for each in series:
        if not each.group.done:
            handles.append(Patch(**style.ABSENT, label=f"{each.label}: {each.group.absence}"))
            continue
        label = f"{each.label}, {count(each.group)}" if several else each.label
        look: dict[str, Any] = {"linestyle": each.dashes, "marker": each.marker}
        handles.append(Line2D([], [], color=each.colour, label=label, **look))
    figure.legend(
        handles=handles,
        loc="outside right upper",
        title=title or None,
        alignment="left",
        handlelength=3.4,
    )


def footer(
    figure: Figure,
    title: str,
    groups: Sequence[Group],
    *notes: str,
    accuracy: bool = True,
    seconds: bool = False,
) -> None:
    """Small print: what was run, how often, by which code, on what, from which commit.

    ``accuracy``: whether the figure shows accuracies, so that their noise must be named.
    ``seconds``: whether it shows times.
    """
    records = [record for group in groups for record in group.done]
    sentences = origins_of(groups).captions(seconds=seconds)
    if seconds:
        sentences += shared_note(records)
    spread = spread_note(groups, noise=accuracy)
    if any(group.n > 1 for group in groups):
        spread += f"; {INTERVALS}"
    told = [*notes, f"{title} · {spread}"]
    lines = [*_captions(figure, told), *_captions(figure, sentences)]
    figure.set_figheight(figure.get_figheight() + PRINT_HEIGHT * (len(lines) - len(told)))
    lines = [
        *lines,
        f"device: {devices(records)} · commit: {style.commits(records, digits=10)}",
    ]
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=7.5, color=style.FAINT)


def _captions(figure: Figure, sentences: Iterable[str]) -> list[str]:
    """Lines of small print that are no wider than the figure."""
    width = int(PRINT_PER_INCH * figure.get_figwidth())
    return [line for sentence in sentences for line in textwrap.wrap(sentence, width)]


def is_alone(record: RunResult) -> bool:
    """Whether nothing else of ours used the run's device or its cores, as its record says."""
    return record.environment.get("alone") is True


def shared_note(records: Sequence[RunResult]) -> list[str]:
    """A sentence on the runs whose times other work may have lengthened; none without any."""
    shared = sum(not is_alone(record) for record in records)
    if not shared:
        return []
    return [f"Times of {shared} of {len(records)} runs: other work may have shared the machine."]


def devices(records: Iterable[RunResult]) -> str:
    """The kinds of device of the runs, each once: ``cpu (Some CPU @ 2 GHz)``."""
    names = (
        f"{record.environment['device'].split(':')[0]} ({record.environment['device_name']})"
        for record in records
    )
    return ", ".join(dict.fromkeys(names))
