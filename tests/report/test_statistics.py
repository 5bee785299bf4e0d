"""Verdicts: numbers of published examples, what must not change them, how often they are wrong."""

import math
import random
import re
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adamwprune.config import sources, strict
from adamwprune.config.makeflags import make_variables
from adamwprune.config.tree import Tree
from adamwprune.plan import matrix
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult
from adamwprune.report import comparisons, present
from adamwprune.report.comparisons import Commands
from adamwprune.report.groups import Group, Setting, settings
from adamwprune.report.statistics import (
    BETTER,
    REFUSED,
    TIED,
    TOO_FEW,
    WORSE,
    Comparison,
    Contest,
    Estimate,
    Paired,
    compare,
    enough_seeds,
    holm,
    judge,
)
from adamwprune.report.tables import PLAIN_WIDTH, render, result_rows
from tests.support.records import elsewhere, expand, in_bits, synthetic

# Hours of sleep gained by ten patients under two drugs: Student (1908), The probable error of a
# mean, Biometrika 6, section IX; R's data set sleep. t.test(..., paired = TRUE) prints t = -4.0621,
# df = 9, p-value = 0.002833, 95 percent confidence interval -2.4598858 to -0.7001142.
DEXTRO = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
LAEVO = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)

FLIPPED = {BETTER: WORSE, WORSE: BETTER, TIED: TIED, TOO_FEW: TOO_FEW}
# Counted images of 10,000, as accuracies are: in percent with two digits.
percents = st.integers(9_000, 9_999).map(lambda images: images / 100)
matched = st.lists(st.tuples(percents, percents), min_size=3, max_size=12)


# -- numbers of others -------------------------------------------------------


def test_students_own_example():
    found = Paired.of(DEXTRO, LAEVO)
    assert found.difference.n == 10
    assert found.difference.mean == pytest.approx(-1.58)
    assert found.difference.deviation == pytest.approx(1.229995)  # R: sd
    assert found.difference.interval == pytest.approx((-2.4598858, -0.7001142))
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    assert found.effect == pytest.approx(-4.0621 / math.sqrt(10), abs=5e-5)  # d_z = t / sqrt(n)


def test_three_values_by_hand():
    found = Estimate.of([98.0, 99.0, 100.0])
    assert (found.n, found.mean, found.deviation, found.bca) == (3, 99.0, 1.0, None)
    half = 4.302653 / math.sqrt(3)  # t with 2 degrees of freedom at 97.5%, from any table
    assert found.interval == pytest.approx((99 - half, 99 + half))


@pytest.mark.parametrize(
    ("raw", "adjusted"),
    [
        # The documentation of pingouin's holm, of stdlib's padjust, of Wikipedia's Holm–Bonferroni.
        ([0.50, 0.003, 0.32, 0.054, 0.0003], [0.64, 0.012, 0.64, 0.162, 0.0015]),
        ([0.319, 0.201, 0.4, 0.374, 0.113], [0.957, 0.804, 0.957, 0.957, 0.565]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.7, 0.6], [1, 1]),
        ([], []),
    ],
)
def test_holm_as_published(raw, adjusted):
    assert holm(raw) == pytest.approx(adjusted)


def test_the_bootstrap_interval_is_efrons():
    """Against the equations (14.9) to (14.15) of Efron & Tibshirani (1993), written out anew."""
    values = [2.0, 2.1, 1.9, 2.4, 2.2, 5.0, 1.7, 2.0, 3.1, 2.6]
    normal, draw = statistics.NormalDist(), random.Random(1)
    mean = statistics.fmean(values)
    means = sorted(statistics.fmean(draw.choices(values, k=10)) for _ in range(20_000))
    below = sum(m < mean for m in means) + 0.5 * sum(m == mean for m in means)
    bias = normal.inv_cdf(below / len(means))
    jackknife = [(10 * mean - value) / 9 for value in values]
    gaps = [mean - each for each in jackknife]
    acceleration = sum(g**3 for g in gaps) / (6 * sum(g**2 for g in gaps) ** 1.5)

    def bound(level: float) -> float:
        z = bias + normal.inv_cdf(level)
        place = normal.cdf(bias + z / (1 - acceleration * z))
        return means[round(place * (len(means) - 1))]

    found = Estimate.of(values)
    assert found.bca == pytest.approx((bound(0.025), bound(0.975)), abs=0.04)
    assert found.bca[0] > found.interval[0], "skewed to the right: above the symmetric one"
    assert Estimate.of(values[:7]).bca is None


# -- without spread ----------------------------------------------------------


@pytest.mark.parametrize("n", [3, 5, 9])
def test_equal_runs_are_tied(n):
    found = Paired.of([98.76] * n, [98.76] * n)
    assert found == Paired(Estimate(n, 0.0, 0.0), None, 1.0)


@pytest.mark.parametrize(("n", "p"), [(3, 0.25), (5, 0.0625), (6, 0.03125), (8, 0.0078125)])
def test_the_sign_test_stands_where_all_differences_are_equal(n, p):
    """The same tenth of a point everywhere, though not to the last bit: 2 / 2**n."""
    right = [98.7 + 0.1 * seed / 3 for seed in range(n)]
    found = Paired.of([value + 0.1 for value in right], right)
    assert found.difference.mean == pytest.approx(0.1)
    assert (found.difference.deviation, found.difference.interval, found.effect) == (0, None, None)
    assert found.p == p


# -- what must not change a verdict ------------------------------------------


def outcome(left: Sequence[float], right: Sequence[float]) -> tuple[str, Paired]:
    """The verdict of two groups of runs that are all of a report, in the order given."""
    sides = tuple(
        group_of(pruned(method), dict(enumerate(values)))
        for method, values in (("movement", left), ("magnitude", right))
    )
    (found,) = judge([Setting("", "a title", sides)]).comparisons
    assert found.paired is not None
    return found.verdict, found.paired


def pruned(method: str, **values: object) -> RunSpec:
    same = {"MODEL": "lenet5", "DATASET": "mnist", "OPTIMIZER": "adamw", "TARGET_SPARSITY": 0.9}
    return RunSpec({**same, "PRUNING_METHOD": method, "LR": 0.001, "SEED": 0, **values})


def group_of(spec: RunSpec, accuracies: dict[int, float], failed: Sequence[int] = ()) -> Group:
    """Runs with these test accuracies, in percent, by seed; of others the record is not read."""
    specs = {seed: RunSpec({**spec.values, "SEED": seed}) for seed in (*accuracies, *failed)}
    done = (
        RunResult(specs[seed].run_id, "done", specs[seed], final={"test_accuracy": value / 100})
        for seed, value in accuracies.items()
    )
    broken = (RunResult(specs[seed].run_id, "failed", specs[seed]) for seed in failed)
    return Group(tuple(specs.values()), tuple(done), tuple(broken))


def numbers(found: Paired) -> list[float]:
    """Every number that there is."""
    difference = found.difference
    several = [*(difference.interval or ()), *(difference.bca or ())]
    single = [difference.mean, difference.deviation, found.effect, found.p]
    return [each for each in (*single, *several) if each is not None]


@given(matched)
def test_nothing_is_ever_nan(pairs):
    _, found = outcome(*zip(*pairs, strict=True))
    assert all(math.isfinite(each) for each in numbers(found))
    assert 0 <= found.p <= 1


@given(matched)
def test_swapping_the_sides_flips_the_verdict(pairs):
    left, right = zip(*pairs, strict=True)
    one, other = Paired.of(left, right), Paired.of(right, left)
    assert other.p == pytest.approx(one.p, rel=1e-6)
    assert other.difference.mean == pytest.approx(-one.difference.mean)
    for name in ("interval", "bca"):
        there, back = getattr(one.difference, name), getattr(other.difference, name)
        assert (there is None) == (back is None)
        if there:
            assert back == pytest.approx((-there[1], -there[0]), abs=1e-9)
    assert outcome(right, left)[0] == FLIPPED[outcome(left, right)[0]]


@given(matched, st.integers(-5_000, 5_000))
def test_a_constant_on_both_sides_changes_nothing(pairs, images):
    left, right = zip(*pairs, strict=True)
    shift = images / 100
    before, found = outcome(left, right)
    after, shifted = outcome([v + shift for v in left], [v + shift for v in right])
    assert after == before
    assert numbers(shifted) == pytest.approx(numbers(found), rel=1e-6, abs=1e-9)


@given(matched, st.randoms())
def test_other_names_for_the_seeds_change_nothing(pairs, draw):
    before, found = outcome(*zip(*pairs, strict=True))
    mixed = list(pairs)
    draw.shuffle(mixed)
    after, again = outcome(*zip(*mixed, strict=True))
    assert (after, numbers(again)) == (before, numbers(found)), "to the last bit"


@given(st.lists(st.tuples(percents, percents), min_size=1, max_size=2))
def test_one_or_two_pairs_never_win(pairs):
    verdict, found = outcome(*zip(*pairs, strict=True))
    assert verdict == TOO_FEW
    assert found.p is found.effect is None


@given(st.lists(st.floats(0, 1), max_size=30))
def test_holm_only_raises_and_keeps_the_order(raw):
    adjusted = holm(raw)
    assert all(p <= each <= 1 for p, each in zip(raw, adjusted, strict=True))
    order = sorted(range(len(raw)), key=raw.__getitem__)
    assert [adjusted[i] for i in order] == sorted(adjusted)


# -- how often it is wrong ---------------------------------------------------


def simulate(draw: random.Random, seeds: int, images: int, planted: float = 0) -> list[Comparison]:
    """Verdicts on three methods at two targets whose runs differ by chance, and share their seed's.

    Accuracies are whole images of ``images``; ``planted`` points are added to one method at one
    target.
    """
    groups = []
    for target in (0.7, 0.9):
        luck = [draw.gauss(98.5, 0.1) for _ in range(seeds)]
        for method in ("magnitude", "movement", "state"):
            more = planted if (method, target) == ("state", 0.9) else 0
            runs = {
                seed: round((common + more + draw.gauss(0, 0.1)) * images / 100) * 100 / images
                for seed, common in enumerate(luck)
            }
            groups.append(group_of(pruned(method, TARGET_SPARSITY=target), runs))
    verdicts = judge([Setting("", "a title", tuple(groups))])
    assert verdicts.tests == 6
    assert len(verdicts.comparisons) == 4
    return list(verdicts.comparisons)


@pytest.mark.parametrize(("seeds", "images"), [(3, 10_000), (3, 1_000), (6, 10_000)])
@pytest.mark.slow
def test_by_chance_alone_no_more_than_one_report_in_twenty_has_a_winner(seeds, images):
    """1,000 images are as coarse as the runs are scattered: equal differences are frequent."""
    draw, reports = random.Random(20_240_601), 200
    wrong = sum(
        any(each.verdict in (BETTER, WORSE) for each in simulate(draw, seeds, images))
        for _ in range(reports)
    )
    slack = 3 * math.sqrt(0.05 * 0.95 / reports)  # three standard errors of a count
    assert wrong / reports <= 0.05 + slack


def test_marks_are_no_more_often_wrong_than_verdicts(monkeypatch):
    """The best of three that are alike is chosen after the fact: still it seldom stands alone."""
    draw, reports, wrong = random.Random(7), 150, 0
    for _ in range(reports):
        groups = tuple(
            group_of(pruned(method), {seed: draw.gauss(98, 0.1) for seed in range(5)})
            for method in ("magnitude", "movement", "state", "random")
        )
        wrong += len(judge([Setting("", "a title", groups)]).leading) < 4
    assert wrong / reports <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / reports)


def test_a_planted_difference_is_found():
    draw, found = random.Random(3), 0
    for _ in range(20):
        verdicts = simulate(draw, 6, 10_000, planted=1.0)
        better = [(e.left.method, e.left.sparsity) for e in verdicts if e.verdict == BETTER]
        found += ("state", 0.9) in better
    assert found >= 19  # seven standard deviations of a difference


def test_where_lower_is_better_the_lower_mean_wins():
    planned = plan("quickstart", SEED="0 1 2 3", TARGET_SPARSITY="0.9")
    records = [synthetic(spec) for spec in planned.specs]
    records = [
        replace(r, final={**r.final, "test_accuracy": scattered(r.spec) / 100}) for r in records
    ]
    verdicts = []
    for own in (records, [in_bits(record) for record in records]):
        found = judge(settings(planned.specs, own), planned.deciders)
        verdicts.append({(e.left.label, e.right.label): e.verdict for e in found.comparisons})
    assert verdicts[0] == verdicts[1]
    assert verdicts[1]["adamw movement 90%", "adamw magnitude 90%"] == WORSE
    (worse,) = (e for e in found.comparisons if e.left.method == "movement")
    assert worse.paired.difference.mean > 0, "more bits a byte"


# -- what is compared with what ----------------------------------------------


def plan(defconfig: str, **given: str) -> matrix.Matrix:
    tree = Tree()
    strict.apply(tree, sources.read_defconfig(tree, defconfig))
    sources.override(tree, given)
    return matrix.expand(tree)


def told(found: Sequence[Comparison]) -> list[tuple[str, str, str]]:
    return [(each.left.label, each.right.label, each.verdict) for each in found]


def test_methods_against_magnitude_and_optimizers_against_adamw(make):
    planned = plan("memory-comparison", SEED="0 1 2")
    found = judge(settings(planned.specs, map(make, planned.specs)), planned.deciders)
    pairs = [(each.left.label, each.right.label) for each in found.comparisons]
    others = ("sgd", "adam", "adamwadv", "adamwspam", "adamwprune")
    assert pairs[:5] == [(f"{name} dense", "adamw dense") for name in others]
    assert pairs[5] == ("sgd movement 50%", "sgd magnitude 50%")
    assert pairs[-1] == ("adamwprune state (precond) 90%", "adamwprune magnitude 90%")
    assert len(pairs) == 5 + 6 * 3
    assert found.tests == 15 + 6 * 3, "of every two optimizers, whatever is shown"
    assert REFUSED not in {each.verdict for each in found.comparisons}


def test_without_a_reference_the_first_of_the_matrix_is_one():
    specs = expand("study-criterion", SEED="0 1 2", TARGET_SPARSITY="0.9")
    found = judge(settings(specs, map(synthetic, specs)))
    assert {each.right.method for each in found.comparisons} == {"state (precond)"}
    assert (len(found.comparisons), found.tests) == (4, 10)


def test_a_run_in_two_settings_is_compared_once():
    ramps = [expand("quickstart", PRUNING_WARMUP=steps, SEED="0 1 2") for steps in ("50", "60")]
    specs = list(dict.fromkeys(spec for specs in ramps for spec in specs))
    found = judge(settings(specs, map(synthetic, specs)))
    pairs = [(each.left.spec.run_id, each.right.spec.run_id) for each in found.comparisons]
    assert len(pairs) == len(set(pairs)) == 1 + 2 * 4


def test_options_left_to_the_optimizer_belong_to_it(make):
    """adamwadv is adamw with AMSGrad, clipping and more decay: that is its name's meaning."""
    planned = plan("memory-comparison", SEED="0 1 2")
    groups = settings(planned.specs, map(make, planned.specs))
    known = judge(groups, planned.deciders)
    assert "adamwadv dense" in {each.left.label for each in known.comparisons}
    unknown = {each.left.label: each for each in judge(groups).comparisons}
    refused = unknown["adamwadv dense"]
    assert refused.verdict == REFUSED
    assert refused.differing == ("AMSGRAD", "MAX_GRAD_NORM", "WEIGHT_DECAY")
    assert refused.paired is None
    assert unknown["adam movement 90%"].verdict != REFUSED


def contest(*groups: Group) -> Contest:
    return Contest("a title", "PRUNING_METHOD", groups)


def test_no_worse_mean_is_marked_where_a_better_one_is_not():
    """Of noise alone the last one is not shown to be worse than the best, which the middle is."""
    best = group_of(pruned("magnitude"), {0: 98.0, 1: 98.1, 2: 98.2, 3: 98.3})
    middle = group_of(pruned("movement"), {0: 97.0, 1: 97.1, 2: 97.2, 3: 97.3001})
    last = group_of(pruned("random"), {0: 99.0, 1: 93.1, 2: 99.2, 3: 91.3})
    verdicts = judge([Setting("", "a title", (best, middle, last))])
    told = {each.left.label: each.verdict for each in verdicts.comparisons}
    assert verdicts.leading == {best.spec.run_id}, told


def test_runs_that_differ_in_more_are_refused_by_name():
    values = {0: 98.0, 1: 98.1, 2: 98.2}
    plain = group_of(pruned("magnitude"), values)
    other = group_of(pruned("movement", LR=0.01, EPOCHS=3), values)
    found = compare(other, plain, contest(other, plain))
    assert (found.verdict, found.differing, found.n) == (REFUSED, ("LR",), 0)
    presets = {group.spec.run_id: {"LR": "OPTIMIZER"} for group in (other, plain)}
    assert compare(other, plain, contest(other, plain), presets).differing == ("LR",)
    verdicts = judge([Setting("", "a title", (other, plain))])
    assert verdicts.leading == frozenset()
    assert comparisons.sentences(verdicts, Commands())[0] == (
        "adamw movement 90% against adamw magnitude 90% is refused: they also differ in LR (0.01 "
        "and 0.001)."
    )


def test_an_option_that_an_older_record_does_not_know_is_compared_by_its_meaning():
    values = {0: 98.0, 1: 98.1, 2: 98.2}
    old = group_of(pruned("magnitude"), values)
    same = group_of(pruned("movement", VALIDATION_EXAMPLES=0), values)
    other = group_of(pruned("movement", VALIDATION_EXAMPLES=5_000), values)
    assert compare(same, old, contest(same, old)).differing == ()
    assert compare(other, old, contest(other, old)).differing == ("VALIDATION_EXAMPLES",)


def test_a_seed_without_a_counterpart_is_in_no_pair_and_is_named():
    left = group_of(pruned("movement"), {0: 98.1, 1: 98.3, 3: 98.6, 4: 98.0}, failed=[2])
    right = group_of(pruned("magnitude"), {4: 98.1, 1: 98.0, 0: 98.0, 2: 70.0}, failed=[3])
    verdicts = judge([Setting("", "a title", (left, right))])
    (found,) = verdicts.comparisons
    assert (found.n, found.expected) == (3, 5)
    assert found.paired == Paired.of([98.1, 98.3, 98.0], [98.0, 98.0, 98.1])
    text = comparisons.render(verdicts, "text", PLAIN_WIDTH)
    assert "3 of 5" in text
    assert (
        "Seeds in no pair: adamw movement 90% (failed: seed 2); "
        "adamw magnitude 90% (failed: seed 3)." in text
    )


# -- what is shown -----------------------------------------------------------


def report(format: str, accuracy: Callable[[RunSpec], float] | None = None, **given: str) -> str:
    """Of the quickstart, with these test accuracies in percent or those of synthetic records."""
    planned = plan("quickstart", **given)
    records = list(map(synthetic, planned.specs))
    if accuracy:
        records = [
            replace(r, final={**r.final, "test_accuracy": accuracy(r.spec) / 100}) for r in records
        ]
    request = present.Request(planned.deciders)
    return present.tables_of(planned.specs, records, format, memory=False, request=request)


def scattered(spec: RunSpec) -> float:
    """Movement 2 points worse, the criteria of state alike."""
    luck = random.Random(spec.run_id).gauss(0, 0.05)
    return 98.5 + luck - 2 * (spec["PRUNING_METHOD"] == "movement")


def test_a_winner_is_said_in_a_sentence_and_marked_in_the_table():
    text = report("text", scattered, SEED="0 1 2 3", TARGET_SPARSITY="0.9")
    assert max(len(line) for line in text.splitlines()) <= PLAIN_WIDTH
    flat = " ".join(text.split())
    assert re.search(r"adamw movement 90% is worse than adamw magnitude 90%: -(1\.9|2\.)", flat)
    assert "n = 4 pairs." in flat
    assert "Holm over 3 tests" in flat
    assert "2 of 3 tied: no difference was shown, which does not show that there is none." in flat
    rows = [line for line in text.splitlines() if line.startswith("adamw ") and " 4 " in line]
    marked = {line.split()[1]: " * " in line for line in rows if "/61,470" in line}
    assert marked == {"dense": True, "magnitude": True, "movement": False}


def test_markdown_says_the_same():
    text = report("markdown", scattered, SEED="0 1 2 3", TARGET_SPARSITY="0.9")
    lines = [line for line in text.split("**Comparisons**")[1].splitlines() if "|" in line]
    assert len(lines) == 2 + 3
    assert len({line.count("|") for line in lines}) == 1
    assert re.match(r"\| adamw movement 90% \| magnitude \| 4 \| -(1\.9|2\.)", lines[3])
    assert lines[3].endswith(" | worse |")


def test_csv_has_the_interval_and_the_mark_and_no_sentences():
    text = report("csv", scattered, SEED="0 1 2 3", TARGET_SPARSITY="0.9")
    assert len(text.strip().splitlines()) == 1 + 6
    assert ",accuracy_low,accuracy_high,leading," in text


def test_marks_need_three_seeds():
    for count in ("0", "0 1"):
        text = report("text", SEED=count)
        assert "*" not in text
        assert "better" not in text
        assert "worse" not in text


def test_ten_seeds_have_a_bootstrap_interval_and_fit():
    text = report("text", SEED="0 1 2 3 4 5 6 7")
    assert "95% (BCa)" in text
    assert max(len(line) for line in text.splitlines()) <= PLAIN_WIDTH
    own = text.split("Comparisons\n")[1].splitlines()
    assert sum(line.startswith("adamwprune state (precond) ") for line in own) == 2  # unbroken


def test_pairs_from_two_places_are_told():
    specs = expand("quickstart", SEED="0 1 2", TARGET_SPARSITY="0.9", OPTIMIZER="adamw")
    records = [
        elsewhere(r, threads=8) if r.spec["PRUNING_METHOD"] == "movement" else r
        for r in map(synthetic, specs)
    ]
    text = " ".join(present.tables_of(specs, records, "text", memory=False).split())
    assert "In 1 of 1 the two runs of a pair were made on different processors, threads" in text


def test_a_matrix_with_nothing_to_compare_says_nothing(make):
    specs = expand("adamw-magnitude-90", SEED="0 1 2")
    text = present.tables_of(specs, [make(spec) for spec in specs], "text", memory=False)
    assert "Comparisons" not in text
    assert f"{result_rows(specs, map(make, specs))[0].interval[0]:.2f}–" in text
    assert "95%" not in render(result_rows(specs[:1], map(make, specs)), "text")


# -- what is missing ---------------------------------------------------------


def advice(specs: list[RunSpec], records: list[RunResult], commands: Commands) -> list[str]:
    lines = comparisons.sentences(judge(settings(specs, records)), commands)
    return [line.strip() for line in lines if line.startswith("    ")]


def test_too_few_seeds_come_with_the_command_that_adds_them():
    specs = expand("quickstart", OPTIMIZER="adamw", SEED="0")
    given = {"OPTIMIZER": "adamw", "SEED": "0", "V": "1", "FORMAT": "text", "DATA_DIR": "/a b"}
    assert advice(specs, list(map(synthetic, specs)), Commands(given)) == [
        'make OPTIMIZER=adamw SEED="0 1 2" DATA_DIR="/a b"'
    ]
    commands = Commands({"JOBS": "2"}, "memory-comparison")
    assert advice(specs, list(map(synthetic, specs)), commands) == [
        'make memory-comparison JOBS=2 SEED="0 1 2"'
    ]


def test_missing_and_failed_runs_come_with_theirs():
    specs = expand("quickstart", OPTIMIZER="adamw", SEED="0 1 2", TARGET_SPARSITY="0.9")
    records = [synthetic(s, status="failed" if s["SEED"] == 1 else "done") for s in specs[:-1]]
    given = Commands({"CONFIG": "quickstart"})
    assert advice(specs, records, given) == [
        "make CONFIG=quickstart",
        "make retry CONFIG=quickstart",
    ]
    assert Commands({}, "memory-comparison").retry() == "make retry CONFIG=memory-comparison"


@pytest.mark.parametrize(
    ("seeds", "enough"),
    [
        ([0], [0, 1, 2]),
        ([100, 101], [100, 101, 102]),
        ([0, 5], [0, 5, 1]),
        ([2**32 - 1], [2**32 - 1, 0, 1]),
        ([4, 5, 6, 7], [4, 5, 6, 7]),
    ],
)
def test_the_seeds_that_are_there_are_kept(seeds, enough):
    assert enough_seeds(seeds) == enough


def test_the_command_reaches_make_as_it_was_given(tmp_path):
    """Through a shell and make and back: what a user copies asks for the same runs."""
    (tmp_path / "Makefile").write_text(
        "unexport $(.VARIABLES)\nexport MAKEFLAGS\nall:\n\t@printf '%s' \"$$MAKEFLAGS\"\n"
    )
    given = {
        "TARGET_SPARSITY": "0.7 0.9",
        "DATA_DIR": '/it\'s a "b" \\ c;d',
        "O": "$(shell touch harm)/$$x",
        "VENV": "",
        "EPOCHS": "3",
    }
    line = Commands(given).add_seeds([0, 1, 2])
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert make_variables(done.stdout) == {**given, "SEED": "0 1 2"}
    assert not (tmp_path / "harm").exists()


def test_the_command_of_a_matrix_asks_for_its_runs_and_the_seeds():
    """Three seeds of the same configuration: those that are there, and two more of each."""
    before = expand("quickstart", TARGET_SPARSITY="0.9", SEED="7")
    commands = Commands({"CONFIG": "quickstart", "TARGET_SPARSITY": "0.9", "SEED": "7"})
    (line,) = advice(before, list(map(synthetic, before)), commands)
    assert line == 'make CONFIG=quickstart TARGET_SPARSITY=0.9 SEED="7 8 9"'
    after = expand("quickstart", TARGET_SPARSITY="0.9", SEED="7 8 9")
    assert set(before) < set(after)
    assert {spec for spec in after if spec["SEED"] == 7} == set(before)


def test_an_interval_without_0_beside_tied_is_explained():
    """t = 7 with two degrees of freedom: p = 0.0198, and 0.059 by Holm for three tests."""

    def accuracy(spec: RunSpec) -> float:
        behind = (0.3, 0.3, 0.45)[spec["SEED"]] if spec["PRUNING_METHOD"] == "movement" else 0
        return 98 - behind

    text = " ".join(report("text", accuracy, SEED="0 1 2", TARGET_SPARSITY="0.9").split())
    assert "-0.35 -0.57..-0.13 0.059 -4.0 tied" in text
    assert "1 of the tied has an interval without 0: an interval holds for one" in text


def test_two_values_have_a_deviation_and_no_interval():
    """By Student's t it would be 18 deviations wide."""
    found = Estimate.of([98.0, 99.0])
    assert (found.deviation, found.interval) == (pytest.approx(0.5**0.5), None)
