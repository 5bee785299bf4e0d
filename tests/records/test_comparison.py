"""The verdict on a repeated run: to the bit, by chance, or something else; and why."""

from __future__ import annotations

import copy
import math
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adamwprune.base.errors import UserError
from adamwprune.commands.reproduce import spec_of
from adamwprune.plan.spec import RunSpec
from adamwprune.records.comparison import compare, other_seeds
from adamwprune.records.published import read_published
from adamwprune.records.record import RunResult
from tests.support.commands import ROOT
from tests.support.records import BITS

SPEC = RunSpec(
    {
        "MODEL": "lenet5",
        "DATASET": "mnist",
        "OPTIMIZER": "adamw",
        "PRUNING_METHOD": "magnitude",
        "TARGET_SPARSITY": 0.9,
        "SEED": 0,
    }
)
PLACE = {
    "device": "cpu",
    "device_name": "AMD EPYC",
    "threads": 1,
    "torch": "2.9.0",
    "commit": "0123456789abcdef",
    "dirty": False,
    "diff": None,
    "packages": {"mkl": "2024.2", "rich": "15.0"},
    "determinism": {"cudnn_benchmark": False},
    "host": "here",
}


def record(accuracies: list[float], spec: RunSpec = SPEC, zeros: int = 55_323) -> RunResult:
    """A run of as many epochs, in half a second each."""
    history = [
        {"epoch": n, "test_accuracy": a, "test_loss": 1 - a, "seconds": 0.5}
        for n, a in enumerate(accuracies, 1)
    ]
    final = {"test_accuracy": accuracies[-1], "test_loss": 1 - accuracies[-1]}
    pruning = {"zeros": zeros, "k": 55_323, "layers": [{"name": "fc1", "zeros": zeros}]}
    return RunResult(
        spec.run_id, "done", spec, history, final, pruning=pruning, environment=copy.deepcopy(PLACE)
    )


def elsewhere(result: RunResult, **changes: Any) -> RunResult:
    return replace(result, environment={**result.environment, **changes})


ORIGINAL = record([0.97, 0.98])

# -- identical ---------------------------------------------------------------------


def test_the_same_numbers_are_identical_however_long_they_took() -> None:
    repeated = copy.deepcopy(ORIGINAL)
    repeated.history[0]["seconds"] = 99.0
    found = compare(ORIGINAL, repeated)
    assert (found.verdict, found.differing, found.epoch, found.by) == ("identical", (), None, {})
    assert found.text() == "identical: history, final, pruning are equal to the bit, 98.00%"


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.history[0].update(test_loss=math.nextafter(r.history[0]["test_loss"], 1)),
        lambda r: r.history[1].update(lr=0.1),
        lambda r: r.history.pop(),
        lambda r: r.final.update(test_loss=0.5),
        lambda r: r.pruning["layers"][0].update(name="fc2"),
    ],
)
def test_one_other_bit_anywhere_is_not_identical(change: Any) -> None:
    repeated = copy.deepcopy(ORIGINAL)
    change(repeated)
    assert compare(ORIGINAL, repeated).verdict == "within tolerance"


def test_zero_and_minus_zero_are_other_bits() -> None:
    first, second = copy.deepcopy(ORIGINAL), copy.deepcopy(ORIGINAL)
    first.history[0]["lr"], second.history[0]["lr"] = 0.0, -0.0
    assert compare(first, second).verdict == "within tolerance"


def test_weights_count_where_both_records_have_their_digest() -> None:
    one, two = replace(ORIGINAL, weights="aaaa"), replace(ORIGINAL, weights="bbbb")
    assert compare(ORIGINAL, one).verdict == "identical"
    same = compare(one, copy.deepcopy(one))
    assert same.compared == ("history", "final", "pruning", "weights")
    other = compare(one, two)
    assert (other.verdict, other.differing) == ("within tolerance", ("weights",))
    assert "differing: weights" in other.text()


def test_what_only_a_later_record_says_of_an_update_is_no_difference() -> None:
    def updated(**fields: Any) -> RunResult:
        found = record([0.5, 0.9])
        found.pruning["updates"] = [{"step": 10, "zeros": 7, **fields}]
        return found

    assert compare(updated(), updated(changed=7, magnitude_overlap=0.5)).verdict == "identical"
    assert compare(updated(changed=7), updated(changed=8)).differing == ("pruning",)
    shorter = updated()
    shorter.pruning["updates"] = []
    assert compare(updated(), shorter).differing == ("pruning",)


def test_identical_in_spite_of_another_machine_says_so() -> None:
    found = compare(ORIGINAL, elsewhere(ORIGINAL, threads=2))
    assert found.verdict == "identical"
    assert found.text().splitlines()[1:] == ["although other: threads 1, then 2"]


# -- within tolerance and different ------------------------------------------------


def test_the_tolerance_is_three_standard_errors_of_two_proportions() -> None:
    """p = 0.98, q = 0.974 on 10,000 images: 3·√((0.0196 + 0.025324)/10⁴) = 0.6359 points."""
    found = compare(ORIGINAL, record([0.97, 0.974]))
    assert found.tolerance == pytest.approx(0.635858, abs=1e-6)
    assert found.verdict == "within tolerance"
    assert compare(ORIGINAL, record([0.97, 0.9736])).verdict == "different"  # 0.640 > 0.639


def test_a_smaller_test_set_tolerates_more() -> None:
    small = RunSpec({**SPEC.values, "DATASET": "mnist5k"})
    pair = record([0.98], small), record([0.965], small)  # 1.5 points; 3 errors are 2.19
    assert compare(*pair).verdict == "within tolerance"
    assert compare(record([0.98]), record([0.965])).verdict == "different"


def test_a_data_set_of_unknown_size_tolerates_nothing() -> None:
    other = RunSpec({**SPEC.values, "DATASET": "elsewhere"})
    found = compare(record([0.98], other), record([0.9801], other))
    assert (found.verdict, found.tolerance) == ("different", None)
    assert "the size of the test set is not known" in found.text()
    assert compare(record([0.98], other), record([0.98], other)).verdict == "identical"


def in_bits(bits: float, seed: int = 0) -> RunResult:
    """A run that is judged by bits per byte, of which fewer are better."""
    spec = RunSpec({**SPEC.values, "SEED": seed})
    values = {"train_bits_per_byte": bits, "test_bits_per_byte": bits}
    return replace(
        record([0.9], spec), history=[values], final=values, metrics=[BITS.to_json()], examples=500
    )


def test_a_metric_without_a_binomial_error_is_held_to_the_spread_of_seeds() -> None:
    """Seeds 1.10, 1.11 and 1.12: s = 0.01, and 3·√2·s = 0.0424."""
    original, seeds = in_bits(1.11), [in_bits(1.10, 1), in_bits(1.12, 2)]
    found = compare(original, in_bits(1.152), seeds)
    assert found.tolerance == pytest.approx(0.042426, abs=1e-6)
    assert found.verdict == "within tolerance"
    assert found.text().splitlines()[0] == (
        "within tolerance: 1.110 bits per byte and 1.152 bits per byte in the end; 3 standard "
        "errors are 0.042 bits per byte"
    )
    assert compare(original, in_bits(1.1525), seeds).verdict == "different"


def test_without_three_seeds_nothing_but_equality_is_a_reproduction() -> None:
    original = in_bits(1.11)
    found = compare(original, in_bits(1.1101), [in_bits(1.10, 1)])
    assert (found.verdict, found.tolerance) == ("different", None)
    assert "would take 3 seeds of this run to say" in found.text()
    assert compare(original, copy.deepcopy(original)).text() == (
        "identical: history, final, pruning are equal to the bit, 1.110 bits per byte"
    )


def test_other_seeds_are_those_of_the_same_run() -> None:
    seeds = [in_bits(1.10, 1), in_bits(1.12, 2)]
    failed = replace(in_bits(1.0, 3), status="failed")
    other = record([0.9], RunSpec({**SPEC.values, "OPTIMIZER": "sgd", "SEED": 1}))
    original = in_bits(1.11)
    assert list(other_seeds(original, [original, failed, other, *seeds])) == seeds


def test_records_of_two_metrics_are_different() -> None:
    found = compare(record([0.9]), in_bits(0.9), [record([0.9], SPEC)] * 3)
    assert (found.verdict, found.tolerance) == ("different", None)


def test_other_zeros_are_different_at_the_same_accuracy() -> None:
    found = compare(ORIGINAL, record([0.97, 0.98], zeros=55_322))
    assert (found.verdict, found.differing) == ("different", ("pruning",))
    assert "55,323 and 55,322 weights zero" in found.text()


def test_the_first_other_epoch_is_named_and_by_how_much() -> None:
    first, second = record([0.9, 0.95, 0.98]), record([0.9, 0.953, 0.979])
    found = compare(first, second)
    assert found.epoch == 2
    assert found.by == {"test_accuracy": pytest.approx(0.003), "test_loss": pytest.approx(-0.003)}
    assert found.text() == (
        "within tolerance: 98.00% and 97.90% in the end; 3 standard errors are 0.60 points\n"
        "differing from epoch 2 on: test_accuracy by +0.003, test_loss by -0.003\n"
        "device, threads, torch and code are the same: no reason is recorded"
    )


def test_an_epoch_that_one_run_lacks_is_the_first_other_one() -> None:
    found = compare(record([0.9, 0.98]), record([0.9, 0.98, 0.98]))
    assert (found.epoch, found.by) == (3, {})


@pytest.mark.slow
def test_what_was_published_is_understood_here_whatever_the_defaults_are_now() -> None:
    kinds = {}
    for found in read_published(ROOT / "results" / "published"):
        values = {
            k: v for k, v in found.spec.values.items() if k not in ("SEED", "TARGET_SPARSITY")
        }
        kinds[tuple(values.items())] = found
    assert len({found.spec["LR"] for found in kinds.values()}) > 1
    for found in kinds.values():
        assert spec_of(found) == found.spec


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, "the values in its record mean lenet5-mnist-adamw-magnitude-90-s0-"),
        ({"LR": 1000.0}, "LR=1000.0: 1000.0 is outside"),
        ({"OPTIMIZER": "nothing"}, "no such member"),
    ],
)
def test_a_record_that_is_not_understood_here_is_refused(change: Any, told: str) -> None:
    """``SPEC`` lacks values, which the defaults of this tree fill."""
    with pytest.raises(UserError, match=re.escape(told)):
        spec_of(record([0.9], RunSpec({**SPEC.values, **change})))


def test_a_run_that_failed_repeats_nothing() -> None:
    error = "Traceback …\nValueError: training diverged: the loss is nan\n"
    failed = RunResult(SPEC.run_id, "failed", SPEC, error=error)
    found = compare(ORIGINAL, failed)
    assert found.verdict == "different"
    told = "different: the repeated run failed: ValueError: training diverged: the loss is nan"
    assert found.text().splitlines()[0] == told
    assert "the original run failed" in compare(failed, ORIGINAL).text()
    assert compare(failed, failed).verdict == "different"


def test_another_run_is_no_repetition() -> None:
    other = RunSpec({**SPEC.values, "SEED": 1})
    with pytest.raises(UserError, match=f"{other.run_id} is no repetition of {SPEC.run_id}"):
        compare(ORIGINAL, record([0.98], other))


# -- the probable reason -----------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"device": "cuda:0"}, "device cpu, then cuda:0"),
        ({"threads": 2}, "threads 1, then 2"),
        ({"torch": "2.10.0"}, "torch 2.9.0, then 2.10.0"),
        ({"packages": {"mkl": "2025.0", "rich": "16"}}, "mkl 2024.2, then 2025.0"),
        ({"determinism": {"cudnn_benchmark": True}}, "cudnn_benchmark False, then True"),
        ({"commit": "fedc"}, "code 0123456789abcdef, then fedc"),
        ({"dirty": True, "diff": "77"}, "code 0123456789abcdef, then 0123456789abcdef 77"),
        ({"dirty": True}, "code 0123456789abcdef, then 0123456789abcdef changed"),
    ],
)
def test_what_differs_is_the_probable_reason(changes: dict[str, Any], told: str) -> None:
    found = compare(ORIGINAL, elsewhere(record([0.97, 0.9801]), **changes))
    assert found.causes == (told,)
    assert found.text().splitlines()[2] == f"probably because of: {told}"


def test_where_it_ran_is_no_reason_and_nor_is_what_is_not_recorded() -> None:
    repeated = elsewhere(record([0.97, 0.9801]), host="there")
    for name in ("torch", "packages", "determinism"):
        del repeated.environment[name]
    assert compare(ORIGINAL, repeated).causes == ()


def test_another_commit_with_the_same_code_of_the_run_is_no_reason() -> None:
    first = replace(ORIGINAL, code={"digest": "11"})
    second = elsewhere(replace(record([0.97, 0.9801]), code={"digest": "11"}), commit="fedc")
    assert compare(first, second).causes == ()
    assert compare(first, replace(second, code={"digest": "22"})).causes != ()


def test_many_reasons_are_cut_short() -> None:
    there = elsewhere(record([0.97, 0.9801]), device="cuda:0", threads=4, torch="3", commit="f")
    (*_, line) = compare(ORIGINAL, there).text().splitlines()
    assert line.endswith("threads 1, then 4; torch 2.9.0, then 3; and 1 more")


# -- properties --------------------------------------------------------------------

fractions = st.integers(0, 10_000).map(lambda hits: hits / 10_000)
places = st.fixed_dictionaries({"threads": st.integers(1, 2)})


@st.composite
def runs(draw: st.DrawFn) -> RunResult:
    """Records that are often equal to each other, in part or whole."""
    some = draw(st.lists(st.sampled_from([0.98, 0.981]) | fractions, min_size=1, max_size=3))
    result = record(some, zeros=draw(st.sampled_from([55_323, 55_322])))
    if draw(st.booleans()):
        result = replace(result, status="failed", error="ValueError: no")
    result = replace(result, weights=draw(st.sampled_from(["", "a", "b"])))
    return elsewhere(result, **draw(places))


def stripped(result: RunResult) -> list[Any]:
    history = [{k: v for k, v in entry.items() if k != "seconds"} for entry in result.history]
    return [result.status, history, result.final, result.pruning]


@given(runs(), runs())
def test_the_verdict_does_not_depend_on_the_order(first: RunResult, second: RunResult) -> None:
    there, back = compare(first, second), compare(second, first)
    assert (there.verdict, there.epoch) == (back.verdict, back.epoch)
    assert there.by == {name: -value for name, value in back.by.items()}
    assert 1 <= len(there.text().splitlines()) <= 3


@given(runs(), runs())
def test_identical_just_if_equal(first: RunResult, second: RunResult) -> None:
    digests = {r.weights for r in (first, second) if r.weights}
    equal = stripped(first) == stripped(second) and len(digests) < 2
    expected = equal and first.status == "done"
    assert (compare(first, second).verdict == "identical") == expected


@given(runs(), runs())
def test_within_tolerance_just_by_the_formula(first: RunResult, second: RunResult) -> None:
    found = compare(first, second)
    if "failed" in (first.status, second.status):
        assert found.verdict == "different"
        return
    p, q = first.final["test_accuracy"], second.final["test_accuracy"]
    close = abs(p - q) <= 3 * math.sqrt((p * (1 - p) + q * (1 - q)) / 10_000)
    same = first.pruning["zeros"] == second.pruning["zeros"]
    assert (found.verdict != "different") == (close and same)


def test_it_is_told_without_torch() -> None:
    probe = "import sys, adamwprune.records.comparison; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
