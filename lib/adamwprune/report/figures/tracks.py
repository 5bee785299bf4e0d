"""The pruning tracks as figures: the score against the weights and multiply-adds that are left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from adamwprune.records.record import RunResult
from adamwprune.report import style
from adamwprune.report.figures import FORMATS, panels, parts, scales, write
from adamwprune.report.figures.operations import is_counted, speed_up
from adamwprune.report.figures.sparsity import BESIDE, DOTTED, shift_aside, sparsity_axis
from adamwprune.report.groups import Group
from adamwprune.report.track import Arm, Track

CONTROL: dict[str, Any] = {"color": "#8a8a8a", "linewidth": 1.2, "linestyle": (0, (4, 1.5))}
MARKERS = "osD^vPXphd<>"
SCOPES = {"": "-", "by layer": (0, (5, 1.5)), "ERK": (0, (1.2, 1.2))}
Place = Callable[[float, Group], float]


def draw(found: Iterable[Track], folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write a figure a network, ``track_NAME``, and what it plots into ``folder``; the files
    written. Tracks of one network on several data sets are the panels of one figure; one without
    pruned runs has nothing to show.
    """
    by_model: dict[object, list[Track]] = {}
    for track in found:
        if not all(arm.is_control for arm in track.arms):
            by_model.setdefault(track.dense.spec["MODEL"], []).append(track)
    paths = []
    with style.sheet():
        for tracks in by_model.values():
            name = tracks[0].name.replace("-", "_")
            groups = [group for track in tracks for group in track.groups]
            drawing = parts.drawing(name, _figure(tracks), groups)
            paths += write(drawing, folder / name, formats, data=True)
    return paths


def _figure(tracks: Sequence[Track]) -> Figure:
    """A panel a data set; of a single track whose multiply-adds are counted, one against these."""
    first, arms = tracks[0], [arm for track in tracks for arm in track.arms]
    counted = [arm for arm in first.arms if _is_counted(arm)] if is_counted(first.dense) else []
    looks, spec = _looks(arms), first.dense.spec
    metric = first.dense.done[0].headline
    heading = f"Test {metric.label} against sparsity: {spec['MODEL']}, {spec['OPTIMIZER']}"
    has_right = len(tracks) == 1 and bool(counted)
    count = len(tracks) + has_right
    figure = style.new_figure(3.2 + 4.6 * count, 4.6, heading)
    row = figure.subplots(1, count, sharey=has_right, squeeze=False)[0]
    for axes, track in zip(row, tracks, strict=False):
        _panel(axes, track, track.arms, looks, lambda sparsity, group: 100 * sparsity)
        own = [arm for arm in track.arms if not arm.is_control]
        cells = [cell.group for arm in own for cell in arm.cells.values()]
        sparsity_axis(axes, cells, dense=False)
        axes.set_title(str(track.dense.spec["DATASET"]))
        if _is_lost(track):
            scales.log_axis(axes)
            notes = "; ".join(filter(None, [metric.unit, metric.direction, "log scale"]))
            axes.set_ylabel(f"test {metric.label} above the dense network's\n({notes})")
        else:
            scales.metric_axis(axes, metric, "test")
    if has_right:
        _against_operations(row[1], first, counted, looks)
    _key(figure, tracks, looks)
    groups = [group for track in tracks for group in track.groups]
    parts.footer(figure, "; ".join(track.title for track in tracks), groups)
    return figure


def _is_lost(track: Track) -> bool:
    """Whether the score is a loss, and every cell's is above the dense one."""
    dense, cells = track.dense, (cell for arm in track.arms for cell in arm.cells.values())
    above = all(cell.group.score.mean > dense.score.mean for cell in cells)
    return dense.done[0].headline.better == "lower" and above


def _against_operations(
    axes: Axes, track: Track, arms: Sequence[Arm], looks: dict[str, dict[str, Any]]
) -> None:
    dense = track.dense.done[0]
    # In their places: a speed-up is a quantity, beside which no run has one.
    _panel(axes, track, arms, looks, lambda sparsity, group: speed_up(group, dense), beside=0)
    scales.log_axis(axes, vertical=False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}×")
    axes.set_xlabel("theoretical speed-up: multiply-adds, dense over left (log scale)")
    axes.set_title("Against multiply-adds")


def _key(figure: Figure, tracks: Sequence[Track], looks: dict[str, dict[str, Any]]) -> None:
    arms = [arm for track in tracks for arm in track.arms]
    origins = parts.origins_of([group for track in tracks for group in track.groups])
    runs = [run for track in tracks for run in track.dense.done]
    label = origins.label("dense, mean", runs)
    dense = Line2D([], [], color=style.INK, **DOTTED, label=label)
    handles = [] if all(map(_is_lost, tracks)) else [dense]
    for label, look in looks.items():
        records = [record for arm in arms if arm.label == label for record in _records(arm)]
        handles.append(Line2D([], [], label=origins.label(label, records), **look))
    figure.legend(handles=handles, loc="outside right center", handlelength=3.4)


def _looks(arms: Sequence[Arm]) -> dict[str, dict[str, Any]]:
    """A colour a method, dashes a scope, a marker an arm; controls are grey."""
    looks: dict[str, dict[str, Any]] = {}
    labels = list(dict.fromkeys(arm.label for arm in arms if not arm.is_control))
    colours = _colours(labels)
    for arm in arms:
        if arm.label in looks:
            continue
        look = CONTROL if arm.is_control else _method_look(arm.label, colours[arm.label])
        looks[arm.label] = {**look, "marker": MARKERS[len(looks) % len(MARKERS)]}
    return looks


def _colours(labels: Sequence[str]) -> dict[str, str]:
    """A colour a method; lighter for its further scopes."""
    by_method: dict[str, list[str]] = {}
    for label in labels:
        by_method.setdefault(label.split(", ")[0], []).append(label)
    colours = style.method_colours(by_method)
    return {
        label: style.shade(colours[method], len(own) - 1 - rank, max(3, len(own)))
        if rank
        else colours[method]
        for method, own in by_method.items()
        for rank, label in enumerate(own)
    }


def _method_look(label: str, colour: str) -> dict[str, Any]:
    scope = label.rpartition(", ")[2] if ", " in label else ""
    return {"color": colour, "linestyle": SCOPES.get(scope, (0, (6, 1.5, 1.2, 1.5)))}


def _records(arm: Arm) -> tuple[RunResult, ...]:
    return tuple(record for cell in arm.cells.values() for record in cell.group.done)


def _is_counted(arm: Arm) -> bool:
    return all(is_counted(cell.group) for cell in arm.cells.values())


def _panel(
    axes: Axes,
    track: Track,
    arms: Sequence[Arm],
    looks: dict[str, dict[str, Any]],
    place: Place,
    beside: float = BESIDE,
) -> None:
    """Means with their 95% intervals, a line an arm. ``place``: of a cell on the axis below, by its
    sparsity and its group. ``beside``: by how much the lines stand apart. A score that is better
    the lower it is: what it is above the dense one, on a logarithmic axis, or the worst methods
    would squeeze the best into one line.
    """
    zero = track.dense.score.mean if _is_lost(track) else 0.0
    if not zero:
        axes.axhline(track.dense.score.mean, color=style.INK, **DOTTED)
    for number, arm in enumerate(arms):
        groups = [cell.group for cell in arm.cells.values()]
        at = [place(sparsity, cell.group) for sparsity, cell in arm.cells.items()]
        means = [group.score.mean - zero for group in groups]
        halves = [panels.half_interval(group.score) or 0.0 for group in groups]
        bars = axes.errorbar(at, means, yerr=halves, elinewidth=0.9, **looks[arm.label])
        line, caps, whiskers = bars.lines
        shift_aside(axes, [line, *caps, *whiskers], beside * (number - (len(arms) - 1) / 2))
