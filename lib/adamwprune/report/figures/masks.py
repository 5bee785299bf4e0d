"""What pruning does inside: density by layer, courses of the mask, weights before and after."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from adamwprune.records.record import RunResult
from adamwprune.report import style
from adamwprune.report.figures import panels, parts
from adamwprune.report.figures.parts import Drawing, NotDrawn, Series
from adamwprune.report.groups import Group, Setting, percent

NAMED_LAYERS = 12  # up to so many are all named below a panel
LEVEL_LAYERS = 6  # of more layers, the names stand on end
NAME_HEIGHT = 0.08  # inches a letter of such a name
LAYER_TICKS = 6  # of more layers, about how many are named
MOST_MARKERS = 20  # of a line, about
ONE_UPDATE = "a line needs two mask updates: more EPOCHS, or a smaller PRUNING_INTERVAL"
AGREEMENT = "magnitude_agreement"
Values = Callable[[RunResult], "list[float] | None"]
Places = Callable[[RunResult], list[float]]


# -- a panel a sparsity and method -------------------------------------------


def layer_density(setting: Setting) -> Iterator[Drawing | NotDrawn]:
    """The share of weights that each layer keeps: which layers a method spares."""
    found = _grid(setting, "Density of each layer after pruning", densities, _depths)
    if found is None:
        return
    figure, axes, groups = found
    layers = groups[0].done[0].pruning["layers"]
    ticks = layer_ticks(groups[0].done[0])
    if len(layers) > LEVEL_LAYERS:  # names that stand on end are below the panels
        longest = max(map(len, ticks.values()))
        figure.set_figheight(figure.get_figheight() + NAME_HEIGHT * longest)
    for row, sparsity in enumerate(setting.done_sparsities):
        for panel in axes[row]:
            look: dict[str, Any] = {"linewidth": 0.8, "linestyle": (0, (2, 2)), "zorder": 0.5}
            panel.axhline(100 * (1 - sparsity), color=style.FAINT, label="all layers", **look)
            panel.set_ylim(0, None if len(layers) > NAMED_LAYERS else 103)
            panel.set_xticks(list(ticks), list(ticks.values()))
            panel.tick_params(axis="x", labelrotation=0 if len(layers) <= LEVEL_LAYERS else 90)
        panels.name_leftmost(axes[row], f"{percent(sparsity)} sparsity\nweights kept (%)")
    panels.name_lowest(axes)
    line = Line2D([], [], color=style.FAINT, linestyle=(0, (2, 2)), label="all layers together")
    parts.colour_legend(figure, setting.optimizers, line)
    notes = [_sizes_note(layers), *_notes_of_grid(setting, groups)]
    parts.footer(figure, setting.title, groups, *notes, scores=False)
    yield parts.drawing("layer_density", figure, groups)


def densities(record: RunResult) -> list[float] | None:
    """Percent of the weights that are left, by layer."""
    return [100 * (1 - each["zeros"] / each["numel"]) for each in record.pruning["layers"]]


def _depths(record: RunResult) -> list[float]:
    """The places of the layers, in the order in which the network has them."""
    return list(range(len(record.pruning["layers"])))


def layer_ticks(record: RunResult) -> dict[int, str]:
    """Place → name; in a deep network of the first, the last and some layers at even distances."""
    short = [layer["name"].removesuffix(".weight") for layer in record.pruning["layers"]]
    if len(short) <= NAMED_LAYERS:
        return dict(enumerate(short))
    last = len(short) - 1
    places = [round(last * tick / LAYER_TICKS) for tick in range(LAYER_TICKS + 1)]
    return {place: f"{short[place]} ({place + 1})" for place in places}


def _sizes_note(layers: Sequence[dict[str, Any]]) -> str:
    sizes = [layer["numel"] for layer in layers]
    if len(sizes) <= NAMED_LAYERS:
        return f"Weights of the layers, from left to right: {', '.join(f'{n:,}' for n in sizes)}."
    return (
        f"{len(sizes)} layers in the order of the network, of {min(sizes):,} to {max(sizes):,} "
        "weights; some are named, with their place."
    )


def mask_change(setting: Setting) -> Iterator[Drawing | NotDrawn]:
    """The share of the mask that each update changed, over the steps of training."""
    setting = _where_weights_return(setting)
    lacking = [g for g in setting.pruned() if g.done and not _all_have(g, changes)]
    why = "no record says how many weights returned in each update; new runs do"
    if _is_one_point(setting, changes):
        yield NotDrawn("mask_change", ONE_UPDATE)
        return
    found = _grid(setting, "Change of the mask in each update", changes, _update_steps)
    if found is None:
        if lacking:
            yield NotDrawn("mask_change", why)
        return
    figure, axes, groups = found
    _name_steps(setting, axes, "weights changed (%)")
    parts.colour_legend(figure, setting.optimizers)
    note = (
        "Pruned or brought back by the update, of all prunable weights. Where no weight returns "
        "the schedule alone decides; methods by which none does have no panel beside others."
    )
    told = [note, *_told(setting, groups, lacking, "returns of each update")]
    parts.footer(figure, setting.title, groups, *told, scores=False)
    yield parts.drawing("mask_change", figure, groups)


def _where_weights_return(setting: Setting) -> Setting:
    """Without the methods of which no run brought a weight back, unless that is all of them."""
    returned = {
        setting.tag(g) for g in setting.pruned() for r in g.done if r.pruning.get("returned")
    }
    own = [g for g in setting.groups if g.is_dense or setting.tag(g) in returned]
    return replace(setting, groups=tuple(own)) if returned else setting


def _told(setting: Setting, groups: list[Group], lacking: list[Group], what: str) -> list[str]:
    """Where the runs were made, and which groups are not drawn for want of ``what``."""
    return _notes_of_grid(setting, groups, lacking, what)


def _name_steps(setting: Setting, axes: Any, label: str) -> None:
    """The axes of a grid over the steps of training; from zero, both."""
    for row, sparsity in enumerate(setting.done_sparsities):
        for panel in axes[row]:
            panel.set_ylim(bottom=0)
            panel.set_xlim(left=0)
        panels.name_leftmost(axes[row], f"{percent(sparsity)} sparsity\n{label}")
    panels.name_lowest(axes, "training step")


def _update_steps(record: RunResult) -> list[float]:
    return [update["step"] for update in record.pruning["updates"]]


def changes(record: RunResult) -> list[float] | None:
    """Percent of the prunable weights that changed sides in each mask update.

    Newly pruned are as many as the zeros have grown by and the returned ones have made room for;
    both count. Older records have no returns by update: None, unless none returned at all.
    """
    updates, prunable = record.pruning["updates"], record.pruning["prunable"]
    known = all("returned" in update for update in updates)
    if not updates or not (known or record.pruning.get("returned") == 0):
        return None
    zeros = [0, *(update["zeros"] for update in updates)]
    return [
        100 * (after - before + 2 * update.get("returned", 0)) / prunable
        for before, after, update in zip(zeros, zeros[1:], updates, strict=False)
    ]


def magnitude_agreement(setting: Setting) -> Iterator[Drawing | NotDrawn]:
    """How far the updates choose as magnitude would in their place, over the steps."""
    others = [g for g in setting.groups if g.method != "magnitude" and not _regrows(g)]
    setting = replace(setting, groups=tuple(others))
    done = [group for group in setting.pruned() if group.done]
    lacking = [group for group in done if not _all_have(group, agreements)]
    if _is_one_point(setting, agreements):
        yield NotDrawn("magnitude_agreement", ONE_UPDATE)
        return
    title = "Agreement with magnitude pruning"
    found = _grid(setting, title, agreements, _measured_steps)
    if found is None:
        if lacking:
            yield NotDrawn("magnitude_agreement", "no record compares its masks; new runs do")
        return
    figure, axes, groups = found
    _name_steps(setting, axes, "agreement beyond chance")
    lowest = min(0.0, *(min(agreements(record) or [0]) for g in groups for record in g.done))
    for panel in axes.flat:
        panel.set_ylim(1.05 * lowest - 0.05, 1.05)
        panel.axhline(0, color=style.FAINT, linewidth=0.8, zorder=1, label="by chance")
    parts.colour_legend(figure, setting.optimizers)
    note = (
        "1: a mask update prunes the weights that magnitude would prune in its place; 0: no more "
        "of them than by chance (Cohen's κ). Magnitude chooses by the weights of that moment, as "
        "many, in the same scope, among those not pruned yet, or all where pruned weights return."
    )
    told = [note, *_told(setting, groups, lacking, "agreement")]
    parts.footer(figure, setting.title, groups, *told, scores=False)
    yield parts.drawing("magnitude_agreement", figure, groups)


def _is_one_point(setting: Setting, values: Values) -> bool:
    """Whether some runs have a value, and none has two, which a line needs."""
    counts = {len(values(record) or []) for group in setting.pruned() for record in group.done}
    return max(counts, default=0) == 1


def _regrows(group: Group) -> bool:
    """Whether weights are grown: what is dropped for them is the smallest."""
    return "REGROW_FRACTION" in group.spec


def agreements(record: RunResult) -> list[float] | None:
    """At the updates at which it was measured; None if it never was."""
    found = [each[AGREEMENT] for each in record.pruning["updates"] if AGREEMENT in each]
    return found or None


def _measured_steps(record: RunResult) -> list[float]:
    return [each["step"] for each in record.pruning["updates"] if AGREEMENT in each]


def _notes(
    wanted: list[Group], drawn: list[Group], lacking: list[Group] | None = None, what: str = ""
) -> list[str]:
    return [*parts.marks_note(drawn), *parts.absent_note(wanted, lacking or [], what)]


def _notes_of_grid(
    setting: Setting, drawn: list[Group], lacking: list[Group] | None = None, what: str = ""
) -> list[str]:
    wanted = setting.pruned()
    places, twins = parts.places_note(drawn), parts.twins_note(wanted)
    return [*twins, *places, *_notes(wanted, drawn, lacking, what)]


def _grid(
    setting: Setting, title: str, values: Values, places: Places
) -> tuple[Figure, Any, list[Group]] | None:
    """A row a sparsity, a column a method, in each a line an optimizer: means and intervals of
    ``values`` at their ``places``.

    Only groups all of whose runs have ``values``, and no twins; None without any.
    """
    whole = [g for g in setting.pruned() if g.done and _all_have(g, values)]
    groups = parts.without_twins(whole)
    if not groups:
        return None
    sparsities, tags = setting.done_sparsities, setting.tags
    draw = partial(_mean_line, values=values, places=places)
    figure = style.new_figure(2.4 + 4.0 * len(tags), 1.4 + 2.3 * len(sparsities), title)
    axes = figure.subplots(len(sparsities), len(tags), sharex=True, sharey="row", squeeze=False)
    for row, sparsity in enumerate(sparsities):
        for column, tag in enumerate(tags):
            own = [g for g in setting.pruned(sparsity) if setting.tag(g) == tag]
            panels.draw_each(axes[row, column], own, groups, draw)
    for column, tag in enumerate(tags):
        own = [g for g in setting.pruned() if setting.tag(g) == tag]
        axes[0, column].set_title(parts.panel_title(tag, own))
    return figure, axes, groups


def _mean_line(axes: Axes, group: Group, values: Values, places: Places) -> None:
    """One group; runs whose updates came after other steps (SPAM's resets delay them) by rank."""
    found = [values(record) or [] for record in group.done]
    table = np.array([row[: min(map(len, found))] for row in found])
    at = places(group.done[0])[: table.shape[1]]
    series = Series.of(group, group.label, style.colour_of(group.optimizer))
    look = {**series.line, "markevery": max(1, len(at) // MOST_MARKERS)}
    axes.plot(at, table.mean(axis=0), markersize=3.6, linewidth=1.2, **look)
    panels.draw_band(axes, at, table, series.colour)


def _all_have(group: Group, values: Values) -> bool:
    return all(values(record) is not None for record in group.done)


# -- weights -----------------------------------------------------------------


def weight_histogram(setting: Setting) -> Iterator[Drawing | NotDrawn]:
    """Weights before the first mask update and, by method, after training at the highest sparsity:
    a line an optimizer.
    """
    if not setting.done_sparsities:
        return
    wanted = setting.pruned(setting.done_sparsities[-1])
    pruned = [g for g in wanted if g.done]
    groups = [g for g in pruned if all(_histogram(record)["before"] for record in g.done)]
    if not groups:
        yield NotDrawn("weight_histogram", "no record counts its weights in bins; new runs do")
        return
    tags = [t for t in setting.tags if any(setting.tag(g) == t for g in groups)]
    title = f"Weights before and after pruning to {percent(wanted[0].sparsity)}"
    figure = style.new_figure(2.2 + 3.4 * (1 + len(tags)), 4.4, title)
    axes = figure.subplots(1, 1 + len(tags), sharex=True, sharey=True)
    firsts = {group.optimizer: group for group in reversed(groups)}
    for group in parts.without_twins(reversed(firsts.values())):
        _bins(axes[0], group, "before")
    axes[0].set_title("Before the first update")
    for panel, tag in zip(axes[1:], tags, strict=True):
        own = [g for g in groups if setting.tag(g) == tag]
        for group in parts.without_twins(own):
            _bins(panel, group, "after")
        panel.set_title(f"{parts.panel_title(tag, own)}")
    axes[0].set_yscale("log")  # of all that share its axis
    axes[0].set_ylim(bottom=0.8)
    axes[0].set_ylabel("weights in a bin (log)")
    for panel in axes:
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.set_xlabel("weight")
    parts.colour_legend(figure, list(dict.fromkeys(group.optimizer for group in groups)))
    lacking = [g for g in pruned if g not in groups]
    notes = [_bins_note(groups), *parts.twins_note(groups), *parts.places_note(groups)]
    notes += _notes(wanted, groups, lacking, "histogram")
    parts.footer(figure, setting.title, groups, *notes, scores=False)
    yield parts.drawing("weight_histogram", figure, groups)


def _bins_note(groups: Sequence[Group]) -> str:
    bins = _histogram(groups[0].done[0])
    width = (bins["high"] - bins["low"]) / len(bins["after"])
    edge = bins["high"] - width
    return (
        f"All prunable weights that are not zero, in bins {width:g} wide; means over the seeds. "
        f"Not drawn: those beyond ±{edge:g}, after training {_beyond(groups):.2g}% of them at most."
    )


def _beyond(groups: Sequence[Group]) -> float:
    """Percent: the largest share of its weights that a run has in the outermost bins."""
    counts = [_histogram(record)["after"] for group in groups for record in group.done]
    return max((100 * (each[0] + each[-1]) / (sum(each) or 1) for each in counts), default=0.0)


def _histogram(record: RunResult) -> dict[str, Any]:
    found: dict[str, Any] = record.pruning.get("histogram") or {"before": None}
    return found


def _bins(axes: Axes, group: Group, when: str) -> None:
    """Means over the seeds, without the outermost bins: these count all that lies beyond them."""
    found = [_histogram(record) for record in group.done]
    edges = np.linspace(found[0]["low"], found[0]["high"], len(found[0][when]) + 1)[1:-1]
    counts = np.array([each[when][1:-1] for each in found])
    colour = style.colour_of(group.optimizer)
    look: dict[str, Any] = {"color": colour, "linewidth": 1.1, "label": f"{group.label}, {when}"}
    axes.stairs(counts.mean(axis=0), edges, baseline=None, **look)
    draw = list((edges[:-1] + edges[1:]) / 2)
    panels.draw_band(axes, draw, counts, colour, least=0.1)
