"""Runs that differ in nothing but their seed, and what may stand beside what in one figure."""

import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, product
from typing import Self

from adamwprune.base.metrics import Metric
from adamwprune.base.wording import plain
from adamwprune.plan.spec import RunSpec
from adamwprune.records.metrics import difference_error
from adamwprune.records.record import RunResult

DENSE = "none"
PRUNES_BY_STATE = "adamwprune"  # the optimizer under which movement pruning means state pruning
_COMPARED = ("OPTIMIZER", "PRUNING_METHOD", "STATE_CRITERION", "TARGET_SPARSITY", "SEED")
_Place = tuple[tuple[str, object], ...]  # options by which settings are told apart, with values
SUBJECT = ("MODEL", "DATASET")  # what is trained; the other options say how
JUDGED_BY = "JUDGED_BY"  # divides settings as an option does; its value is a metric


@dataclass(frozen=True)
class Statistic:
    """A mean over runs. ``deviation`` is the sample's standard deviation, None for one run."""

    n: int
    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Of at least one value."""
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(len(values), statistics.fmean(values), deviation)

    def text(self, digits: int = 2) -> str:
        """``98.71 ± 0.09``, or the value alone for one run."""
        if self.deviation is None:
            return f"{self.mean:.{digits}f}"
        return f"{self.mean:.{digits}f} ± {self.deviation:.{digits}f}"


@dataclass(frozen=True, eq=False)
class Group:
    """The expected runs that differ only in their seed, and the records there are of them.

    All of its completed runs are judged by one headline metric.
    """

    specs: tuple[RunSpec, ...]
    done: tuple[RunResult, ...]
    failed: tuple[RunResult, ...]

    @property
    def spec(self) -> RunSpec:
        """The first seed's spec: of the others only ``SEED`` differs."""
        return self.specs[0]

    @property
    def optimizer(self) -> str:
        """The optimizer's name."""
        return str(self.spec["OPTIMIZER"])

    @property
    def sparsity(self) -> float:
        """The target sparsity as a fraction, 0 for dense training."""
        return self.spec.sparsity

    @property
    def is_dense(self) -> bool:
        """Whether nothing is pruned."""
        return bool(self.spec["PRUNING_METHOD"] == DENSE)

    @property
    def method(self) -> str:
        """``dense``, ``magnitude``, ``movement``, ``state (precond)``."""
        if self.is_dense:
            return "dense"
        if "STATE_CRITERION" in self.spec:
            return f"{self.spec['PRUNING_METHOD']} ({self.spec['STATE_CRITERION']})"
        return str(self.spec["PRUNING_METHOD"])

    @property
    def label(self) -> str:
        """``adamw movement 70%``: unique within a :class:`Setting`."""
        if self.is_dense:
            return f"{self.optimizer} dense"
        return f"{self.optimizer} {self.method} {percent(self.sparsity)}"

    @property
    def n(self) -> int:
        """Completed runs."""
        return len(self.done)

    @property
    def absence(self) -> str:
        """Why there is no number: ``failed`` or ``missing``; empty if there is one."""
        if self.done:
            return ""
        return "failed" if self.failed else "missing"

    @property
    def status(self) -> str:
        """``done``, ``missing``, ``failed``, or what is wrong with some seeds: ``1 failed``."""
        counts = {"done": self.n, "failed": len(self.failed)}
        counts["missing"] = len(self.specs) - sum(counts.values())
        there = [name for name, count in counts.items() if count]
        if len(there) == 1:
            return there[0]
        return ", ".join(f"{counts[name]} {name}" for name in there if name != "done")

    @property
    def headline(self) -> Metric | None:
        """What its runs are judged by; None where no run is done."""
        return self.done[0].headline if self.done else None

    @cached_property
    def score(self) -> Statistic:
        """The headline's value after the last epoch, in its unit."""
        return self.statistic(lambda record: record.score)

    @property
    def worth(self) -> float:
        """The mean score, negated where lower is better: more is always better."""
        return self.done[0].headline.sign * self.score.mean

    @cached_property
    def compression(self) -> float:
        """Prunable weights over those that are not zero, as counted; infinite if all are zero."""
        return self.statistic(compression).mean

    def statistic(self, value: Callable[[RunResult], float]) -> Statistic:
        """Over the completed runs, of which there must be one."""
        return Statistic.of([value(record) for record in self.done])


@dataclass(frozen=True, eq=False)
class Setting:
    """Groups that may be compared: they differ in optimizer, pruning and sparsity only, and are
    judged by one metric.
    """

    prefix: str  # of file names: empty where the matrix has one setting
    title: str  # "lenet5 on mnist, 10 epochs"
    groups: tuple[Group, ...]
    place: Mapping[str, object] = field(default_factory=dict)  # options that tell it from others

    @property
    def headline(self) -> Metric | None:
        """What its runs are judged by; None where no run is done."""
        return next(filter(None, (group.headline for group in self.groups)), None)

    @property
    def optimizers(self) -> list[str]:
        """In the order of the matrix."""
        return list(dict.fromkeys(group.optimizer for group in self.groups))

    @property
    def sparsities(self) -> list[float]:
        """Target sparsities of the pruned groups, ascending."""
        return sorted({group.sparsity for group in self.groups if not group.is_dense})

    @property
    def done_sparsities(self) -> list[float]:
        """Those of pruned groups with a completed run, ascending."""
        return sorted({group.sparsity for group in self.pruned() if group.done})

    @property
    def tags(self) -> list[str]:
        """Pruning methods as file names spell them, in the order of the matrix."""
        return list(dict.fromkeys(self.tag(group) for group in self.groups if not group.is_dense))

    def tag(self, group: Group) -> str:
        """``magnitude``, ``movement``, ``state-taylor``; empty for dense training.

        Under adamwprune movement pruning means state pruning: there the state runs of the
        first criterion stand for movement.
        """
        if group.is_dense:
            return ""
        if "STATE_CRITERION" not in group.spec:
            return str(group.spec["PRUNING_METHOD"])
        if group.optimizer == PRUNES_BY_STATE and group.method == self._stand_in:
            return "movement"
        return f"state-{group.spec['STATE_CRITERION']}"

    @cached_property
    def _stand_in(self) -> str:
        """The state runs that stand for movement, if it is asked for or nobody else has state's."""
        by_state = [g for g in self.groups if "STATE_CRITERION" in g.spec]
        own = [g.method for g in by_state if g.optimizer == PRUNES_BY_STATE]
        is_wanted = any(g.spec["PRUNING_METHOD"] == "movement" for g in self.groups)
        return own[0] if own and (is_wanted or len(own) == len(by_state)) else ""

    def dense(self, optimizer: str = "") -> list[Group]:
        """The groups without pruning, of one optimizer or of all."""
        return [g for g in self.groups if g.is_dense and optimizer in ("", g.optimizer)]

    def pruned(self, sparsity: float | None = None, optimizer: str = "") -> list[Group]:
        """The groups with pruning, at one sparsity or all, of one optimizer or of all."""
        return [
            group
            for group in self.groups
            if not group.is_dense
            and sparsity in (None, group.sparsity)
            and optimizer in ("", group.optimizer)
        ]


def percent(fraction: float) -> str:
    """``0.7`` → ``70%``."""
    return f"{100 * fraction:g}%"


def compression(record: RunResult) -> float:
    """Prunable weights over those that are not zero, as counted in one run."""
    kept = int(record.pruning["prunable"]) - int(record.pruning["zeros"])
    return record.pruning["prunable"] / kept if kept else math.inf


def judged_by(groups: Iterable[Group]) -> Metric:
    """The headline metric of the completed runs of one figure, of which there must be one."""
    return next(group.done[0].headline for group in groups if group.done)


def score_digits(groups: Iterable[Group]) -> int:
    """Decimals of the scores of one figure or table, as :meth:`Metric.digits` has them."""
    done = [group for group in groups if group.done]
    return judged_by(done).digits(group.score.mean for group in done) if done else 2


def group_runs(expected: Iterable[RunSpec], records: Iterable[RunResult]) -> list[Group]:
    """The expected runs in groups of seeds, in their order; other records play no part.

    Seeds whose records are judged by different metrics (an outside task was changed between them)
    make a group for each metric.
    """
    by_id: dict[str, RunResult] = {}
    for record in records:
        known = by_id.get(record.run_id)
        if known is None or known.status != "done":
            by_id[record.run_id] = record
    seeds: dict[tuple[object, ...], list[RunSpec]] = {}
    for spec in dict.fromkeys(expected):
        rest = tuple((name, value) for name, value in spec.values.items() if name != "SEED")
        seeds.setdefault(rest, []).append(spec)
    found = []
    for own in chain.from_iterable(_by_headline(specs, by_id) for specs in seeds.values()):
        runs = [by_id[spec.run_id] for spec in own if spec.run_id in by_id]
        done = tuple(run for run in runs if run.status == "done")
        failed = tuple(run for run in runs if run.status != "done")
        found.append(Group(tuple(own), done, failed))
    return found


def _by_headline(specs: list[RunSpec], by_id: dict[str, RunResult]) -> list[list[RunSpec]]:
    """The seeds of each metric; those without a completed run stand with the first one's."""
    records = {spec: by_id.get(spec.run_id) for spec in specs}
    metrics = {s: r.headline for s, r in records.items() if r is not None and r.status == "done"}
    if len(set(metrics.values())) < 2:
        return [specs]
    first, *others = dict.fromkeys(metrics.values())
    return [[s for s in specs if metrics.get(s, first) == each] for each in (first, *others)]


def settings(expected: Iterable[RunSpec], records: Iterable[RunResult]) -> list[Setting]:
    """The expected runs divided so that each figure compares only what is comparable.

    Model and data set divide, and so does each option that differs between groups of the same
    optimizer, method and sparsity. A group without that option (a dense run under two ramps)
    takes part in every setting it does not contradict. Where groups that these options leave
    together are judged by different metrics, these divide them as well.
    """
    groups = group_runs(expected, records)
    axes = _dividing(groups)
    places: list[dict[str, object]] = [
        {name: g.spec[name] for name in axes if name in g.spec} for g in groups
    ]
    if _is_mixed(groups, places):
        axes.append(JUDGED_BY)
        for group, place in zip(groups, places, strict=True):
            place.update({JUDGED_BY: group.headline} if group.headline else {})
    at: dict[_Place, list[int]] = {}  # numbers of the groups at each place
    for number, place in enumerate(places):
        at.setdefault(_within(place, frozenset(place)), []).append(number)
    distinct = [dict(items) for items in at]
    shapes = {frozenset(place) for place in distinct}
    extended = {_within(p, shape) for shape in shapes for p in distinct if shape < p.keys()}
    fullest = [p for p in distinct if _within(p, frozenset(p)) not in extended]
    shared = {name for name in axes if len({p.get(name) for p in fullest}) == 1}
    return [
        _setting(
            {name: value for name, value in place.items() if name not in shared},
            [groups[number] for number in _numbers(place, shapes, at)],
        )
        for place in fullest
    ]


def _within(place: Mapping[str, object], names: frozenset[str]) -> _Place:
    """The values of these options: places are looked up by it, as comparing all pairs is slow."""
    return tuple((name, value) for name, value in place.items() if name in names)


def _numbers(
    place: Mapping[str, object], shapes: Iterable[frozenset[str]], at: Mapping[_Place, list[int]]
) -> list[int]:
    """The numbers, ascending, at all places that are a part of this one."""
    parts = (_within(place, shape) for shape in shapes if shape <= place.keys())
    return sorted(chain.from_iterable(at.get(part, ()) for part in parts))


def _is_mixed(groups: Sequence[Group], places: Sequence[Mapping[str, object]]) -> bool:
    """Whether groups that would stand in one setting have different headlines."""
    found: dict[frozenset[str], list[tuple[Metric, Mapping[str, object]]]] = {}
    for group, place in zip(groups, places, strict=True):
        if group.headline:
            found.setdefault(frozenset(place), []).append((group.headline, place))
    for one, other in product(found, repeat=2):
        known: dict[_Place, set[Metric]] = {}
        for headline, place in found[one]:
            known.setdefault(_within(place, one & other), set()).add(headline)
        for headline, place in found[other]:
            if known.get(_within(place, one & other), {headline}) != {headline}:
                return True
    return False


def _setting(own: dict[str, object], groups: list[Group]) -> Setting:
    """``own``: what tells this setting from the others; it goes into the names of its files."""
    return Setting(prefix_of(own), title_of(groups, own), tuple(groups), own)


def joined_setting(some: Sequence[Setting], all_settings: Sequence[Setting]) -> Setting | None:
    """``some`` as one setting of their common place; None where that is the place of others too."""
    common = set.intersection(*(set(setting.place.items()) for setting in some))
    there = [setting for setting in all_settings if common <= set(setting.place.items())]
    if len(some) < 2 or len(there) > len(some):
        return None
    alike: dict[str, dict[Group, None]] = {}
    for setting in some:
        for group in setting.groups:
            alike.setdefault(group.label, {})[group] = None
    place = {name: value for name, value in some[0].place.items() if (name, value) in common}
    return _setting(place, [_joined([*own]) for own in alike.values()])


def _joined(groups: Sequence[Group]) -> Group:
    """All runs of some groups as those of one."""
    runs = ("specs", "done", "failed")
    return Group(*(tuple(chain.from_iterable(getattr(g, name) for g in groups)) for name in runs))


def prefix_of(place: Mapping[str, object]) -> str:
    """``lr_0.001-batch_size_64-``: of the names of files, empty for no options."""
    return "".join(f"{_file_word(name, value_text(value))}-" for name, value in place.items())


def _file_word(name: str, value: str) -> str:
    if name in SUBJECT:
        return value
    return f"{name.lower()}_{re.sub('[^A-Za-z0-9.-]+', '_', value)}"


def title_of(groups: Sequence[Group], place: Mapping[str, object]) -> str:
    """``lenet5 on mnist, 10 epochs, lr 0.001``; ``place``: the options that are to be named."""
    spec = groups[0].spec
    length = _length([group.spec for group in groups])
    if held_out(groups) != "test":
        length += f", measured on the {held_out(groups)} set"
    extra = [f"{axis_name(n)} {value_text(v)}" for n, v in place.items() if n not in SUBJECT]
    return ", ".join([f"{spec['MODEL']} on {spec['DATASET']}", length, *extra])


def axis_name(option: str) -> str:
    """``BATCH_SIZE`` → ``batch size``."""
    return option.lower().replace("_", " ")


def value_text(value: object) -> str:
    """An option's value, or a metric, for people: ``0.001``."""
    return value.heading if isinstance(value, Metric) else plain(value)


def _length(specs: Iterable[RunSpec]) -> str:
    """``10 epochs``, ``2,000 steps``, ``5/10 epochs``; steps where any run's length is in steps."""
    specs = list(specs)
    if any(spec["STEPS"] for spec in specs):
        return f"{'/'.join(f'{n:,}' for n in sorted({s.total_steps for s in specs}))} steps"
    epochs = sorted({spec.epochs for spec in specs})
    return f"{'/'.join(map(str, epochs))} {'epoch' if epochs == [1] else 'epochs'}"


def _dividing(groups: Sequence[Group]) -> list[str]:
    """The options by which groups must be told apart before any two are compared."""
    axes = list(SUBJECT)
    names = sorted({name for group in groups for name in group.spec.values})
    for name in names:
        if name not in _COMPARED and _splits(groups, axes, name):
            axes.append(name)
    return axes


def _splits(groups: Sequence[Group], axes: Sequence[str], name: str) -> bool:
    """Whether two groups that agree in ``axes`` and in what is compared differ in ``name``."""
    seen: dict[tuple[object, ...], object] = {}
    for group in groups:
        values = group.spec.values
        place = tuple(values.get(axis) for axis in (*_COMPARED[:-1], *axes))
        if seen.setdefault(place, values.get(name)) != values.get(name):
            return True
    return False


def distinct_labels(groups: Sequence[Group]) -> list[str]:
    """A label for each group; where two would be equal, the options that differ are added."""
    labels = [group.label for group in groups]
    alike: dict[str, list[Group]] = {}
    for label, group in zip(labels, groups, strict=True):
        alike.setdefault(label, []).append(group)
    differing = {label: _differing(own) for label, own in alike.items() if len(own) > 1}
    return [
        f"{label}, {_difference(group, differing[label])}" if label in differing else label
        for label, group in zip(labels, groups, strict=True)
    ]


def _differing(groups: Sequence[Group]) -> set[str]:
    """The options that these groups differ in, and ``JUDGED_BY`` where their metrics differ."""
    names = {name for group in groups for name in group.spec.values}
    values: dict[str, set[object]]
    values = {name: {group.spec.values.get(name) for group in groups} for name in names}
    values[JUDGED_BY] = {group.headline for group in groups}
    return {name for name, found in values.items() if len(found) > 1}


def _difference(group: Group, differing: set[str]) -> str:
    """``differing``: the options in which the groups of one label differ."""
    for names in (SUBJECT, sorted(group.spec.values)):
        shown = [
            f"{axis_name(name)} {value_text(value)}"
            for name in names
            if (value := group.spec.values.get(name)) is not None
            and name != "SEED"
            and name in differing
        ]
        if shown:
            return ", ".join(shown)
    if group.headline and JUDGED_BY in differing:
        return f"judged by {group.headline.heading}"
    return group.spec.digest


def spread_note(groups: Sequence[Group], shown: str, *, noise: bool = True) -> str:
    """``n = 3 runs``, what is ``shown`` of their spread, and where there is none for a single run;
    there with the ``noise`` of its score.
    """
    counts = sorted({group.n for group in groups if group.n})
    if not counts:
        return "no completed runs"
    single = [group for group in groups if group.n == 1]
    clause = ""
    if noise and single:
        scores, examples = [group.score.mean for group in single], single[0].done[0].measured_on
        note = noise_note(scores, judged_by(single), examples, held_out(groups))
        clause = f": {note}" if note else ""
    if counts == [1]:
        return f"n = 1, no spread{clause}"
    span = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    end = f"; where n = 1 there is no spread{clause}" if single else ""
    if 2 in counts:
        end += "; of two runs no interval is drawn: it would be 18 deviations wide"
    return f"n = {span} runs{f', {shown}' if shown else ''}{end}"


def held_out(groups: Sequence[Group]) -> str:
    """What the groups' scores are measured on: ``test`` or ``validation``, or both."""
    return " and ".join(dict.fromkeys(group.spec.held_out for group in groups))


def noise_note(
    scores: Sequence[float], metric: Metric, examples: int | None, kind: str = "test"
) -> str:
    """How large a difference between single runs must be to mean anything.

    For shares of examples: twice the standard error of the difference of two of them, both at the
    median of ``scores``, on ``examples`` of the ``kind`` set. Empty for every other metric, whose
    noise only other seeds tell, and where the number of examples is not known.
    """
    if not (metric.is_fraction and examples and scores):
        return ""
    p = statistics.median(scores) / metric.scale
    error = metric.scale * difference_error(p, p, examples)
    digits = max(1, metric.digits([error]))
    return (
        f"differences under {2 * error:.{digits - 1}f} {metric.difference_unit} on {examples:,} "
        f"{kind} examples are noise (standard error of a difference {error:.{digits}f})"
    )
