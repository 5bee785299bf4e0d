"""Where the bytes are: by owner at the end of training, and of the allocator over time."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from adamwprune.report import owned_bytes, style
from adamwprune.report.figures import models, panels, parts
from adamwprune.report.figures.parts import Drawing, NotDrawn, Series
from adamwprune.report.groups import Group, Setting, Statistic, percent

GPU_SPARSITY = 0.5
COMPARED = ("adamw", "adamwprune")
LABELS = {
    "max_exp_avg_sq": "max_exp_avg_sq\n(AMSGrad's third state)",
    "kept_weights": "kept weights (pruner)",
    "initial_weights": "initial weights (pruner)",
    "scores": "scores (pruner)",
    "masks": "masks (pruner)",
    "other": "other (batch norm,\ncounters)",
}


def summary(setting: Setting) -> Iterator[Drawing]:
    """Bytes by owner for every optimizer and method at the highest sparsity that was run."""
    if not setting.done_sparsities:
        return
    highest = setting.done_sparsities[-1]
    chosen = [g for g in setting.groups if g.is_dense or g.sparsity == highest]
    origins = parts.origins_of(chosen)
    labels = [origins.label(_row_label(group), group.done) for group in chosen]
    title = f"Memory by owner: every optimizer, dense and pruned to {percent(highest)}"
    figure = style.new_figure(13, 2.6 + 0.3 * len(chosen), title)
    left, right = figure.subplots(1, 2, width_ratios=[1.7, 1], sharey=True)
    colours = colours_of(chosen)
    _stack(left, chosen, colours)
    _stack(right, chosen, colours, pruner_only=True)
    panels.category_axis(left, labels)
    right.tick_params(axis="y", length=0)
    left.set_title("All persistent bytes of training, total at the right of each bar")
    right.set_title("Of these, what pruning itself keeps")
    right.grid(visible=False, axis="y")
    for axes in (left, right):
        axes.set_xlabel("KiB (1,024 bytes), counted in the tensors")
        for row, (above, below) in enumerate(itertools.pairwise(chosen), 1):
            if above.optimizer != below.optimizer:
                axes.axhline(row - 0.5, color="#c8c8c8", linewidth=0.8)
    parts.key(figure, owner_patches(colours), "owner")
    notes = []
    if {group.is_dense for group in chosen} == {True, False}:
        notes.append("Each pruned row compares with the dense row of the same optimizer.")
    notes.append(
        "Weights are stored densely: zeros save no bytes here. Bytes do not depend on the seed."
    )
    if any("STATE_CRITERION" in group.spec for group in chosen):
        notes.append(owned_bytes.STATE_CAVEAT)
    parts.footer(figure, setting.title, chosen, *notes, scores=False)
    yield parts.drawing("memory_efficiency_summary", figure, chosen)


def _row_label(group: Group) -> str:
    if group.is_dense:
        return f"{group.optimizer}  dense"
    return f"{group.optimizer}  {group.method}, {group.spec['MASK_STORAGE']} mask"


def colours_of(groups: Iterable[Group]) -> dict[str, str]:
    """Owner of bytes → its colour, in the order in which they are stacked."""
    owners = {name for g in groups if g.done for name in owned_bytes.owners(g.done[0].memory)}
    colours = style.owner_colours(owners)
    return {name: colours[name] for name in sorted(owners, key=_owner_order)}


def owner_patches(colours: Mapping[str, str]) -> list[Patch]:
    """What a legend of owners has."""
    return [Patch(facecolor=c, label=LABELS.get(name, name)) for name, c in colours.items()]


def _stack(
    axes: Axes, groups: Sequence[Group], colours: Mapping[str, str], *, pruner_only: bool = False
) -> None:
    """Stacked bars of one run a group (bytes do not depend on the seed)."""
    longest = 1.0
    for row, group in enumerate(groups):
        if not group.done:
            panels.mark_absent(axes, row, group.absence)
            continue
        memory = group.done[0].memory
        sizes = owned_bytes.owners(memory)
        if pruner_only:
            sizes = {name: size for name, size in sizes.items() if name in memory["pruner"]}
        end = 0.0
        for owner in filter(sizes.__contains__, colours):
            size = sizes[owner] / 1024
            look: dict[str, Any] = {"color": colours[owner], "label": owner}
            # Not snapped to pixels: what is a thousandth of one would be one on some bars.
            axes.barh(row, size, left=end, height=0.66, snap=False, **look)
            end += size
        longest = max(longest, end)
        panels.write_beside(axes, row, end, f"{end:,.1f}")
    axes.set_xlim(0, 1.16 * longest)


def _owner_order(owner: str) -> tuple[int, str]:
    """Known owners as listed; a state that is not known here among the optimizer's."""
    known = list(style.OWNERS)
    place = known.index(owner) if owner in known else known.index("max_exp_avg_sq")
    return place, owner


# -- the allocator -----------------------------------------------------------


def gpu(setting: Setting) -> Iterator[Drawing | NotDrawn]:
    """The allocator's bytes over time, adamw's pruned runs against adamwprune's.

    Only from runs that had a GPU to themselves; nothing is drawn unless both optimizers did.
    """
    found = {s: _measured(setting, s) for s in setting.sparsities}
    shared = [s for s, own in found.items() if {g.optimizer for g in own} == set(COMPARED)]
    if not shared:
        if any(map(_has_timelines, setting.groups)):
            why = "no runs of adamw and adamwprune that had a GPU to themselves; make measure"
            yield NotDrawn(f"adamw-{100 * GPU_SPARSITY:g}-vs-adamwprune-gpu_comparison", why)
        return
    sparsity = GPU_SPARSITY if GPU_SPARSITY in shared else shared[0]
    groups = found[sparsity]
    dense = [g for g in setting.dense() if g.optimizer in COMPARED and _has_timelines(g)]
    series = parts.flagged(models.chosen_series(groups), dense)
    title = f"Memory allocated on the GPU at {percent(sparsity)} sparsity, adamw and adamwprune"
    figure = style.new_figure(17, 4.6, title)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.3, 1, 1])
    for each in series:
        _timeline(left, each)
    left.set_xlabel("time since the start of training (s)")
    left.set_ylabel(f"allocated by tensors (MiB; axis starts at {left.get_ylim()[0]:.4g})")
    left.set_title("Over the first seed's run")
    panels.draw_bars(middle, series, _peak, lambda value: f"{value.text()} MiB")
    middle.set_xlabel("peak (MiB)")
    middle.set_title("Peak of the whole run")
    _above_dense(right, {group.optimizer: _peak(group).mean for group in dense}, series)
    right.sharey(middle)
    right.tick_params(axis="y", labelleft=False)
    parts.legend(figure, series)
    note = "All tensors of the process: activations and the data set on the device included."
    groups = [*groups, *dense]
    notes = [note, *parts.marks_note(groups), *parts.places_note(groups)]  # dense runs have no row
    parts.footer(figure, setting.title, groups, *notes, scores=False, seconds=True)
    name = f"adamw-{100 * sparsity:g}-vs-adamwprune-gpu_comparison"
    yield parts.drawing(name, figure, groups)


def _measured(setting: Setting, sparsity: float) -> list[Group]:
    """adamw's and adamwprune's groups whose runs were all alone on a GPU."""
    return [
        group
        for optimizer in COMPARED
        for group in setting.pruned(sparsity, optimizer)
        if _has_timelines(group) and all(map(parts.is_alone, group.done))
    ]


def _has_timelines(group: Group) -> bool:
    devices = [run.memory.get("device") or {} for run in group.done]
    return bool(devices) and all(each.get("timeline") for each in devices)


def _timeline(axes: Axes, series: Series) -> None:
    points = series.group.done[0].memory["device"]["timeline"]
    seconds = [point[1] for point in points]
    allocated = [point[2] / 2**20 for point in points]
    look = {**series.line, "label": None, "markevery": max(1, len(points) // 8)}
    axes.plot(seconds, allocated, **look)


def _peak(group: Group) -> Statistic:
    return group.statistic(lambda record: record.memory["device"]["peak"] / 2**20)


def _above_dense(axes: Axes, dense: Mapping[str, float], series: Sequence[Series]) -> None:
    """By how much each peak exceeds that of the same optimizer's ``dense`` runs."""
    if any(each.group.optimizer not in dense for each in series):
        axes.text(0.5, 0.5, "no dense run was measured", transform=axes.transAxes, ha="center")
        return
    panels.draw_bars(
        axes,
        series,
        lambda group: Statistic(group.n, 1024 * (_peak(group).mean - dense[group.optimizer]), None),
        lambda value: f"{value.mean:+,.1f} KiB",
    )
    axes.set_xlabel("peak minus the dense run's peak (KiB)")
    axes.set_title("Above the same optimizer's dense run")
