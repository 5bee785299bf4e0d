"""What the report shows, as plain values that JSON can hold; every statistic is the tables'."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from operator import itemgetter
from typing import Any

from adamwprune.base.forms import number
from adamwprune.base.metrics import Metric
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult
from adamwprune.records.state import DONE, FAILED, State
from adamwprune.report import choice, comparisons, origins, owned_bytes, tables
from adamwprune.report.groups import (
    Group,
    axis_name,
    distinct_labels,
    group_runs,
    held_out,
    percent,
    settings,
    value_text,
)
from adamwprune.report.origins import Origins
from adamwprune.report.present import Request
from adamwprune.report.statistics import (
    BETTER,
    REFUSED,
    TIED,
    TOO_FEW,
    WORSE,
    Verdicts,
    judge,
    reach,
)
from adamwprune.report.sweeps import Sweep, sweeps, texts_along
from adamwprune.report.tables import ResultRow

Plain = dict[str, Any]
PARTS = {"test": "", "train": "training "}  # of a history's entry, and how each is named
# Curves beside those of metrics: what a recorded value is multiplied by, and how it is shown.
_COURSE_SCALES = {"sparsity": 100.0, "lr": 1.0}
_COURSE: dict[str, Plain] = {
    "sparsity": {"name": "sparsity", "axis": "sparsity (%)", "unit": "%", "digits": 2},
    "lr": {"name": "learning rate", "axis": "learning rate", "log": False},
}
ORIGIN = (  # of a record's environment, and its code's digest between them
    *("commit", "dirty", "diff", "code", "device", "device_name", "threads", "torch", "python"),
    *("host", "os", "driver", "started", "ended", "command"),
)
_VERDICTS = (BETTER, WORSE, TIED, TOO_FEW, REFUSED)
_MORE = ("#7F6A00", "#7A4FA3", "#8C564B")  # colours after the palette's
_DIGITS = 6  # of a curve's values: what a chart can show


@dataclass(frozen=True)
class Uncounted:
    """A run whose state is another than its record's status, in the words of ``make why``."""

    state: str  # "missing", "stale"
    why: str = ""
    record: RunResult | None = None  # a stale one


def uncounted(
    states: Iterable[State], result: Callable[[RunSpec], RunResult | None], *, live: bool = False
) -> dict[str, Uncounted]:
    """These runs, by id. ``live``: what is in hand now is told apart, by who shows it."""
    found = {}
    for each in states:
        name = each.worth if live else each.name
        if name not in (DONE, FAILED):
            record = result(each.spec) if each.record else None
            found[each.spec.run_id] = Uncounted(name, each.why, record)
    return found


@dataclass(frozen=True)
class _Row:
    """A group, where it stands, and its row in the table of results."""

    group: Group
    settings: list[int]  # numbers of tables
    row: ResultRow
    sign: str  # of where its runs were made, as captions explain it


def of(
    expected: Sequence[RunSpec],
    records: Sequence[RunResult],
    uncounted: Mapping[str, Uncounted],
    request: Request,
    samples: Mapping[str, str] | None = None,
) -> Plain:
    """Everything that the page shows, of the runs that the terminal's tables show.

    ``samples``: what their networks wrote, by run id.
    """
    found = settings(expected, records)
    verdicts, best = judge(found, request.presets), choice.sentences(found, request.commands)
    swept = sweeps(found)
    all_rows = tables.result_rows(expected, records, verdicts.leading)
    rows = _distinct(swept, all_rows)
    specs = [spec for row in rows for spec in row.group.specs]
    of_run = [row.row for row in rows for _ in row.group.specs]
    by_id = {spec.run_id: at for at, spec in enumerate(specs)}
    metrics = list(dict.fromkeys(filter(None, (setting.headline for setting in found))))
    counted = {run.run_id: run for row in rows for run in (*row.group.done, *row.group.failed)}
    known = {name: each.record for name, each in uncounted.items()} | counted
    shown = [known.get(spec.run_id) for spec in specs]
    labels = distinct_labels([row.group for row in rows])
    drawn = [curves(record.history, record.judged_by) if record else {} for record in shown]
    made = [{**r.environment, "code": r.code.get("digest")} if r else {} for r in shown]
    judged = judged_by(record for record in shown if record)
    return {
        "settings": [
            {
                "title": sweep.title,
                "measured_on": held_out(sweep.groups),
                "captions": tables.captions(own),
            }
            for sweep, own in zip(swept, _by_sweep(swept, all_rows), strict=True)
        ],
        "axes": [
            {"name": name, "heading": axis_name(name), "values": texts_along(swept, name)}
            for name in _axes(swept)
        ],
        "reach": _reach(max((len(row.group.specs) for row in rows), default=0)),
        # A curve has a value for each; runs whose length is in steps are measured at other times.
        "course": "evaluation" if any("EPOCHS" not in spec for spec in specs) else "epoch",
        "metrics": [{"heading": m.heading, "better": m.better} for m in metrics],
        "measures": measures(judged),
        "best": [_line(each) for each in best],
        "verdicts": _verdicts(verdicts, request),
        "groups": [
            _group(row, label, [by_id[spec.run_id] for spec in row.group.specs], metrics)
            for row, label in zip(rows, labels, strict=True)
        ],
        "runs": [
            _run(spec, record, uncounted.get(spec.run_id), row, counts=spec.run_id in counted)
            for spec, record, row in zip(specs, shown, of_run, strict=True)
        ],
        "spec": {
            name: column([spec.values.get(name) for spec in specs])
            for name in sorted({name for spec in specs for name in spec.values})
        },
        "samples": [(samples or {}).get(spec.run_id, "") for spec in specs],
        "origin": {name: column([own.get(name) for own in made]) for name in ORIGIN},
        "curves": {name: [own.get(name) for own in drawn] for name in measures(judged)},
        "commands": {
            "make": request.commands.make(),
            "retry": request.commands.retry(),
            "reproduce": request.commands.reproduce("RUN_ID"),
        },
    }


def _reach(most: int) -> list[float | None]:
    """By the number of runs: how many deviations the 95% interval of their mean reaches."""
    return [None, None, *(reach(n) for n in range(2, most + 1))]


def _distinct(found: Sequence[Sweep], rows: Sequence[ResultRow]) -> list[_Row]:
    """Each group once: one without a completed run may stand in several tables."""
    places = [(place, group) for place, each in enumerate(found) for group in each.groups]
    seen: dict[str, _Row] = {}
    told = [Origins.of(run for row in own for run in row.runs) for own in _by_sweep(found, rows)]
    for (place, group), row in zip(places, rows, strict=True):
        known = seen.get(group.spec.run_id)
        if known is not None:
            known.settings.append(place)
            continue
        seen[group.spec.run_id] = _Row(group, [place], row, told[place].sign(row.runs))
    return list(seen.values())


def _by_sweep(found: Sequence[Sweep], rows: Sequence[ResultRow]) -> list[list[ResultRow]]:
    """The rows of each table: they are in the order of its groups."""
    ordered = iter(rows)
    return [list(islice(ordered, len(sweep.groups))) for sweep in found]


def _verdicts(verdicts: Verdicts, request: Request) -> Plain:
    """Sentences and table of the comparisons; a sentence that is a command is told apart."""
    shown = verdicts.comparisons
    headings, cells = comparisons.cells(shown)
    lines = comparisons.sentences(verdicts, request.commands)
    return {
        "counts": {name: len(verdicts.having(name)) for name in _VERDICTS},
        "lines": [_line(each) for each in lines],
        "headings": headings,
        "rows": [
            {"setting": each.setting, "verdict": each.verdict, "cells": row}
            for each, row in zip(shown, cells, strict=True)
        ],
        "caption": comparisons.caption(verdicts) if shown else "",
    }


def _line(text: str) -> Plain:
    """A sentence, or a command to be copied."""
    return {"text": text.strip(), "command": text.startswith(comparisons.COMMAND)}


def _group(row: _Row, label: str, runs: list[int], metrics: list[Metric]) -> Plain:
    """A row of the table: its texts as the terminal has them, and numbers to sort by.

    ``metrics``: the headlines of all groups; of several, a score has its unit beside it.
    """
    group, told = row.group, row.row
    unit = f" {told.metric.unit}" if told.metric and len(metrics) > 1 else ""
    first = group.done[0] if group.done else None
    return {
        "label": label,
        "kind": group.method,
        "settings": row.settings,
        "axes": dict(told.axes),
        **_cell(group),
        "sign": row.sign,
        "runs": runs,
        "n": group.n,
        "status": group.status,
        "status_text": origins.status(group.status, told.runs),
        "metric": metrics.index(told.metric) if told.metric else None,
        "score": told.score.mean if told.score else None,
        "score_text": f"{told.score.text(told.digits)}{unit}" if told.score else "",
        "interval": tables.interval_text(told),
        "leading": told.leading,
        "zeros": told.zeros,
        "prunable": told.prunable,
        **_bytes(first),
        "seconds": number(told.seconds),
    }


def _cell(group: Group) -> Plain:
    spec = group.spec
    return {
        "optimizer": group.optimizer,
        "method": "dense" if group.is_dense else str(spec["PRUNING_METHOD"]),
        "criterion": str(spec["STATE_CRITERION"]) if "STATE_CRITERION" in spec else "",
        "sparsity": group.sparsity,
        "target": _target(group),
    }


def _target(group: Group) -> str:
    return "" if group.is_dense else percent(group.sparsity)


def _run(
    spec: RunSpec, record: RunResult | None, why: Uncounted | None, row: ResultRow, *, counts: bool
) -> Plain:
    """``row``: that of the run's group."""
    counted, done = record if counts else None, record
    if done and done.status != "done":
        done = None
    state = why.state if why else "missing"
    return {
        "id": spec.run_id,
        "seed": int(spec["SEED"]),
        "status": counted.status if counted else state,
        "why": why.why if why else "",
        "marks": sorted({*counted.marks, *([state] if why else [])}) if counted else [],
        "error": record.error if record and record.status == "failed" else "",
        "score": number(done.score) if done else None,
        "score_text": f"{done.score:.{row.digits}f}" if done else "",
        "results": _results(done) if done else [],
        "zeros": done.pruning["zeros"] if done else None,
        "prunable": done.pruning.get("prunable") if done else None,
        **_bytes(done),
        "owners": owned_bytes.owners(done.memory) if done else {},
        "seconds": number(done.seconds.get("total")) if done else None,
        "weights": record.weights if record else "",
    }


def _bytes(record: RunResult | None) -> Plain:
    if record is None:
        return {"total": None, "pruner": None}
    return {"total": record.memory["total"], "pruner": owned_bytes.pruner_bytes(record.memory)}


def _results(record: RunResult) -> list[tuple[str, str]]:
    """Its metrics after the last epoch, in words; without those that are no finite number."""
    return [
        (f"{of} {metric.label}", metric.text(metric.shown(value)))
        for part, of in (("test", record.spec.held_out), ("train", "training"))
        for metric in record.judged_by
        if (value := number(record.final.get(f"{part}_{metric.name}"))) is not None
    ]


def judged_by(records: Iterable[RunResult]) -> list[Metric]:
    """The metrics of all of them, each once, headlines before others."""
    every = [record.judged_by for record in records]
    ranked = sorted(((rank, m) for own in every for rank, m in enumerate(own)), key=itemgetter(0))
    return list(dict.fromkeys(metric for _, metric in ranked))


def measures(metrics: Sequence[Metric]) -> dict[str, Plain]:
    """What a chart may show, by the name of a curve: ``name``, ``axis``, ``unit``, ``digits``.

    ``set``: it is measured on the test or validation set, which a setting names. ``log``: its axis
    may be logarithmic, and begins so where it is true. ``whole``: of a share of the examples, all
    of them; its axis may be logarithmic in what lacks to that.
    """
    found: dict[str, Plain] = {}
    for metric in metrics:
        for part, of in PARTS.items():
            told: Plain = {"name": of + metric.label, "axis": of + metric.axis()}
            told["unit"], told["set"] = metric.unit, part == "test"
            if metric.unit == "%":
                told["digits"] = 2
            if metric.better == "lower":
                told["log"] = metric != metrics[0]
            elif metric.is_fraction:
                told["whole"] = metric.scale
            found.setdefault(f"{part}_{metric.name}", told)
    return {**found, **_COURSE}


def curves(
    history: Sequence[Mapping[str, Any]], metrics: Sequence[Metric]
) -> dict[str, list[float | None] | None]:
    """Every curve of one run."""
    own = {f"{part}_{metric.name}": metric.scale for metric in metrics for part in PARTS}
    return {name: curve(history, name, scale) for name, scale in {**own, **_COURSE_SCALES}.items()}


def curve(
    history: Sequence[Mapping[str, Any]], name: str, scale: float
) -> list[float | None] | None:
    """An entry an epoch; null where there is no finite number, and for a run without epochs."""
    if not history:
        return None
    values = [number(entry.get(name)) for entry in history]
    return [v if v is None else number(float(f"{scale * v:.{_DIGITS}g}")) for v in values]


def column(values: Sequence[object]) -> Plain:
    """One value a run as texts, each distinct one once: ``texts``, and the place of each in it.

    A value that is not there has the place -1.
    """
    texts = [None if value is None else text(value) for value in values]
    distinct = dict.fromkeys(each for each in texts if each is not None)
    places = {each: at for at, each in enumerate(distinct)}
    return {"texts": list(places), "runs": [-1 if each is None else places[each] for each in texts]}


def text(value: object) -> str:
    """A value as ``make why`` writes it; what is nested, as JSON."""
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


# -- how it looks --------------------------------------------------------------


def _axis_colours(found: Sequence[Sweep]) -> dict[str, dict[str, str]]:
    """``axis0``, … in the order of the page's axes: value → colour."""
    from adamwprune.report.figures.sweeps import value_colours

    colours = {}
    for place, axis in enumerate(_axes(found)):
        ticks = list(dict.fromkeys(tick for sweep in found for tick in sweep.ticks(axis)))
        names = [value_text(tick) for tick in ticks]
        colours[f"axis{place}"] = dict(zip(names, value_colours(ticks), strict=True))
    return colours


def _axes(found: Sequence[Sweep]) -> list[str]:
    """The options that are an axis in some table."""
    return sorted({axis for sweep in found for axis in sweep.axes})


def look(expected: Sequence[RunSpec]) -> Plain:
    """Colours and dashes as in the figures; dashes in multiples of a line's width."""
    from adamwprune.report import style  # matplotlib is slow to import

    groups = group_runs(expected, [])
    methods = dict.fromkeys(group.method for group in groups)
    targets = style.sparsity_colours(sorted({g.sparsity for g in groups if not g.is_dense}))
    dashes = {_cell(group)["method"]: style.marker_and_dashes(group)[1] for group in groups}
    return {
        "colours": {
            "optimizer": style.optimizer_colours({group.optimizer for group in groups}),
            "method": dict(zip(methods, cycle((*style.OKABE_ITO, *_MORE)), strict=False)),
            "target": {_target(g): targets.get(g.sparsity, style.OKABE_ITO[0]) for g in groups},
            **_axis_colours(sweeps(settings(expected, []))),
        },
        "dashes": {
            name: [] if isinstance(dash, str) else list(dash[1]) for name, dash in dashes.items()
        },
    }
