"""What pruning saves of training's memory, each way to keep masks and states side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult
from adamwprune.report import owned_bytes, style
from adamwprune.report.figures import memory, panels, parts
from adamwprune.report.figures.parts import Drawing
from adamwprune.report.groups import Group, Setting, group_runs, percent

KEPT = {
    "bool": "mask of bytes",
    "bits": "mask of bits",
    "implied": "mask implied",
    "packed": "states packed",
}
PEAK: dict[str, Any] = {"marker": "|", "markersize": 13, "markeredgewidth": 1.6, "color": style.INK}
NOTES = {
    "bytes": "Counted in the tensors; gradients as there are before a step frees them. Activations "
    "are not counted. Bytes do not depend on the seed.",
    "steps": "Bytes that are held from a step on, as a share of AdamW's dense training. A line "
    "falls where masks are updated.",
}


def of_study(records: Iterable[RunResult]) -> Iterator[Drawing]:
    """``memory_efficiency_summary`` and ``memory_over_steps``, a panel a network.

    Nothing is drawn of one whose dense training is not there.
    """
    found = [each for each in _by_network(records) if _is_plain(each[0])]
    if found:
        yield summary(found)
        yield over_steps(found)


def of_setting(setting: Setting) -> Iterator[Drawing]:
    """``memory_over_steps`` of runs whose states are packed, beside the others there are."""
    groups = [group for group in setting.groups if group.done and _has_course(group)]
    if any(group.spec.values.get("MASK_STORAGE") == "packed" for group in groups):
        yield over_steps([sorted(groups, key=lambda group: not group.is_dense)])


def _has_course(group: Group) -> bool:
    return "course" in group.done[0].memory


def way(spec: RunSpec) -> str:
    """How a run keeps what it must: ``state 90%, states packed, gradients released``."""
    released = ", gradients released" if spec["RELEASE_GRADIENTS"] else ""
    if "MASK_STORAGE" not in spec:
        return f"dense{released}"
    initial = f", from {percent(spec['INITIAL_SPARSITY'])} on" if spec["INITIAL_SPARSITY"] else ""
    kept = KEPT[spec["MASK_STORAGE"]]
    return f"{spec['PRUNING_METHOD']} {percent(spec.sparsity)}, {kept}{released}{initial}"


def _by_network(records: Iterable[RunResult]) -> list[list[Group]]:
    """Plain dense training first, then the ways in one order for all: that of the records."""
    found: dict[object, list[RunResult]] = {}
    ways: dict[str, int] = {}
    for record in records:
        found.setdefault((record.spec["MODEL"], record.spec["DATASET"]), []).append(record)
        ways.setdefault(way(record.spec), len(ways))
    return [
        sorted(
            group_runs([record.spec for record in own], own),
            key=lambda group: (not _is_plain(group), ways[way(group.spec)]),
        )
        for own in found.values()
    ]


def _is_plain(group: Group) -> bool:
    return group.is_dense and not group.spec["RELEASE_GRADIENTS"]


def _length(networks: Sequence[Sequence[Group]]) -> str:
    """How long each network is trained."""
    found = [own[0].done[0] for own in networks]
    return "; ".join(f"{each.spec['MODEL']}, {each.history[-1]['step']:,} steps" for each in found)


def _total(group: Group) -> int:
    return int(group.done[0].memory["total"])


def _title(groups: Sequence[Group]) -> str:
    spec = groups[0].spec
    return f"{spec['MODEL']} on {spec['DATASET']}, {spec['OPTIMIZER']}"


def summary(networks: Sequence[Sequence[Group]]) -> Drawing:
    """Bytes by owner at the end, and where the peak was."""
    groups = [group for own in networks for group in own]
    rows = sum(map(len, networks))
    title = "Memory of training, dense and pruned, by what is kept"
    figure = style.new_figure(11.5, 2.2 + 0.36 * rows, title)
    heights = [len(own) for own in networks]
    columns = figure.subplots(len(networks), 1, height_ratios=heights, squeeze=False)[:, 0]
    colours, origins = memory.colours_of(groups), parts.origins_of(groups)
    for axes, own in zip(columns, networks, strict=True):
        _bars(axes, own, colours)
        axes.set_title(_title(own))
        labels = [origins.label(way(group.spec), group.done) for group in own]
        panels.category_axis(axes, labels)
    columns[-1].set_xlabel("share of AdamW's dense training, by owner")
    peak = Line2D([], [], linestyle="none", label="peak of any step", **PEAK)
    parts.key(figure, [*memory.owner_patches(colours), peak], "owner")
    parts.footer(figure, _length(networks), groups, NOTES["bytes"], scores=False)
    return parts.drawing("memory_efficiency_summary", figure, groups)


def _bars(axes: Axes, groups: Sequence[Group], colours: Mapping[str, str]) -> None:
    """A bar a group."""
    dense = _total(groups[0])
    for row, group in enumerate(groups):
        found = group.done[0].memory
        sizes = owned_bytes.owners(found)
        end = 0.0
        for owner in filter(sizes.__contains__, colours):
            size = sizes[owner] / dense
            look: dict[str, Any] = {"color": colours[owner], "label": owner}
            axes.barh(row, size, left=end, height=0.66, snap=False, **look)
            end += size
        peak = found["peak"] / dense
        axes.plot([peak], [row], linestyle="none", **PEAK)
        said = f"{found['total'] / 1e6:,.2f} MB, {end:.0%}"
        panels.write_beside(axes, row, max(end, peak), f"{said}; peak {peak:.0%}")
    axes.set_xlim(0, 1.25 * max(group.done[0].memory["peak"] for group in groups) / dense)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def over_steps(networks: Sequence[Sequence[Group]]) -> Drawing:
    """Bytes from step to step."""
    groups = [group for own in networks for group in own]
    ways = list(dict.fromkeys(way(group.spec) for group in groups))
    colours = dict(zip(ways, [style.INK, *style.distinct(len(ways) - 1)], strict=True))
    title, origins = "Memory of training over its steps", parts.origins_of(groups)
    figure = style.new_figure(6.6 * len(networks) + 3.5, 4.6, title)
    for axes, own in zip(
        figure.subplots(1, len(networks), squeeze=False)[0], networks, strict=True
    ):
        dense = _total(own[0])
        for group in own:
            _course(axes, group, dense, colours[way(group.spec)])
        axes.set_title(origins.label(_title(own), [run for group in own for run in group.done]))
        axes.set_xlabel("training step")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    figure.axes[0].set_ylabel("bytes, of AdamW's dense training")
    handles = [
        Line2D([], [], color=colours[each], label=each, linestyle=(0, (2, 2)) if not n else "-")
        for n, each in enumerate(ways)
    ]
    parts.key(figure, handles)
    parts.footer(figure, _length(networks), groups, NOTES["steps"], scores=False)
    return parts.drawing("memory_over_steps", figure, groups)


def _course(axes: Axes, group: Group, dense: int, colour: str) -> None:
    record = group.done[0]
    course = record.memory["course"]
    steps = [*course["step"], record.history[-1]["step"]]
    shares = [total / dense for total in course["total"]]
    # Over the others: a mask that is implied takes the same.
    look: dict[str, Any] = {"linestyle": (0, (2, 2)), "zorder": 3} if _is_plain(group) else {}
    axes.plot(steps, [*shares, shares[-1]], drawstyle="steps-post", color=colour, **look)
