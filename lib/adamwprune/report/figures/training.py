"""One run by itself: loss, accuracy, sparsity and learning rate over its epochs."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes

from adamwprune.records.record import RunResult
from adamwprune.report import style
from adamwprune.report.figures import panels, parts
from adamwprune.report.figures.parts import Drawing
from adamwprune.report.groups import Group, Setting, group_runs

TEST, TRAIN = style.INK, "#9a9a9a"  # colours are optimizers, and this is one run


def example(setting: Setting) -> Iterator[Drawing]:
    """The last pruned run of the matrix that is done, or the last dense one."""
    for group in reversed([*setting.dense(), *setting.pruned()]):
        if group.done:
            yield single_run(group.done[0], setting.title)
            return


def single_run(record: RunResult, title: str) -> Drawing:
    """``training_plot`` of one record that has at least one epoch."""
    figure = style.new_figure(11, 7.4, record.spec.slug)
    axes = figure.subplots(2, 2)
    _pair(axes[0, 0], record, "loss", 1)
    panels.loss_axis(axes[0, 0])
    axes[0, 0].set_title("Loss")
    _pair(axes[0, 1], record, "accuracy", 100)
    panels.percent_axis(axes[0, 1], "accuracy")
    axes[0, 1].set_title("Accuracy")
    _sparsity(axes[1, 0], record)
    _learning_rate(axes[1, 1], record)
    for panel in axes.flat:
        panel.set_xlabel("training step")
        panel.set_xlim(left=0)
    handles = axes[0, 0].get_lines()
    figure.legend(handles=handles, loc="outside right upper")
    groups: list[Group] = group_runs([record.spec], [record])
    parts.footer(figure, title, groups, f"run {record.run_id}")
    return parts.drawing("training_plot", figure, groups)


def _pair(axes: Axes, record: RunResult, what: str, scale: float) -> None:
    steps = [entry["step"] for entry in record.history]
    for part, colour, marker in (("train", TRAIN, "o"), ("test", TEST, "s")):
        values = [scale * entry[f"{part}_{what}"] for entry in record.history]
        label = "training set" if part == "train" else f"{record.spec.held_out} set"
        axes.plot(steps, values, color=colour, marker=marker, label=label)


def _sparsity(axes: Axes, record: RunResult) -> None:
    updates, prunable = record.pruning["updates"], record.pruning["prunable"]
    steps = [0, *(update["step"] for update in updates), record.history[-1]["step"]]
    values = [0.0, *(100 * update["zeros"] / prunable for update in updates)]
    axes.step(steps, [*values, values[-1]], where="post", color=style.INK)
    counted = [100 * entry["sparsity"] for entry in record.history]
    at = [entry["step"] for entry in record.history]
    axes.plot(at, counted, color=style.INK, marker="D", linestyle="none")
    axes.set_ylim(-3, 103)
    axes.set_ylabel("zeros among prunable weights (%)")
    axes.set_title("Sparsity (line: mask updates, markers: counted)")


def _learning_rate(axes: Axes, record: RunResult) -> None:
    steps = [entry["step"] for entry in record.history]
    axes.plot(steps, [entry["lr"] for entry in record.history], color=style.INK, marker="o")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("learning rate at the epoch's end")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_title("Learning rate")
