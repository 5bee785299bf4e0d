"""What pruning costs and could gain: scores against multiply-adds, and methods side by side."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from adamwprune.records.record import RunResult
from adamwprune.report import style
from adamwprune.report.figures import parts, scales
from adamwprune.report.figures.parts import Drawing, NotDrawn
from adamwprune.report.figures.sparsity import (
    BESIDE,
    DOTTED,
    at_sparsity,
    columns_of,
    draw_line,
    draw_point,
    lines_of,
    notes_of,
    sparsity_axis,
)
from adamwprune.report.groups import Group, Setting

SEVERAL = 3  # methods of one optimizer from which on they are drawn side by side
LEAST_SPEED_UP = 1.1  # where an axis ends at least
FINE = 4.0  # up to so large speed-ups an axis has these ticks
TICKS = (1.0, 1.05, 1.1, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0)
WHAT = "multiply-adds"


def accuracy_against_speed_up(setting: Setting) -> Iterator[Drawing | NotDrawn]:
    """The score against the multiply-adds that pruning leaves: a panel a method, a line an
    optimizer.
    """
    name = "accuracy_against_speed_up"
    done = [group for group in setting.pruned() if group.done]
    pruned = list(filter(is_counted, done))
    if not pruned:
        if done:
            yield NotDrawn(name, f"no record counts its {WHAT}; new runs do")
        return
    groups = [*setting.dense(), *pruned]
    limit = max(map(speed_up, pruned))
    columns = {}
    for tag in setting.tags:
        own = [group for group in pruned if setting.tag(group) == tag]
        if own:
            once = parts.without_twins(own)
            draw = partial(_by_speed_up, setting=setting, pruned=once, limit=limit)
            columns[parts.panel_title(tag, own)] = draw
    figure = columns_of("theoretical speed-up", groups, columns, (2.4, 3.9), 4.6)
    line = Line2D([], [], color=style.INK, **DOTTED, label="dense, mean")
    dense = [line] if parts.any_done(setting.dense()) else []
    parts.colour_legend(figure, setting.optimizers, *dense)
    lacking = [group for group in done if group not in pruned]
    notes = [_note(pruned), *notes_of(groups, setting.groups, lacking, WHAT)]
    parts.footer(figure, setting.title, groups, *notes)
    yield parts.drawing(name, figure, groups)


def _by_speed_up(axes: Axes, setting: Setting, pruned: Sequence[Group], limit: float) -> None:
    lines_of(axes, setting, pruned, speed_up)
    _speed_up_axis(axes, limit)


def _speed_up_axis(axes: Axes, limit: float) -> None:
    """From the dense network to ``limit``, so that panels can be compared."""
    limit = max(limit, LEAST_SPEED_UP)
    axes.set_xlim(limit**-0.05, limit**1.05)
    scales.log_axis(axes, vertical=False)
    if limit < FINE:  # linear ticks would leave out the dense network's
        ticks = scales.apart((tick for tick in TICKS if tick < limit**1.05), math.log(limit))
        axes.xaxis.set_major_locator(scales.Ticks(ticks))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}×")
    axes.set_xlabel("theoretical speed-up (log scale)")


def _note(groups: Sequence[Group]) -> str:
    numbers = {record.operations["multiply_adds"] for g in groups for record in g.done}
    dense = " or ".join(f"{number / 1e6:.3g} million" for number in sorted(numbers))
    return (
        f"Theoretical speed-up: multiply-adds of one forward pass, {dense} in the dense network, "
        "over those that are left: of each layer in proportion to its weights, and all of what is "
        "not prunable. What a device gains of that depends on its kernels."
    )


def speed_up(group: Group, dense: RunResult | None = None) -> float:
    """Multiply-adds of a dense network over those that are left, mean over the runs.

    ``dense``: a run of that network; None is the group's own network, not pruned.
    """
    if group.is_dense and dense is None:
        return 1.0

    def of(record: RunResult) -> float:
        whole: int = (dense or record).operations["multiply_adds"]
        return whole / float(record.operations["multiply_adds_left"])

    return group.statistic(of).mean


def is_counted(group: Group) -> bool:
    """Whether all its records count multiply-adds; older ones do not."""
    return all(map(_has_operations, group.done))


def _has_operations(record: RunResult) -> bool:
    found: dict[str, int] = record.operations
    return 0 < found.get("multiply_adds_left", 0) <= found.get("multiply_adds", 0)


# -- methods side by side ----------------------------------------------------


def methods(setting: Setting) -> Iterator[Drawing]:
    """Of each optimizer with several methods: their scores against sparsity and speed-up."""
    for optimizer in setting.optimizers:
        pruned = [g for g in setting.pruned(optimizer=optimizer) if g.done and is_counted(g)]
        if len({group.method for group in pruned}) >= SEVERAL:
            yield _methods(setting, optimizer, pruned)


def _methods(setting: Setting, optimizer: str, pruned: Sequence[Group]) -> Drawing:
    wanted = [*setting.dense(optimizer), *setting.pruned(optimizer=optimizer)]
    dense = [group for group in setting.dense(optimizer) if group.done]
    groups = [*dense, *pruned]
    names = list(dict.fromkeys(group.method for group in pruned))
    colours = dict(zip(names, style.distinct(len(names)), strict=True))
    limit = max(map(speed_up, pruned))

    def draw(axes: Axes, place: Callable[[Group], float]) -> None:
        for group in dense:
            axes.axhline(group.score.mean, color=style.INK, label=f"{optimizer} dense", **DOTTED)
        for number, name in enumerate(names):
            own = sorted((g for g in pruned if g.method == name), key=place)
            shown = [*dense, *own] if len(dense) == 1 else own
            shift = BESIDE * (number - (len(names) - 1) / 2)
            draw_line(axes, [place(group) for group in shown], shown, colours[name], shift)
        for group in dense:  # where all lines begin
            draw_point(axes, place(group), group, style.INK)
        if place is speed_up:
            _speed_up_axis(axes, limit)
        else:
            sparsity_axis(axes, pruned)

    columns = {
        "Against target sparsity": partial(draw, place=at_sparsity),
        "Against theoretical speed-up": partial(draw, place=speed_up),
    }
    against = f"sparsity and speed-up: {optimizer} with each method"
    figure = columns_of(against, groups, columns, (2.6, 4.8), 4.8)
    looks = {group.method: style.marker_and_dashes(group) for group in pruned}
    keys = []
    for name in names:
        (marker, dashes), label = looks[name], style.TITLES.get(name, name)
        look: dict[str, Any] = {"color": colours[name], "marker": marker, "linestyle": dashes}
        keys.append(Line2D([], [], label=label, **look))
    parts.key(figure, [*keys, Line2D([], [], color=style.INK, **DOTTED, label="dense, mean")])
    lacking = [g for g in wanted if g.done and not g.is_dense and g not in pruned]
    parts.footer(
        figure, setting.title, groups, _note(pruned), *notes_of(groups, wanted, lacking, WHAT)
    )
    return parts.drawing(f"{optimizer}-methods_compared", figure, groups)
