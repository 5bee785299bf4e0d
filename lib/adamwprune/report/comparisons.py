"""Verdicts for people: a table of comparisons, what they say in sentences, and what is missing."""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter

from adamwprune.base.metrics import Metric
from adamwprune.base.wording import counted, plain
from adamwprune.report import columns, statistics
from adamwprune.report.columns import Column
from adamwprune.report.groups import axis_name, held_out
from adamwprune.report.origins import Place
from adamwprune.report.statistics import (
    ALPHA,
    BETTER,
    LEAST,
    REFUSED,
    TIED,
    TOO_FEW,
    WORSE,
    Comparison,
    Estimate,
    Interval,
    Verdicts,
)
from adamwprune.report.sweeps import place_text

_TITLE = "Comparisons"
COMMAND = "    "  # before a line to be copied: never wrapped, and a block of code in Markdown
_NAMED = 6  # groups with seeds in no pair that are named; of more there is a count
_PLAIN = re.compile(r"[\w ./,:@%+=-]*", re.ASCII)  # no character that a shell or make acts upon
# Variables that no run depends on.
_PASSING = ("V", "YES", "RUN", "KCONFIG_SEED", "FORMAT", "WATCH_PORT")


@dataclass(frozen=True)
class Commands:
    """What to type for the runs of a report: the target and the variables make was given."""

    variables: Mapping[str, str] = field(default_factory=dict)
    target: str = ""  # one with a defconfig of its own; empty: the default

    def add_seeds(self, seeds: Sequence[int]) -> str:
        """The same configuration with these seeds."""
        return self._line(self.target, {"SEED": " ".join(map(str, seeds))})

    def change(self, **settings: str) -> str:
        """The same configuration with other values."""
        return self._line(self.target, settings)

    def make(self) -> str:
        """The same configuration."""
        return self._line(self.target, {})

    def retry(self) -> str:
        """The runs of the same configuration that failed."""
        return self._line("retry", {"CONFIG": self.target} if self.target else {})

    def reproduce(self, run_id: str) -> str:
        """Repeat a run, and compare it with its record."""
        config = {"CONFIG": self.target} if self.target else {}
        return self._line("reproduce", {**config, "RUN": run_id})

    def _line(self, target: str, changes: Mapping[str, str]) -> str:
        kept = {name: text for name, text in self.variables.items() if name not in _PASSING}
        words = [_assignment(name, text) for name, text in {**kept, **changes}.items()]
        return " ".join(["make", *filter(None, [target]), *words])


def _assignment(name: str, text: str) -> str:
    if not _PLAIN.fullmatch(text):
        return f"{name}={shlex.quote(text)}"
    return f'{name}="{text}"' if " " in text else f"{name}={text}"


# -- the table ---------------------------------------------------------------


def _metrics(comparisons: Sequence[Comparison]) -> list[Metric]:
    """What they are judged by, each once."""
    return list(dict.fromkeys(filter(None, (each.headline for each in comparisons))))


def _columns(comparisons: Sequence[Comparison]) -> list[Column]:
    """Of comparisons by several metrics each difference has its unit beside it."""
    units = {metric.difference_unit for metric in _metrics(comparisons)}
    axes = dict.fromkeys(axis for each in comparisons for axis in each.place)
    found = [
        Column("", _left, False),
        Column("against", _right, False),
        *(Column(axis_name(axis), partial(_along, axis)) for axis in axes),
        Column("n", _pairs),
        Column(units.pop(), _mean) if len(units) == 1 else Column("difference", _difference),
        Column("95% (t)", lambda each: _range(each, attrgetter("interval"))),
        Column("95% (BCa)", lambda each: _range(each, attrgetter("bca"))),
        Column("p", lambda each: _p_value(each.p)),
        Column("d_z", _effect),
        Column("verdict", lambda each: each.verdict, False),
    ]
    bootstrapped = any(each.paired and each.paired.difference.bca for each in comparisons)
    return found if bootstrapped else [c for c in found if c.heading != "95% (BCa)"]


def cells(comparisons: Sequence[Comparison]) -> tuple[list[str], list[list[str]]]:
    """The headings of the table, and what each comparison shows below them."""
    found = _columns(comparisons)
    headings = [column.heading for column in found]
    return headings, [[column.show(each) for column in found] for each in comparisons]


def _left(each: Comparison) -> str:
    return each.left.label


def _along(axis: str, each: Comparison) -> str:
    return each.place.get(axis, "")


def _right(each: Comparison) -> str:
    """The reference; of a pruning method's, whose optimizer and sparsity are the same, the name."""
    return each.right.method if each.family == "PRUNING_METHOD" else each.right.label


def _pairs(each: Comparison) -> str:
    return str(each.n) if each.n == each.expected else f"{each.n} of {each.expected}"


def _signed(each: Comparison, value: float) -> str:
    """A difference, or a bound of one, by as many digits as the values it is of."""
    means = [group.score.mean for group in (each.left, each.right) if group.done]
    digits = each.headline.digits(means) if each.headline else 2
    return f"{value:+z.{digits}f}"


def _mean(each: Comparison) -> str:
    return _signed(each, each.paired.difference.mean) if each.paired else ""


def _difference(each: Comparison) -> str:
    return f"{_mean(each)} {each.headline.difference_unit}" if each.headline else ""


def _range(each: Comparison, of: Callable[[Estimate], Interval | None]) -> str:
    interval = of(each.paired.difference) if each.paired else None
    return "..".join(_signed(each, end) for end in interval) if interval else ""


def _p_value(p: float | None) -> str:
    if p is None:
        return ""
    return "<.001" if p < 0.001 else f"{p:.3f}"


def _effect(each: Comparison) -> str:
    effect = each.paired.effect if each.paired else None
    return "" if effect is None else f"{effect:+z.1f}"


# -- the sentences -----------------------------------------------------------


def sentences(verdicts: Verdicts, commands: Commands) -> list[str]:
    """What the table says, and what to do where it cannot say anything."""
    shown = verdicts.comparisons
    lines = [_won(each) for each in shown if each.verdict in (BETTER, WORSE)]
    lines += [_refused(each) for each in verdicts.having(REFUSED)]
    tied, few = verdicts.having(TIED), verdicts.having(TOO_FEW)
    if tied:
        lines.append(
            f"{len(tied)} of {len(shown)} tied: no difference was shown, which does not show that "
            "there is none."
        )
    if alone := sum(map(_leaves_out_zero, tied)):
        lines.append(
            f"{alone} of the tied {'has' if alone == 1 else 'have'} an interval without 0: an "
            f"interval holds for one comparison, a verdict for all {verdicts.tests} (Holm)."
        )
    if few:
        lines.append(
            f"{len(few)} of {len(shown)} with too few seeds: a winner needs {LEAST} pairs."
        )
        lines += _advice(verdicts, few, commands)
    return [*lines, *_elsewhere(shown), *_left_out(verdicts)]


def _leaves_out_zero(each: Comparison) -> bool:
    """Whether the interval of the difference does not hold 0."""
    interval = each.paired.difference.interval if each.paired else None
    return interval is not None and not interval[0] <= 0 <= interval[1]


def _won(each: Comparison) -> str:
    assert each.paired is not None
    assert each.headline is not None
    found, notes = each.paired.difference, [each.headline.direction]
    if found.interval:
        low, high = (_signed(each, end) for end in found.interval)
        notes.append(f"95% interval {low} to {high}")
    told = "; ".join(filter(None, notes))
    effect = "" if each.paired.effect is None else f", d_z = {each.paired.effect:+.1f}"
    p = _p_value(each.p)
    return (
        f"{each.left.label} is {each.verdict} than {each.right.label}{_at(each)}: "
        f"{_difference(each)}{f' ({told})' if told else ''}, "
        f"p {p if p.startswith('<') else f'= {p}'}{effect}, n = {found.n} pairs."
    )


def _at(each: Comparison) -> str:
    """Where on the axes of a sweep: `` at lr 0.001``."""
    place = place_text(each.place)
    return f" at {place}" if place else ""


def _refused(each: Comparison) -> str:
    names = ", ".join(
        f"{name} ({plain(each.left.spec[name])} and {plain(each.right.spec[name])})"
        for name in each.differing
    )
    both = f"{each.left.label} against {each.right.label}{_at(each)}"
    return f"{both} is refused: they also differ in {names}."


def _advice(verdicts: Verdicts, few: Sequence[Comparison], commands: Commands) -> Iterator[str]:
    """The commands that complete the pairs, each below a line on what it is for."""
    groups = [group for each in few for group in (each.left, each.right)]
    if min(each.expected for each in few) < LEAST:
        yield "This trains the seeds that are missing:"
        yield COMMAND + commands.add_seeds(statistics.enough_seeds(verdicts.seeds))
    elif any(group.n + len(group.failed) < len(group.specs) for group in groups):
        yield "This trains the runs that are missing:"
        yield COMMAND + commands.make()
    if any(group.failed for group in groups):
        yield "This trains again those that failed:"
        yield COMMAND + commands.retry()


def _elsewhere(shown: Sequence[Comparison]) -> Iterator[str]:
    """Pairs whose two runs were not made in the same place: their difference may be the place's."""
    count = sum(_is_mixed(each) for each in shown if each.n)
    if count:
        yield (
            f"In {count} of {len(shown)} the two runs of a pair were made on different processors, "
            "threads or versions of torch, to which the difference may be due."
        )


def _is_mixed(each: Comparison) -> bool:
    places = [
        {run.spec["SEED"]: Place.of(run) for run in group.done} for group in (each.left, each.right)
    ]
    return any(places[0][seed] != places[1][seed] for seed in places[0].keys() & places[1].keys())


def _left_out(verdicts: Verdicts) -> Iterator[str]:
    groups = [
        f"{label} ({', '.join(f'{state}: {_seeds(seeds)}' for state, seeds in states.items())})"
        for label, states in statistics.left_out(verdicts).items()
    ]
    if groups:
        more = f"; and {len(groups) - _NAMED} more" if len(groups) > _NAMED else ""
        yield f"Seeds in no pair: {'; '.join(groups[:_NAMED])}{more}."


def _seeds(seeds: Sequence[int]) -> str:
    """``seed 0``, ``seeds 0 2``."""
    return f"seed{'s' * (len(seeds) > 1)} {' '.join(map(str, seeds))}"


def _quantity(metric: Metric, comparisons: Sequence[Comparison]) -> str:
    """``points of test accuracy``, ``test bits per byte (lower is better)``."""
    own = [group for c in comparisons if c.headline == metric for group in (c.left, c.right)]
    told = f"{held_out(own)} {metric.label}"
    if metric.difference_unit != metric.label:
        told = f"{metric.difference_unit} of {told}"
    return f"{told} ({metric.direction})" if metric.direction else told


def caption(verdicts: Verdicts) -> str:
    """What must be known to read the table."""
    shown = verdicts.comparisons
    told = " and ".join(_quantity(metric, shown) for metric in _metrics(shown))
    quantities = told[:1].upper() + told[1:] if told else "Differences"
    lines = [
        f"{quantities}, left minus right, in n pairs of equal seeds. Intervals: each for itself."
    ]
    if verdicts.tests:
        tests = counted(verdicts.tests, "test")
        lines.append(
            f"p: paired t-test, Holm over {tests}, of every two that the table "
            f"holds side by side; a winner needs p < {ALPHA:g}. d_z: mean over standard deviation "
            "of the differences."
        )
    return " ".join([*lines, "See docs/statistics.md."])


# -- rendering ---------------------------------------------------------------


def render(verdicts: Verdicts, format: str, width: int, commands: Commands | None = None) -> str:
    """The comparisons as ``text``, at most ``width`` wide, or ``markdown``; nothing as ``csv``.

    Where no two runs of a comparison make a pair, or no comparison has two pairs, there is
    nothing for a table: the sentences are all.
    """
    shown = verdicts.comparisons
    if not shown or format == "csv":
        return ""
    lines = sentences(verdicts, commands or Commands())
    by_setting: dict[str, list[Comparison]] = {}
    if any(each.n > 1 for each in shown):
        lines.append(caption(verdicts))
        for each in shown:
            by_setting.setdefault(each.setting, []).append(each)
    return (_markdown if format == "markdown" else _text)(by_setting, lines, width)


def paragraphs(lines: Sequence[str], format: str, width: int) -> str:
    """Sentences and commands by themselves, as :func:`render` has them; nothing as ``csv``."""
    if not lines or format == "csv":
        return ""
    if format == "markdown":
        return "\n\n".join(lines) + "\n"
    console = columns.console(width)
    for line in lines:
        console.print(line, markup=False, soft_wrap=line.startswith(COMMAND))
    return columns.printed(console)


def _text(tables: Mapping[str, Sequence[Comparison]], lines: Sequence[str], width: int) -> str:
    console = columns.console(width)
    console.print(_TITLE)
    for title, comparisons in tables.items():
        if len(tables) > 1:
            console.print(title, markup=False)
        console.print(columns.aligned(_columns(comparisons), comparisons))
    for line in lines:
        console.print(line, markup=False, soft_wrap=line.startswith(COMMAND))
    return columns.printed(console)


def _markdown(tables: Mapping[str, Sequence[Comparison]], lines: Sequence[str], width: int) -> str:
    parts = [f"**{_TITLE}**", ""]
    for title, comparisons in tables.items():
        parts += [title, ""] if len(tables) > 1 else []
        parts += [*columns.piped(_columns(comparisons), comparisons), ""]
    return "\n".join([*parts, "\n\n".join(lines)]) + "\n"
