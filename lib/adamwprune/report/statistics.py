"""Verdicts: which of two groups of runs is better, worse or tied, in pairs of equal seeds.

A function of records; docs/statistics.md says what is computed, after whom, and what it means.
Values, and differences of them, are in the unit of the metric that the runs are judged by.
"""

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

from adamwprune.base.metrics import Metric
from adamwprune.plan.spec import RunSpec
from adamwprune.report.groups import Group, Setting, distinct_labels
from adamwprune.report.sweeps import sweeps

BETTER, WORSE, TIED = "better", "worse", "tied"
TOO_FEW, REFUSED = "too few seeds", "refused"
LEAST = 3  # pairs; fewer never have a winner
ALPHA = 0.05  # of one false winner or more among all verdicts
CONFIDENCE = 0.95  # of each interval for itself
BOOTSTRAPPED = 8  # values from which on the bootstrap is worth a look
RESAMPLES = 9_999
DIGITS = 9  # of a difference: what is beyond them is the rounding of floats
_SEEDS = 2**32  # that Kconfig admits
_COMPARED = {  # options in which the groups of a contest may differ, by its family
    "OPTIMIZER": {"OPTIMIZER"},
    "PRUNING_METHOD": {"PRUNING_METHOD", "STATE_CRITERION"},
}
_REFERENCES = ("magnitude", "adamw")  # what others are held against, where it is there

Interval = tuple[float, float]
Presets = Mapping[str, Mapping[str, str]]  # run id -> option -> the family that decides it


@dataclass(frozen=True)
class Estimate:
    """A mean and how well it is known; what cannot be computed is None, never NaN."""

    n: int
    mean: float
    deviation: float | None = None  # of the sample, n - 1; None for one value
    interval: Interval | None = None  # 95%, Student's t; from 3 values on, None without spread
    bca: Interval | None = None  # 95%, BCa bootstrap of the mean; from 8 values on

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Of at least one value, in any order."""
        n, mean = len(values), statistics.fmean(values)
        if n < 2:
            return cls(n, mean)
        if _constant(values):
            return cls(n, mean, 0.0)
        deviation = statistics.stdev(values)
        if n < LEAST:  # it would be 18 deviations wide
            return cls(n, mean, deviation)
        half = reach(n) * deviation
        return cls(n, mean, deviation, (mean - half, mean + half), _bca(values))


def _constant(values: Sequence[float]) -> bool:
    """Whether the values differ in nothing but the rounding of floats."""
    return round(max(values) - min(values), DIGITS) == 0


def reach(n: int) -> float:
    """How many sample deviations the 95% interval of a mean of ``n`` ≥ 2 values reaches to each
    side of it: Student's t quantile over √n. 12.7/√2 for two values, 4.3/√3 for three.
    """
    from scipy import stats  # slow to import: one run a cell needs none of it

    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
    return quantile / math.sqrt(n)


def _bca(values: Sequence[float]) -> Interval | None:
    """The same for the same values in any order, and mirrored for the negated ones.

    Resamples are drawn by place: so the values are sorted, and of a sample and its mirror image
    always the same one is drawn from.
    """
    if len(values) < BOOTSTRAPPED:
        return None
    import numpy as np
    from scipy import stats

    plain, mirrored = sorted(values), sorted(-value for value in values)
    found = stats.bootstrap(
        (max(plain, mirrored),),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    low, high = float(found.low), float(found.high)
    return (low, high) if plain >= mirrored else (-high, -low)


# -- one comparison ----------------------------------------------------------


@dataclass(frozen=True)
class Paired:
    """Differences, left minus right, of values that belong together."""

    difference: Estimate
    effect: float | None = None  # Cohen's d_z; None without spread
    p: float | None = None  # two-sided, before any correction

    @classmethod
    def of(cls, left: Sequence[float], right: Sequence[float]) -> Self:
        """Of at least one pair, with ``effect`` and ``p`` from three on.

        ``ValueError`` where something has no counterpart.
        """
        pairs = sorted(zip(left, right, strict=True))  # the order of seeds changes no bit
        difference = Estimate.of(_differences(pairs))
        if len(pairs) < LEAST:
            return cls(difference)
        deviation = difference.deviation
        effect = difference.mean / deviation if deviation else None
        return cls(difference, effect, _p_value(pairs))


def _p_value(pairs: Sequence[tuple[float, float]]) -> float:
    """Of the paired t-test.

    That is not defined where all differences are equal, and small samples of rounded values
    are so by chance: there the exact sign test stands for it, 2/2ⁿ, or 1 for no difference.
    """
    from scipy import stats

    differences = _differences(pairs)
    if not _constant(differences):
        return float(stats.ttest_rel(*zip(*pairs, strict=True)).pvalue)
    return float(stats.binomtest(len(pairs), len(pairs)).pvalue) if any(differences) else 1.0


def _differences(pairs: Sequence[tuple[float, float]]) -> list[float]:
    """Rounded to where they are equal that are equal on paper: the bootstrap counts ties."""
    return [round(one - other, DIGITS) for one, other in pairs]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the given order, after Holm's step-down (1979).

    The k-th smallest of m, counted from 0, times m - k; never below the one before it, nor above 1.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


@dataclass(frozen=True, eq=False)
class Comparison:
    """What became of holding ``left`` against ``right``."""

    setting: str  # title of the table that it stands in
    family: str  # what is compared: "PRUNING_METHOD" or "OPTIMIZER"
    left: Group
    right: Group
    paired: Paired | None  # None for refused ones, and where no seed is done on both sides
    differing: tuple[str, ...] = ()  # options beyond what is compared; then it is refused
    p: float | None = None  # after Holm; None where nothing is tested
    place: Mapping[str, str] = field(default_factory=dict)  # axis of a sweep -> both sides' value

    @property
    def headline(self) -> Metric | None:
        """What both sides are judged by; None where neither has a completed run."""
        return self.left.headline or self.right.headline

    @property
    def n(self) -> int:
        """Pairs."""
        return self.paired.difference.n if self.paired else 0

    @property
    def expected(self) -> int:
        """Pairs that the matrix asks for."""
        return len(_seeds(self.left.specs) & _seeds(self.right.specs))

    @property
    def verdict(self) -> str:
        """Of the left side: BETTER, WORSE, TIED, TOO_FEW or REFUSED."""
        if self.differing:
            return REFUSED
        if self.paired is None or self.p is None:
            return TOO_FEW
        if self.p >= ALPHA:
            return TIED
        sign = self.headline.sign if self.headline else 1
        return BETTER if sign * self.paired.difference.mean > 0 else WORSE


@dataclass(frozen=True, eq=False)
class Contest:
    """Groups of which the table invites to compare each with each."""

    setting: str
    family: str  # the options that a preset leaves to it belong to what is compared
    groups: tuple[Group, ...]

    @cached_property
    def reference(self) -> Group:
        """Magnitude, or adamw; where that is not there, the matrix's first."""
        known = (group for group in self.groups if group.spec[self.family] in _REFERENCES)
        return next(known, self.groups[0])

    def pairs(self) -> Iterator[tuple[Group, Group]]:
        """Every two once, the reference always on the right."""
        for first, second in itertools.combinations(self.groups, 2):
            yield (second, first) if second is not self.reference else (first, second)


def contests(setting: Setting) -> Iterator[Contest]:
    """Optimizers without pruning; and pruning methods under one optimizer at one sparsity."""
    cells = itertools.product(setting.optimizers, setting.sparsities)
    methods = [("PRUNING_METHOD", setting.pruned(sparsity, name)) for name, sparsity in cells]
    for family, groups in [("OPTIMIZER", setting.dense()), *methods]:
        if len(groups) > 1:
            yield Contest(setting.title, family, tuple(groups))


def compare(
    left: Group, right: Group, contest: Contest, presets: Presets | None = None
) -> Comparison:
    """Pair the two by seed; what only one side has done is in no pair.

    Where they differ in options beyond those of ``contest`` nothing is computed. An option that
    one side does not have at all (sgd has no BETA2) belongs to what is compared, and so does one
    that both leave to the preset of the compared family.
    """
    differing = tuple(_differing(left.spec, right.spec, contest, presets or {}))
    one, other = ({int(r.spec["SEED"]): r.score for r in side.done} for side in (left, right))
    both = [seed for seed in one if seed in other]
    paired = None
    if both and not differing:
        paired = Paired.of([one[seed] for seed in both], [other[seed] for seed in both])
    return Comparison(contest.setting, contest.family, left, right, paired, differing)


def _differing(left: RunSpec, right: RunSpec, contest: Contest, presets: Presets) -> Iterator[str]:
    for name in sorted({*left.values, *right.values} - _COMPARED[contest.family] - {"SEED"}):
        try:
            same = left[name] == right[name]
        except KeyError:  # one of them has no such option
            continue
        deciders = {presets.get(spec.run_id, {}).get(name) for spec in (left, right)}
        if not same and deciders != {contest.family}:
            yield name


def _seeds(specs: Iterable[RunSpec]) -> set[int]:
    return {int(spec["SEED"]) for spec in specs}


# -- all of them -------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Verdicts:
    """All comparisons of one report."""

    comparisons: tuple[Comparison, ...]  # those with a reference: what is shown
    tests: int  # how many the correction is for: of every two groups of a contest
    leading: frozenset[str]  # run ids of the first seed of groups that nobody beats
    groups: tuple[Group, ...] = ()  # of the contests, each once

    def having(self, verdict: str) -> list[Comparison]:
        """The shown ones with this verdict."""
        return [each for each in self.comparisons if each.verdict == verdict]

    @property
    def seeds(self) -> list[int]:
        """That the matrix asks for, ascending."""
        return sorted({seed for group in self.groups for seed in _seeds(group.specs)})


def judge(settings: Iterable[Setting], presets: Presets | None = None) -> Verdicts:
    """Compare every two groups of each contest, and correct for all of these tests together.

    A pair of groups that takes part in several settings is one comparison.
    """
    all_contests: list[Contest] = []
    found: dict[tuple[str, str], Comparison] = {}
    references = set()
    for sweep in sweeps(list(settings)):
        own = [contest for setting in sweep.settings for contest in contests(setting)]
        all_contests += own
        for contest in own:
            for left, right in contest.pairs():
                key = _key(left, right)
                if key not in found:
                    made = compare(left, right, contest, presets)
                    place = sweep.texts(right) | {k: v for k, v in sweep.texts(left).items() if v}
                    found[key] = replace(made, setting=sweep.title, place=place)
                if right is contest.reference:
                    references.add(key)
    found, tests = _corrected(found)
    return Verdicts(
        tuple(comparison for key, comparison in found.items() if key in references),
        tests,
        frozenset(name for contest in all_contests for name in _leading(contest, found)),
        tuple({g.spec.run_id: g for contest in all_contests for g in contest.groups}.values()),
    )


def _key(left: Group, right: Group) -> tuple[str, str]:
    return left.spec.run_id, right.spec.run_id


def _corrected(
    found: Mapping[tuple[str, str], Comparison],
) -> tuple[dict[tuple[str, str], Comparison], int]:
    """With p-values after Holm; and how many tests that was for."""
    tested = {
        key: each.paired.p
        for key, each in found.items()
        if each.paired and each.paired.p is not None
    }
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {key: replace(each, p=adjusted.get(key)) for key, each in found.items()}, len(tested)


def _leading(contest: Contest, found: Mapping[tuple[str, str], Comparison]) -> Iterator[str]:
    """The group with the best mean, and those behind it down to the first that is not tied with
    it; none where any two are refused.

    Only groups of three done seeds take part. That the best one is chosen after the fact is
    allowed, because the correction is for every two groups and not for those with a reference.
    """
    pairs = [found[_key(left, right)] for left, right in contest.pairs()]
    enough = [group for group in contest.groups if group.n >= LEAST]
    if len(enough) < 2 or any(each.verdict == REFUSED for each in pairs):
        return
    best = max(enough, key=lambda group: group.worth)
    against = {
        (each.left if each.right is best else each.right).spec.run_id: each.verdict
        for each in pairs
        if best in (each.left, each.right)
    }
    if not {BETTER, WORSE, TIED} & set(against.values()):
        return
    yield best.spec.run_id
    behind = sorted(enough, key=lambda group: group.worth, reverse=True)[1:]
    names = (group.spec.run_id for group in behind)
    yield from itertools.takewhile(lambda name: against.get(name) == TIED, names)


# -- what has no pair --------------------------------------------------------


def left_out(verdicts: Verdicts) -> dict[str, dict[str, list[int]]]:
    """Group -> ``failed`` and ``missing`` -> its seeds that are in no pair."""
    found: dict[str, dict[str, list[int]]] = {}
    for label, group in zip(distinct_labels(verdicts.groups), verdicts.groups, strict=True):
        done, failed = (_seeds(run.spec for run in runs) for runs in (group.done, group.failed))
        states = {"failed": failed, "missing": _seeds(group.specs) - done - failed}
        if any(states.values()):
            found[label] = {name: sorted(seeds) for name, seeds in states.items() if seeds}
    return found


def enough_seeds(seeds: Sequence[int]) -> list[int]:
    """At least one seed, and as many of the next ones as three need: ``100`` → ``100 101 102``."""
    following = ((min(seeds) + step) % _SEEDS for step in itertools.count())
    missing = max(0, LEAST - len(seeds))
    return [*seeds, *itertools.islice((each for each in following if each not in seeds), missing)]
