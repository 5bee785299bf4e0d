"""Every figure as a function of records. A new figure is a function named in ``FIGURES``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from adamwprune.errors import UserError
from adamwprune.record import RunResult
from adamwprune.report import style
from adamwprune.report.figures import memory, models, optimizers, training
from adamwprune.report.figures.parts import Drawing
from adamwprune.report.groups import Setting, group_runs, settings
from adamwprune.spec import RunSpec

FIGURES: tuple[Callable[[Setting], Iterator[Drawing]], ...] = (
    optimizers.baseline,
    optimizers.at_each_sparsity,
    memory.summary,
    memory.gpu,
    models.per_optimizer,
    models.selection,
    training.example,
)


def draw_all(
    expected: Sequence[RunSpec],
    records: Sequence[RunResult],
    folder: Path,
    formats: Sequence[str] = ("png",),
) -> list[Path]:
    """Draw every figure for which a run is done; the files written, in their order.

    An expected run without a done record is drawn as missing or failed; a record that is not
    expected plays no part. Raises :class:`UserError` where ``folder`` cannot be written.
    """
    paths: list[Path] = []
    with style.sheet():
        for setting in settings(expected, records):
            for draw in FIGURES:
                paths += _write(draw(setting), folder, formats, setting.prefix)
    return paths


def draw_comparison(
    records: Sequence[RunResult], folder: Path, formats: Sequence[str] = ("png",)
) -> list[Path]:
    """``model_comparison`` and ``accuracy_evolution`` of chosen records, seeds together."""
    for record in records:
        _require_done(record)
    specs = [record.spec for record in records]
    with style.sheet():
        title = "; ".join(setting.title for setting in settings(specs, records))
        groups = group_runs(specs, records)
        return _write(models.comparison(groups, "Runs side by side", title), folder, formats)


def draw_training(record: RunResult, folder: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """``training_plot`` of one record."""
    _require_done(record)
    with style.sheet():
        (setting,) = settings([record.spec], [record])
        return _write([training.single_run(record, setting.title)], folder, formats)


def _require_done(record: RunResult) -> None:
    if record.status != "done":
        raise UserError(f"{record.run_id}: this run {record.status}; there is nothing to draw")


def _write(
    drawings: Iterable[Drawing], folder: Path, formats: Sequence[str], prefix: str = ""
) -> list[Path]:
    return [
        path
        for each in drawings
        for path in style.save(each.figure, folder / (prefix + each.name), formats, each.records)
    ]
