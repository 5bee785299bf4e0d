"""Every figure as a function of records. A new figure is a function named in ``FIGURES``."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NoReturn, TypeVar

from adamwprune.base.errors import UserError
from adamwprune.base.files import refusing, write_text
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult
from adamwprune.report import style
from adamwprune.report.figures import (
    masks,
    memory,
    models,
    operations,
    optimizers,
    plotted,
    processes,
    savings,
    sensors,
    sparsity,
    steps,
    sweeps,
    times,
    training,
)
from adamwprune.report.figures.parts import Drawing, NotDrawn
from adamwprune.report.groups import (
    Group,
    Setting,
    axis_name,
    group_runs,
    joined_setting,
    judged_by,
    settings,
)
from adamwprune.report.sweeps import Sweep
from adamwprune.report.sweeps import sweeps as found_sweeps

Draw = Callable[[Setting], Iterator[Drawing | NotDrawn]]
FIGURES: tuple[Draw, ...] = (
    optimizers.baseline,
    optimizers.at_each_sparsity,
    sparsity.accuracy_against_sparsity,
    operations.accuracy_against_speed_up,
    operations.methods,
    sparsity.pareto,
    memory.summary,
    memory.gpu,
    savings.of_setting,
    sensors.gpu_over_time,
    models.per_optimizer,
    models.selection,
    training.example,
    masks.layer_density,
    masks.mask_change,
    masks.magnitude_agreement,
    masks.weight_histogram,
    steps.gradient_norms,
    times.time_per_run,
)
# Bytes, layers and schedules need not vary along an axis: where these do not, they are drawn once.
OFTEN_ALIKE = (memory.summary, masks.layer_density, masks.mask_change)
SWEEPS: tuple[Callable[[Sweep], Iterator[Drawing | NotDrawn]], ...] = (
    sweeps.along_axis,
    sweeps.heat_map,
    sweeps.courses,
)
SETTINGS = 4  # of a sweep that have all figures of their own
NAMED = 3  # figures in a sentence; of more there is a count
FORMATS = ("png", "svg")
# Of the published comparison, those that stand for the others; the tracks have their own.
PUBLISHED = (
    "optimizer_comparison_baseline",
    "optimizer_comparison_50_pruning",
    "optimizer_comparison_70_pruning",
    "optimizer_comparison_90_pruning",
    "accuracy_against_sparsity",
    "pareto_accuracy_bytes",
    "memory_efficiency_summary",
    "model_comparison",
    "layer_density",
    "mask_change",
    "weight_histogram",
    "gradient_norms",
)
DATA = "data"  # the folder, beside the figures, of what they plot
Shown = TypeVar("Shown")
Tell = Callable[[str], None]


def draw_all(
    expected: Sequence[RunSpec],
    records: Sequence[RunResult],
    folder: Path,
    formats: Sequence[str] = ("png",),
    *,
    data: bool = False,
    names: Collection[str] = (),
    tell: Tell = lambda line: None,
) -> list[Path]:
    """Draw every figure for which a run is done, or those of these ``names``; the files written,
    in their order.

    An expected run without a done record is drawn as missing or failed; a record that is not
    expected plays no part. A figure whose data no record holds is not drawn, and ``tell`` is told
    why. With ``data``, what each figure plots is written to ``folder/data/NAME.json``. Figures are
    drawn on all cores. One that cannot be drawn is named once all others are there: raises
    :class:`UserError` where ``folder`` cannot be written.
    """

    lacking: dict[str, list[str]] = {}  # by reason

    def tasks() -> Iterator[processes.Task[list[Path]]]:
        for prefix, each in _every_drawing(expected, records, tell):
            name = prefix + each.name
            if names and name not in names:
                continue
            if isinstance(each, NotDrawn):
                lacking.setdefault(each.why, []).append(name)
            else:
                yield name, partial(write, each, folder / name, formats, data=data)

    with style.sheet(expected):
        due = list(tasks())
        for why, own in lacking.items():
            tell(f"{_listed(own)} not drawn: {why}")
        return list(chain.from_iterable(processes.run(due, processes.cores())))


def _listed(names: Sequence[str]) -> str:
    """``sweep is``, ``sweep, training_plot and 3 more are``."""
    if len(names) == 1:
        return f"{names[0]} is"
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    *first, last = [*names[: NAMED if more else None], *more]
    return f"{', '.join(first)} and {last} are"


def _every_drawing(
    expected: Sequence[RunSpec], records: Sequence[RunResult], tell: Tell
) -> Iterator[tuple[str, Drawing | NotDrawn]]:
    """Every figure with the prefix of its name. Along the axes of a sweep there are figures of the
    whole; a setting of it has its own where it compares something and there are few of them.
    """
    often_alike = [draw for draw in FIGURES if draw in OFTEN_ALIKE]
    of_each = [draw for draw in FIGURES if draw not in OFTEN_ALIKE]
    for sweep in found_sweeps(settings(expected, records)):
        for each in _drawings(SWEEPS, sweep):
            yield sweep.prefix, each
        own = [setting for setting in sweep.settings if not sweep.axes or len(setting.groups) > 1]
        if len(own) > SETTINGS:
            some = f"{len(own)} combinations of {', '.join(map(axis_name, sweep.axes))}"
            tell(f"figures of each of {some} are not drawn; one value of each draws them")
            continue
        for setting in own:
            for each in _drawings(of_each, setting):
                yield setting.prefix, each
        for draw in often_alike:
            yield from _where_it_varies(draw, own)


def _where_it_varies(
    draw: Draw, own: Sequence[Setting]
) -> Iterator[tuple[str, Drawing | NotDrawn]]:
    """A figure of each setting; one stands for all along an axis that changes nothing of it."""
    alike: dict[str, dict[Setting, list[Drawing | NotDrawn]]] = {}
    for setting in own:
        drawings = list(_drawings((draw,), setting))
        shown = repr([(each.name, _shown(each)) for each in drawings]) if len(own) > 1 else ""
        alike.setdefault(shown, {})[setting] = drawings
    for same in alike.values():
        joined = joined_setting([*same], own)
        due = {joined: list(_drawings((draw,), joined))} if joined else same
        for setting, drawings in due.items():
            for each in drawings:
                yield setting.prefix, each


def _shown(each: Drawing | NotDrawn) -> object:
    """What a figure plots; why it is not drawn; or itself, where it cannot be drawn."""
    if isinstance(each, NotDrawn):
        return each.why
    try:
        return plotted.to_text(plotted.plotted(each.figure))
    except Exception:  # noqa: BLE001  it is named when it is drawn
        return each


def _drawings(
    figures: Iterable[Callable[[Shown], Iterator[Drawing | NotDrawn]]], shown: Shown
) -> Iterator[Drawing | NotDrawn]:
    """All figures of a setting; where what makes some breaks, one that breaks when it is drawn."""
    for draw in figures:
        try:
            yield from draw(shown)
        except Exception as error:  # noqa: BLE001  the other figures can still be drawn
            yield Drawing(draw.__name__, partial(_raise, error), ())


def _raise(error: Exception) -> NoReturn:
    raise error


def draw_savings(
    records: Iterable[RunResult], folder: Path, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """``memory_efficiency_summary`` and ``memory_over_steps`` of the runs of a study of memory, and
    what they plot; the files written.
    """
    with style.sheet():
        return [
            path
            for each in savings.of_study(records)
            for path in write(each, folder / each.name, formats, data=True)
        ]


def draw_comparison(
    records: Sequence[RunResult],
    folder: Path,
    formats: Sequence[str] = ("png",),
    *,
    tell: Tell = lambda line: None,
) -> list[Path]:
    """``model_comparison`` and ``accuracy_evolution`` of chosen records, seeds together.

    Runs that are judged by different metrics stand in figures of their own, whose names begin with
    the metric's. ``tell`` is told of a figure that is not drawn, and why.
    """
    for record in records:
        _require_done(record)
    specs = [record.spec for record in records]
    with style.sheet(specs):
        title = "; ".join(setting.title for setting in settings(specs, records))
        by_metric: dict[str, list[Group]] = {}
        for group in group_runs(specs, records):
            by_metric.setdefault(judged_by([group]).heading, []).append(group)
        paths = []
        for groups in by_metric.values():
            prefix = f"{judged_by(groups).name}-" if len(by_metric) > 1 else ""
            for each in models.comparison(groups, "Runs side by side", title):
                if isinstance(each, NotDrawn):
                    tell(f"{prefix}{each.name} is not drawn: {each.why}")
                else:
                    paths += write(each, folder / f"{prefix}{each.name}", formats)
        return paths


def draw_training(record: RunResult, folder: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """``training_plot`` of one record."""
    _require_done(record)
    with style.sheet():
        (setting,) = settings([record.spec], [record])
        drawing = training.single_run(record, setting.title)
        if isinstance(drawing, NotDrawn):
            raise UserError(f"{record.run_id}: {drawing.why}")
        return write(drawing, folder / drawing.name, formats)


def _require_done(record: RunResult) -> None:
    if record.status != "done":
        raise UserError(f"{record.run_id}: this run {record.status}; there is nothing to draw")


def write(
    drawing: Drawing, stem: Path, formats: Sequence[str], *, data: bool = False
) -> list[Path]:
    """The files of one figure; its images name the digest of what they plot."""
    text = plotted.to_text(plotted.plotted(drawing.figure))
    named = {"Data": plotted.digest(text)}
    paths = style.save(drawing.figure, stem, formats, drawing.records, named)
    if data:
        path = stem.parent / DATA / f"{stem.name}.json"
        with refusing(f"cannot write {path}"):
            write_text(path, text)
        paths.append(path)
    return paths
