"""What a session found: one JSON file and one table; two of them compared; all of them drawn."""

import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

from adamwprune.base.errors import UserError
from adamwprune.base.files import refusing, write_text
from adamwprune.report import columns
from adamwprune.report.columns import Column
from benchmarks.metrics import Goal, Metric

SCHEMA = 1
HISTORY = "history.png"
WIDEST = 1_000  # characters of a table


@dataclass(frozen=True)
class Session:
    """Metrics of one time on one machine."""

    date: str  # ISO 8601, UTC
    place: Mapping[str, Any]  # hardware, versions, threads, commit
    settings: Mapping[str, Any]  # what the sections were told
    metrics: tuple[Metric, ...]

    @property
    def is_quick(self) -> bool:
        """Whether its sizes only show that the sections work."""
        return bool(self.settings.get("quick"))

    @property
    def stem(self) -> str:
        """The name of its files: date and device."""
        device = re.sub(r"[^a-z0-9]+", "-", str(self.place.get("device_name", "")).lower())
        time = re.sub(r"[^0-9]", "", self.date[10:19])
        quick = "-quick" * self.is_quick
        return f"{self.date[:10]}-{time}-{device.strip('-') or 'unknown'}{quick}"

    def to_json(self) -> dict[str, Any]:
        """Plain data, ready for ``json.dumps``."""
        return {
            "schema": SCHEMA,
            "date": self.date,
            "place": dict(self.place),
            "settings": dict(self.settings),
            "metrics": [metric.to_json() for metric in self.metrics],
        }

    @classmethod
    def from_json(cls, plain: Any) -> Self:
        """The inverse of :meth:`to_json`; ``ValueError`` for what is no session."""
        try:
            if plain["schema"] != SCHEMA:
                raise ValueError(f"has schema {plain['schema']}, expected {SCHEMA}")
            found = tuple(Metric.from_json(each) for each in plain["metrics"])
            return cls(plain["date"], plain["place"], plain["settings"], found)
        except KeyError as error:
            raise ValueError(f"has no {error}") from None
        except TypeError:
            raise ValueError("has other fields") from None


def read(path: Path) -> Session:
    """The session in ``path``; :class:`UserError` if it is not one."""
    with refusing(f"cannot read {path}"):
        text = path.read_bytes()
    try:
        return Session.from_json(json.loads(text))
    except ValueError as error:
        raise UserError(f"{path}: no session of make bench: {error}") from None


def write(session: Session, folder: Path) -> Path:
    """The session as JSON and, beside it, its table as Markdown; the JSON file's path."""
    path = folder / f"{session.stem}.json"
    with refusing(f"cannot write {path}"):
        write_text(path, json.dumps(session.to_json(), indent=1) + "\n")
        write_text(path.with_suffix(".md"), markdown(session))
    return path


# -- tables ---------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three digits that mean something, and no exponent."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.01 else 5
    return f"{value:,.{digits}f}"


def limit(goal: Goal | None, unit: str) -> str:
    """``≤ 0.3 s``; empty without a goal."""
    if goal is None:
        return ""
    return f"{'≤' if goal.kind == 'most' else '≥'} {goal.limit:g} {unit}"


def spread(metric: Metric) -> str:
    """``0.100..0.300``; empty for one reading."""
    return f"{number(metric.low)}..{number(metric.high)}" if len(metric.readings) > 1 else ""


COLUMNS = (
    Column("section", lambda each: each.section, False),
    Column("what", lambda each: each.name, False),
    Column("median", lambda each: number(each.value)),
    Column("unit", lambda each: each.unit, False),
    Column("min..max", spread),
    Column("n", lambda each: str(len(each.readings))),
    Column("goal", lambda each: limit(each.goal, each.unit), False),
    Column("met", lambda each: {None: "", True: "yes", False: "no"}[each.is_met], False),
    Column("note", lambda each: each.note, False),
)


def verdict(session: Session) -> str:
    """How many goals are met, and which are not."""
    if session.is_quick:
        return "quick: sizes that only show that the sections work; no goal is judged"
    judged = [each for each in session.metrics if each.goal is not None]
    missed = [f"{each.section}: {each.name}" for each in judged if not each.is_met]
    told = f"{len(judged) - len(missed)} of {len(judged)} goals met"
    return f"{told}; not: {'; '.join(missed)}" if missed else told


def where(session: Session) -> str:
    """Machine, software, code and date, in one line."""
    place = session.place
    cpu = place.get("cpu") or {}
    changed = ", with changes" if place.get("dirty") else ""
    return (
        f"{place.get('device_name')}; {cpu.get('model')}, {cpu.get('usable')} cores; "
        f"torch {place.get('torch')}, {place.get('threads')} threads; commit "
        f"{str(place.get('commit'))[:12]}{changed}; {session.date}"
    )


def text(session: Session) -> str:
    """The table for a terminal."""
    return f"{where(session)}\n{_table(COLUMNS, session.metrics)}{verdict(session)}"


def _table(shown: Sequence[Column], rows: Iterable[Any]) -> str:
    console = columns.console(WIDEST)
    console.print(columns.aligned(shown, rows))
    return columns.printed(console)


def markdown(session: Session) -> str:
    """The table as Markdown."""
    table = columns.piped(COLUMNS, session.metrics)
    return "\n".join(["# Benchmark", "", where(session), "", *table, "", verdict(session), ""])


# -- two sessions ---------------------------------------------------------------------------

ALONE = "one only"  # the metric is in one of the two
ONE_READING = "n = 1"  # no spread to judge by
WITHIN = "within spread"
MOVED = "moved"


def judgement(one: Metric | None, other: Metric | None) -> str:
    """Whether a metric is another: its readings of the two sessions do not overlap."""
    if one is None or other is None:
        return ALONE
    if min(len(one.readings), len(other.readings)) < 2:
        return ONE_READING
    overlap = one.low <= other.high and other.low <= one.high
    return WITHIN if overlap else MOVED


def compare(one: Session, other: Session) -> str:
    """The metrics of two sessions side by side, as a table for a terminal."""
    before = {(each.section, each.name): each for each in one.metrics}
    after = {(each.section, each.name): each for each in other.metrics}
    table: list[tuple[str, ...]] = []
    for key in {**before, **after}:
        a, b = before.get(key), after.get(key)
        unit = (a or b).unit  # type: ignore[union-attr]  # it is in one of them
        change = number(b.value / a.value) if a and b and a.value else ""
        values = [number(each.value) if each else "" for each in (a, b)]
        table.append((*key, unit, *values, change, judgement(a, b)))
    head = [f"A: {where(one)}", f"B: {where(other)}"]
    if one.place.get("device_name") != other.place.get("device_name"):
        head.append("the devices differ: only ratios can be compared")
    names = ("section", "what", "unit", "A", "B", "B / A", "")
    shown = [Column(name, itemgetter(at), at in (3, 4, 5)) for at, name in enumerate(names)]
    moved = sum(row[-1] == MOVED for row in table)
    tail = f"{moved} of {len(table)} moved by more than their spreads"
    return "\n".join([*head, _table(shown, table) + tail])


# -- all sessions ---------------------------------------------------------------------------


def sessions(folder: Path) -> list[Session]:
    """Those in ``folder`` that are not quick, the oldest first; a damaged file is an error."""
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    return sorted((each for each in found if not each.is_quick), key=lambda each: each.date)


def draw_history(found: Iterable[Session], path: Path) -> Path | None:
    """Each metric with a goal over the sessions, a line a device; None without any."""
    drawn = list(found)
    names = dict.fromkeys((m.section, m.name) for s in drawn for m in s.metrics if m.goal)
    if not names:
        return None
    from adamwprune.report import style  # matplotlib is slow to import

    across = min(3, len(names))
    down = -(-len(names) // across)
    with style.sheet():
        figure = style.new_figure(4.2 * across, 0.6 + 2.4 * down, "Benchmark: metrics with a goal")
        grid = figure.subplots(down, across, squeeze=False).flatten()
        for axes, key in zip(grid, names, strict=False):
            _draw_metric(axes, key, drawn, style.OKABE_ITO)
        for axes in grid[len(names) :]:
            axes.set_visible(False)
        lines = {line.get_label(): line for axes in grid for line in axes.containers}
        figure.legend(lines.values(), lines, loc="outside upper right", fontsize=7)
        style.save(figure, path.with_suffix(""), (path.suffix.removeprefix("."),), [])
    return path


def _draw_metric(
    axes: Any, key: tuple[str, str], drawn: Sequence[Session], colours: tuple[str, ...]
) -> None:
    """Medians with their spreads over the sessions, and the goal."""
    devices = list(dict.fromkeys(str(each.place.get("device_name")) for each in drawn))
    goal = unit = None
    for device, colour in zip(devices, colours * len(devices), strict=False):
        points = [
            (place, metric)
            for place, session in enumerate(drawn)
            if str(session.place.get("device_name")) == device
            for metric in session.metrics
            if (metric.section, metric.name) == key
        ]
        if not points:
            continue
        goal, unit = points[-1][1].goal, points[-1][1].unit
        values = [metric.value for _, metric in points]
        below = [metric.value - metric.low for _, metric in points]
        above = [metric.high - metric.value for _, metric in points]
        places = [place for place, _ in points]
        axes.errorbar(places, values, (below, above), color=colour, marker="o", label=device)
    if goal is not None:
        axes.axhline(goal.limit, color="#777777", linestyle="--", linewidth=1)
    axes.set_title(textwrap.fill(f"{key[0]}: {key[1]}", 50), fontsize=7.5)
    axes.set_ylabel(f"{unit}, goal {limit(goal, str(unit))}", fontsize=7)
    when = [f"{each.date[:10]}\n{each.date[11:16]}" for each in drawn]
    axes.set_xticks(range(len(drawn)), when, fontsize=5.5)
