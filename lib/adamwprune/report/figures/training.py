"""One run by itself: its metrics, sparsity and learning rate over its epochs."""

import math
from collections.abc import Iterator, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adamwprune.base.metrics import Metric
from adamwprune.records.record import RunResult
from adamwprune.report import style
from adamwprune.report.figures import panels, parts, scales
from adamwprune.report.figures.parts import Drawing, NotDrawn
from adamwprune.report.groups import Group, Setting, group_runs

TEST, TRAIN = style.INK, "#9a9a9a"  # colours are optimizers, and this is one run


def example(setting: Setting) -> Iterator[Drawing | NotDrawn]:
    """The last pruned run of the matrix that is done, or the last dense one."""
    for group in reversed([*setting.dense(), *setting.pruned()]):
        if group.done:
            yield single_run(group.done[0], setting.title)
            return


def single_run(record: RunResult, title: str) -> Drawing | NotDrawn:
    """``training_plot`` of one record."""
    groups = group_runs([record.spec], [record])
    return parts.course("training_plot", partial(_panels, record, title, groups), groups)


def _panels(record: RunResult, title: str, groups: Sequence[Group]) -> Figure:
    headline, *others = record.judged_by
    panels_of = [*others, headline]
    rows = math.ceil((len(panels_of) + 2) / 2)
    figure = style.new_figure(11, 3.7 * rows, record.spec.slug)
    axes = figure.subplots(rows, 2)
    for panel, metric in zip(axes.flat, panels_of, strict=False):
        _metric(panel, record, metric)
    shown = axes.flat[len(panels_of)]
    panels.draw_sparsity(shown, record, linewidth=1.6, color=style.INK, marker="D")
    _learning_rate(axes.flat[len(panels_of) + 1], record)
    for panel in axes.flat[len(panels_of) + 2 :]:
        panel.set_axis_off()
    for panel in axes.flat:
        panel.set_xlabel("training step")
        panel.set_xlim(left=0)
    handles = axes[0, 0].get_lines()
    figure.legend(handles=handles, loc="outside right upper")
    parts.footer(figure, title, groups, f"run {record.run_id}")
    return figure


def _metric(axes: Axes, record: RunResult, metric: Metric) -> None:
    steps = [entry["step"] for entry in record.history]
    for part, colour, marker in (("train", TRAIN, "o"), ("test", TEST, "s")):
        values = [metric.shown(entry[f"{part}_{metric.name}"]) for entry in record.history]
        label = "training set" if part == "train" else f"{record.spec.held_out} set"
        axes.plot(steps, values, color=colour, marker=marker, label=label)
    if metric == record.headline:
        scales.metric_axis(axes, metric, "")
    else:
        scales.loss_axis(axes, metric)
    axes.set_title(metric.label.capitalize())


def _learning_rate(axes: Axes, record: RunResult) -> None:
    steps = [entry["step"] for entry in record.history]
    axes.plot(steps, [entry["lr"] for entry in record.history], color=style.INK, marker="o")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("learning rate at the epoch's end")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_title("Learning rate")
