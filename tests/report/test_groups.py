"""Grouping: seeds together, what differs apart, and nothing counted that is not done."""

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType

import pytest

from adamwprune.base.metrics import ACCURACY
from adamwprune.plan.spec import RunSpec
from adamwprune.records.metrics import difference_error
from adamwprune.report.groups import (
    Statistic,
    compression,
    distinct_labels,
    group_runs,
    noise_note,
    settings,
    spread_note,
)
from tests.support.records import expand


def seeds(spec: RunSpec, count: int) -> list[RunSpec]:
    return [RunSpec({**spec.values, "SEED": seed}) for seed in range(count)]


def test_the_deviation_is_the_samples():
    found = Statistic.of([98.0, 99.0, 100.0])
    assert (found.n, found.mean, found.deviation) == (3, 99.0, 1.0)
    assert found.text() == "99.00 ± 1.00"


def test_one_run_has_no_spread():
    assert Statistic.of([98.765]) == Statistic(1, 98.765, None)
    assert Statistic.of([98.765]).text() == "98.77"


def test_seeds_are_one_group(published, make):
    specs = seeds(published[0], 3)
    (group,) = group_runs(specs, [make(spec) for spec in specs])
    assert group.n == 3
    assert group.score.mean == pytest.approx(sum(make(s).score for s in specs) / 3)
    assert group.status == "done"


def test_a_failed_or_missing_seed_is_named_and_not_counted(published, make):
    specs = seeds(published[0], 3)
    (group,) = group_runs(specs, [make(specs[0]), make(specs[1], status="failed")])
    assert (group.n, group.status, group.absence) == (1, "1 failed, 1 missing", "")
    (group,) = group_runs(specs, [])
    assert (group.n, group.status, group.absence) == (0, "missing", "missing")
    (group,) = group_runs(specs, [make(spec, status="failed") for spec in specs])
    assert (group.n, group.status, group.absence) == (0, "failed", "failed")


def test_a_record_that_is_not_expected_plays_no_part(published, make):
    (group,) = group_runs(published[:1], [make(spec) for spec in published])
    assert [record.run_id for record in group.done] == [published[0].run_id]


def test_a_done_record_stands_before_a_failed_one_of_the_same_run(published, make):
    both = [make(published[0]), make(published[0], status="failed")]
    for records in (both, both[::-1]):
        (group,) = group_runs(published[:1], records)
        assert group.status == "done"


def test_the_published_matrix_is_one_setting(published):
    (setting,) = settings(published, [])
    assert (setting.prefix, setting.title) == ("", "lenet5 on mnist, 10 epochs")
    assert len(setting.groups) == 42
    assert setting.sparsities == [0.5, 0.7, 0.9]
    assert setting.tags == ["magnitude", "movement"]


def test_state_runs_stand_for_movement_under_adamwprune_only(published):
    (setting,) = settings([*published, *expand("adamw-state-70")], [])
    tags = {(g.optimizer, g.method): setting.tag(g) for g in setting.groups}
    assert tags["adamwprune", "state (precond)"] == "movement"
    assert tags["adamw", "state (precond)"] == "state-precond"
    assert tags["adamw", "movement"] == "movement"


def test_data_sets_are_settings_of_their_own():
    specs = expand("quickstart", DATASET_MNIST="y")
    found = settings(specs, [])
    assert [setting.prefix for setting in found] == ["mnist-", "mnist5k-"]
    assert [len(setting.groups) for setting in found] == [10, 10]


def test_an_option_that_differs_divides_and_a_run_without_it_takes_part_in_both():
    ramps = [expand("adamw-magnitude-90", PRUNING_WARMUP=steps) for steps in ("100", "200")]
    dense = [
        spec
        for spec in expand("quickstart", DATASET="mnist")
        if spec.slug.endswith("adamw-none-s0")
    ]
    found = settings([*ramps[0], *ramps[1], *dense], [])
    assert [setting.prefix for setting in found] == ["pruning_warmup_100-", "pruning_warmup_200-"]
    for setting in found:
        assert len(setting.dense()) == 1
        assert len(setting.pruned()) == 1


def test_equal_labels_are_told_apart():
    specs = [
        spec
        for steps in ("100", "200")
        for spec in expand("adamw-magnitude-90", PRUNING_WARMUP=steps)
    ]
    assert distinct_labels(group_runs(specs, [])) == [
        "adamw magnitude 90%, pruning warmup 100",
        "adamw magnitude 90%, pruning warmup 200",
    ]


def test_compression_counts_what_is_left(published, make):
    record = make(next(spec for spec in published if spec.sparsity == 0.9))
    assert compression(record) == 61_470 / (61_470 - 55_323)
    empty = replace(record, pruning={**record.pruning, "zeros": 61_470})
    assert compression(empty) == math.inf


def test_the_error_of_a_difference_is_that_of_two_binomial_proportions():
    assert difference_error(0.5, 0.5, 200) == pytest.approx(math.sqrt(2) * 0.5 / math.sqrt(200))
    assert difference_error(0.9, 0.8, 100) == pytest.approx(math.sqrt(0.09 + 0.16) / 10)


def test_noise_is_two_standard_errors_of_a_difference():
    """At 99% on 10,000 images: 0.0995 points of one accuracy, √2 times that of a difference."""
    assert noise_note([99.0], ACCURACY, 10_000) == (
        "differences under 0.3 points on 10,000 test examples are noise "
        "(standard error of a difference 0.14)"
    )
    assert "under 1.3 points on 1,000 validation" in noise_note(
        [98.0], ACCURACY, 1_000, "validation"
    )
    assert noise_note([98.0], ACCURACY, None) == ""


def test_the_spread_note_names_n(published, make):
    one, three = seeds(published[0], 1), seeds(published[7], 3)
    single = group_runs(one, [make(spec) for spec in one])
    several = group_runs(three, [make(spec) for spec in three])
    assert spread_note(single, "").startswith("n = 1, no spread: differences under")
    assert spread_note(single, "", noise=False) == "n = 1, no spread"
    assert spread_note(several, "means; bands: 95%") == "n = 3 runs, means; bands: 95%"
    assert spread_note(several, "") == "n = 3 runs"
    assert spread_note([*single, *several], "means", noise=False) == (
        "n = 1 to 3 runs, means; where n = 1 there is no spread"
    )
    assert spread_note(group_runs(one, []), "means") == "no completed runs"


def test_a_setting_of_one_epoch_is_named_so(quick):
    (setting,) = settings([RunSpec({**quick[0].values, "EPOCHS": 1})], [])
    assert setting.title == "lenet5 on mnist5k, 1 epoch"


def calls(act: Callable[..., object], *arguments: object) -> int:
    """How many Python functions it calls: what it takes, on whatever machine."""
    count = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        act(*arguments)
    finally:
        sys.setprofile(None)
    return count


def test_twice_as_many_groups_take_twice_as_long(quick):
    """Settings of their own, and groups of one name, are not each compared with each."""
    apart, named = [], []
    for count in (200, 400):
        specs = [RunSpec({**quick[n % 2].values, "LR": 1e-5 * (n + 1)}) for n in range(count)]
        groups = group_runs(specs, [])
        named.append(calls(distinct_labels, groups))
        apart.append(calls(settings, specs, []))
    assert apart[1] < 2.5 * apart[0]
    assert named[1] < 2.5 * named[0]
