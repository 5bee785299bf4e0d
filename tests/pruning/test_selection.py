"""Exactly k: the lowest scores, ties by index, and how k is divided over layers."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adamwprune.pruning.select import apportionment
from adamwprune.pruning.select import parts as parts
from adamwprune.pruning.select import radix as radix
from adamwprune.pruning.select import selection as selection
from tests.pruning.held import lowest

# What a threshold stumbles over: ties, both zeros, denormals, neighbours, the ends of the range.
AWKWARD = torch.tensor(  # as float32 holds them
    [
        *(0.0, -0.0, 1.0, -1.0, 3.0, math.inf, -math.inf),
        *(1e-45, -1e-45, 1.1754942e-38, -1.1754942e-38, 1.1754944e-38),
        *(1.0000001, 0.99999994, -1.0000001, 3.4028235e38, -3.4028235e38),
    ]
).tolist()
scores = st.lists(
    st.lists(st.sampled_from(AWKWARD) | st.floats(width=32, allow_nan=False), max_size=9),
    min_size=1,
    max_size=4,
).filter(any)


def layers(values, dtype=torch.float32):
    return {f"layer{i}": torch.tensor(each, dtype=dtype) for i, each in enumerate(values)}


def chosen(masks):
    return [bool(x) for mask in masks.values() for x in mask.flatten()]


def brute_force(values, k):
    """Sorted as Python sorts: by number, then by index."""
    flat = [x for layer in values for x in layer]
    lowest = set(sorted(range(len(flat)), key=lambda i: (flat[i], i))[:k])
    return [i in lowest for i in range(len(flat))]


@pytest.fixture(params=["sort", "sample", "histograms", "sample, parts", "histograms, parts"])
def way(request, monkeypatch):
    """The three ways to a threshold; parts of 4 put ties on both sides of a boundary."""
    if request.param != "sort":
        monkeypatch.setattr(selection, "SMALL", -1)
        monkeypatch.setattr(selection, "_sorted", None)
    if request.param.startswith("sample"):
        monkeypatch.setattr(selection, "_SAMPLE_STRIDE", 3)
        monkeypatch.setattr(selection, "_SPREAD", 0.5)
    else:
        monkeypatch.setattr(selection, "_around", lambda *arguments, **named: None)
    if request.param.endswith("parts"):
        monkeypatch.setattr(parts, "SIZE", {"cpu": 4})
    return request.param


# The way is the same for all examples of a test.
one_way = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@one_way
@given(values=scores, data=st.data())
def test_lowest_is_the_brute_force_choice(way, values, data):
    k = data.draw(st.integers(0, sum(map(len, values))))
    masks = lowest(layers(values), k)
    assert chosen(masks) == brute_force(values, k)
    assert [mask.numel() for mask in masks.values()] == [len(layer) for layer in values]


@one_way
@given(values=scores, data=st.data(), dtype=st.sampled_from([torch.bfloat16, torch.float16]))
def test_shorter_floats_are_chosen_alike(way, values, data, dtype):
    found = layers(values, dtype)
    k = data.draw(st.integers(0, sum(map(len, values))))
    exact = [layer.double().tolist() for layer in found.values()]
    assert chosen(lowest(found, k)) == brute_force(exact, k)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -math.inf])
@pytest.mark.parametrize("k", range(8))
def test_among_equals_the_first_go(way, value, k):
    masks = lowest(layers([[value] * 3, [value], [value] * 3]), k)
    assert chosen(masks) == [True] * k + [False] * (7 - k)


def test_minus_zero_is_zero(way):
    masks = lowest(layers([[0.0, -0.0, 0.0, -1e-45]]), 2)
    assert chosen(masks) == [True, False, False, True]


def test_the_shapes_stay(way):
    found = lowest({"a": torch.randn(2, 3, 4).transpose(0, 2), "b": torch.ones(1, 1)}, 5)
    assert [tuple(mask.shape) for mask in found.values()] == [(4, 3, 2), (1, 1)]
    assert sum(chosen(found)) == 5


def test_what_is_not_contiguous_counts_by_its_indices(way):
    plain = torch.tensor([[3.0, 1.0, 1.0], [1.0, 0.0, 2.0]])
    (mask,) = lowest({"a": plain.t().contiguous().t()}, 2).values()
    assert mask.tolist() == [[False, True, False], [False, True, False]]


@pytest.mark.parametrize("value", [math.nan, -math.nan])
def test_a_nan_is_an_error_that_names_its_layer(way, value):
    found = layers([[1.0, 2.0], [math.inf, value, -math.inf]])
    with pytest.raises(ValueError, match="layer1: 1 of 3 weights are NaN"):
        lowest(found, 1)


def test_nothing_but_nan_is_an_error_too(way):
    with pytest.raises(ValueError, match="layer1: 3 of 3 weights are NaN"):
        lowest(layers([[], [math.nan] * 3]), 3)


@pytest.mark.parametrize("k", [-1, 4])
def test_k_is_a_count_of_the_weights(way, k):
    with pytest.raises(ValueError, match=f"cannot choose {k} of 3 weights"):
        lowest(layers([[1.0, 2.0, 3.0]]), k)


def test_many_scores_are_not_sorted(monkeypatch):
    """2**20 + 1 numbers of few values, signed, with ties over the end of a chunk."""
    generator = torch.Generator().manual_seed(0)
    number = (1 << 20) + 1
    many = torch.randint(-3, 4, (number,), generator=generator).float() / 8
    found = {"a": many[:1000].clone(), "b": many[1000:].clone()}
    for k in (1, number // 3, number - 1):
        expected = torch.zeros(number, dtype=torch.bool)
        expected[many.argsort(stable=True)[:k]] = True
        assert torch.equal(torch.cat(list(lowest(found, k).values())), expected)
    monkeypatch.setattr(torch.Tensor, "argsort", None)
    assert int(sum(mask.sum() for mask in lowest(found, 5).values())) == 5
    monkeypatch.setattr(torch.Tensor, "kthvalue", None)
    assert int(sum(mask.sum() for mask in lowest(found, 5).values())) == 5


@given(st.lists(st.sampled_from(AWKWARD), min_size=1, max_size=20), st.data())
def test_the_threshold_is_the_k_th_lowest(values, data):
    k = data.draw(st.integers(1, len(values)))
    found = radix.threshold(lambda: iter([torch.tensor(values)]), k)
    assert found.score == sorted(values)[k - 1]
    assert found.ties == values.count(found.score)
    assert found.chosen == k - sum(value < found.score for value in values)


def test_a_gpu_s_way_to_count_is_a_bincount():
    generator = torch.Generator().manual_seed(0)
    digits = torch.randint(0, 1 << 16, (100_000,), generator=generator, dtype=torch.int32)
    counts = torch.rand(100_000, generator=generator) < 0.3
    bins = torch.zeros(1 << 16, dtype=torch.int64)
    radix._scatter(bins, digits, counts)
    assert torch.equal(bins, torch.bincount(digits[counts], minlength=1 << 16))


# -- dividing k --------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.data())
def test_apportion_is_exact_and_within_its_limits(numels, data):
    least = [data.draw(st.integers(0, n)) for n in numels]
    most = [data.draw(st.integers(low, n)) for low, n in zip(least, numels, strict=True)]
    k = data.draw(st.integers(sum(least), sum(most)))
    quotas = [Fraction(k * numel, sum(numels)) for numel in numels]
    parts = apportionment.apportion(k, quotas, least, most)
    assert sum(parts) == k
    for part, quota, low, high, numel in zip(parts, quotas, least, most, numels, strict=True):
        assert low <= part <= high
        if not any(least) and most == numels:
            assert abs(part - quota) < 1, numel


def test_the_largest_remainder_gets_what_is_left():
    quotas = [Fraction(12, 10), Fraction(26, 10), Fraction(12, 10)]
    assert apportionment.apportion(5, quotas, [0] * 3, [9] * 3) == [1, 3, 1]
    assert apportionment.apportion(2, [Fraction(1, 2)] * 4, [0] * 4, [9] * 4) == [1, 1, 0, 0]


def test_an_impossible_split_is_refused():
    for least, most in (([2, 2], [2, 2]), ([0, 0], [1, 1]), ([2, 0], [1, 9])):
        with pytest.raises(ValueError, match="cannot split 3"):
            apportionment.apportion(3, [Fraction(3, 2)] * 2, least, most)
    with pytest.raises(ValueError, match="cannot split 5 into shares of 0 to 4"):
        apportionment.shares(5, [1, 1], [0, 0], [2, 2])


limited = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=6
)


@given(limited, st.data())
def test_shares_are_in_proportion_within_their_limits(drawn, data):
    weights = [w for w, _, _ in drawn]
    least = [min(pair) for _, *pair in drawn]
    most = [max(pair) for _, *pair in drawn]
    total = data.draw(st.integers(sum(least), sum(most)))
    shares = apportionment.shares(total, weights, least, most)
    assert sum(shares) == total
    ratios = set()
    for share, weight, low, high in zip(shares, weights, least, most, strict=True):
        assert low <= share <= high
        if low < share < high:
            ratios.add(share / weight)
    assert len(ratios) <= 1, "one factor for all that have met no limit"
    for ratio in ratios:
        for share, weight, low, high in zip(shares, weights, least, most, strict=True):
            assert share == min(max(ratio * weight, low), high)
