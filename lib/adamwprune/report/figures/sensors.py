"""What a GPU's driver reported over the course of runs: utilisation, power and memory."""

from collections.abc import Iterator
from typing import Any

from matplotlib.ticker import MaxNLocator

from adamwprune.records.record import RunResult
from adamwprune.report import style
from adamwprune.report.figures import models, parts
from adamwprune.report.figures.parts import Drawing
from adamwprune.report.groups import Setting, percent

SECONDS = "seconds"
QUANTITIES = {  # as the records name them: title, axis, factor
    "utilization": ("Utilisation", "time in which a kernel ran (%)", 100.0),
    "power": ("Power", "power (W)", 1.0),
    "memory": ("Memory taken of the whole GPU", "memory (MiB)", 1 / 2**20),
}


def gpu_over_time(setting: Setting) -> Iterator[Drawing]:
    """The first seed's runs of adamw and adamwprune, dense and at the highest sparsity; nothing
    where no driver reported anything.
    """
    highest = max(setting.done_sparsities, default=0.0)
    optimizers = models.headline_optimizers(setting)
    own = [g for g in setting.groups if g.optimizer in optimizers]
    chosen = [g for g in own if g.is_dense or g.sparsity == highest]
    groups = [g for g in chosen if g.done and _columns(g.done[0])]
    if not groups:
        return
    title = "The GPU over the course of training"
    if highest:
        title += f", dense and pruned to {percent(highest)}"
    shown = [name for name in QUANTITIES if any(name in _columns(g.done[0]) for g in groups)]
    figure = style.new_figure(3.6 + 4.2 * len(shown), 4.6, title)
    series = parts.flagged(models.chosen_series(groups))
    for axes, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        heading, label, factor = QUANTITIES[name]
        for each in series:
            columns = _columns(each.group.done[0])
            values = [factor * value for value in columns.get(name, [])]
            at = columns[SECONDS][: len(values)]
            look: dict[str, Any] = {**each.line, "markevery": max(1, len(at) // 8)}
            axes.plot(at, values, linewidth=1.0, alpha=0.8, **look)
        axes.set_title(heading)
        axes.set_ylabel(label)
        axes.set_ylim(0, 103 if name == "utilization" else 1.1 * axes.get_ylim()[1])
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("time since the start of training (s)")
    parts.legend(figure, series)
    note = (
        "Of the first seed's run, as the driver reports it: of the whole device, with whatever "
        "else runs on it."
    )
    lacking = [g for g in chosen if g.done and g not in groups]
    notes = [note, *parts.marks_note(groups), *parts.absent_note([], lacking, "driver's report")]
    parts.footer(figure, setting.title, groups, *notes, scores=False, seconds=True)
    yield parts.drawing("gpu_over_time", figure, groups)


def _columns(record: RunResult) -> dict[str, list[float]]:
    found: dict[str, list[float]] = (record.memory.get("device") or {}).get("sensors") or {}
    return found
