"""Scopes: how many zeros each layer has, which ones, and what cannot be reached."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adamwprune.models.lenet5 import FusedLeNet5
from adamwprune.pruning import Magnitude, Pruner, Schedule, prunable
from adamwprune.pruning.scope import SCOPES
from adamwprune.pruning.select import selection as selection
from tests.pruning.held import Held
from tests.pruning.networks import network
from tests.pruning.test_selection import brute_force, chosen

LENET = {name: tuple(weight.shape) for name, weight in prunable(FusedLeNet5()).items()}
shapes = st.lists(
    st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple), min_size=1, max_size=4
).map(lambda found: {f"layer{i}": shape for i, shape in enumerate(found)})


def choose(scope, scores, k, pruned):
    """The masks of what is zero then; ``pruned``: those of what is zero already."""
    counts = {name: int(mask.sum()) for name, mask in pruned.items()}
    found = scope.among(Held(scores, pruned))
    return {
        n: m | pruned[n] for n, m in selection.masks(found, scope.choose(found, k, counts)).items()
    }


def parts_of(scope, k, **pruned):
    return list(scope.parts(k, {**dict.fromkeys(scope.shapes, 0), **pruned}).values())


# -- literally, on LeNet-5 -----------------------------------------------------------------------


def test_the_layer_scope_takes_the_same_fraction_everywhere():
    assert list(LENET) == ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight", "fc3.weight"]
    scope = SCOPES["layer"](LENET, 0.9)
    assert scope.target_k == 55_323
    assert parts_of(scope, scope.target_k) == [135, 2160, 43_200, 9072, 756]


def test_erk_keeps_in_proportion_to_the_sum_of_the_dimensions():
    """At 90% 6,147 weights are kept: 6,147/867 · (17, 32, 520, 204, 94), no layer at its cap."""
    scope = SCOPES["erk"](LENET, 0.9)
    kept = [n - z for n, z in zip(scope.numels.values(), parts_of(scope, 55_323), strict=True)]
    assert kept == [121, 227, 3687, 1446, 666]


def test_erk_caps_densities_at_one_and_redistributes():
    """At 50% the first and the last layer stay dense: 29,745/756 · (32, 520, 204) in the others."""
    scope = SCOPES["erk"](LENET, 0.5)
    kept = [n - z for n, z in zip(scope.numels.values(), parts_of(scope, 30_735), strict=True)]
    assert kept == [150, 1259, 20_460, 8026, 840]


def rigl(shapes, density):
    """Densities as RigL finds them: whatever would exceed 1 becomes dense, and again."""
    numel = {n: int(torch.tensor(s).prod()) for n, s in shapes.items()}
    dense = set()
    while True:
        kept = density * sum(numel.values()) - sum(numel[n] for n in dense)
        raw = {n: sum(s) / numel[n] for n, s in shapes.items() if n not in dense}
        epsilon = kept / sum(raw[n] * numel[n] for n in raw) if raw else 0
        over = [n for n in raw if epsilon * raw[n] > 1]
        if not over:
            return [1.0 if n in dense else epsilon * raw[n] for n in shapes]
        dense.add(max(over, key=raw.__getitem__))


@given(shapes, st.integers(0, 20))
def test_erk_is_rigls(shapes, tenths):
    scope = SCOPES["erk"](shapes, 0.05 * tenths)
    numels = list(scope.numels.values())
    expected = rigl(shapes, 1 - scope.target_k / sum(numels))
    for numel, zeros, density in zip(numels, scope.zeros, expected, strict=True):
        assert 1 - float(zeros) / numel == pytest.approx(density, abs=1e-9)


def test_two_of_four_takes_the_layers_whose_rows_divide_by_four():
    """Rows of 25 and 150 inputs do not divide: half of 48,000, 10,080 and 840 weights are left."""
    scope = SCOPES["2-4"](LENET, 0.5)
    assert scope.fitting == {"fc1.weight", "fc2.weight", "fc3.weight"}
    assert scope.target_k == 29_460
    assert parts_of(scope, 29_460) == [24_000, 5040, 420]


def test_on_the_way_every_layer_has_the_same_part_of_its_zeros():
    for name in ("layer", "erk", "2-4"):
        scope = SCOPES[name](LENET, 0.5)
        half = parts_of(scope, scope.target_k // 2)
        for zeros, part in zip(scope.zeros, half, strict=True):
            assert abs(part - zeros / 2) <= 1


# -- exactly k, whatever the layers --------------------------------------------------------------


@given(st.data(), shapes, st.sampled_from(["global", "layer", "erk"]))
def test_exactly_k_nested_masks_and_no_layer_below_its_floor(data, shapes, name):
    numel = sum(int(torch.tensor(s).prod()) for s in shapes.values())
    floor = data.draw(st.integers(0, 6))
    room = sum(max(0, int(torch.tensor(s).prod()) - floor) for s in shapes.values())
    scope = SCOPES[name](shapes, data.draw(st.integers(0, room)) / numel, floor)
    values = st.sampled_from([0.0, 1.0, 1.0, 2.0])
    pruned = {n: torch.zeros(s, dtype=torch.bool) for n, s in shapes.items()}
    for k in sorted(data.draw(st.lists(st.integers(0, scope.target_k), max_size=3))):
        scores = {
            n: torch.tensor(data.draw(st.lists(values, min_size=s.numel(), max_size=s.numel())))
            .view(s.shape)
            .masked_fill(s, -torch.inf)
            for n, s in pruned.items()
        }
        masks = choose(scope, scores, k, pruned)
        assert sum(chosen(masks)) == k
        assert list(masks) == list(shapes)
        for n, mask in masks.items():
            assert (mask | ~pruned[n]).all(), "a pruned weight came back"
            kept = int((~mask).sum())
            assert kept >= min(floor, mask.numel())
        if floor == 0 and name == "global":
            flat = [score.flatten().tolist() for score in scores.values()]
            assert chosen(masks) == brute_force(flat, k)
        pruned = masks


@given(st.data(), shapes)
def test_a_floor_leaves_the_lowest_that_it_allows(data, shapes):
    """Against the greedy choice: in the order of the scores, as long as the layer has room."""
    floor = data.draw(st.integers(1, 5))
    scope = SCOPES["global"](shapes, 0.0, floor)
    k = data.draw(st.integers(0, sum(scope.room.values())))
    scores = {
        n: torch.tensor(
            data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=size, max_size=size))
        ).view(shapes[n])
        for n, size in scope.numels.items()
    }
    order = sorted(
        (score, place, index, name)
        for place, (name, layer) in enumerate(scores.items())
        for index, score in enumerate(layer.flatten().tolist())
    )
    expected = {name: torch.zeros(size, dtype=torch.bool) for name, size in scope.numels.items()}
    left = k
    for _, _, index, name in order:
        if left and int(expected[name].sum()) < scope.room[name]:
            expected[name][index] = True
            left -= 1
    none = {n: torch.zeros(s, dtype=torch.bool) for n, s in shapes.items()}
    masks = choose(scope, scores, k, none)
    for name, mask in masks.items():
        assert torch.equal(mask.flatten(), expected[name])


def fours(tensor: torch.Tensor) -> torch.Tensor:
    """[n, 4]: the neighbouring input channels of each output and place of the kernel."""
    apart = tensor.view(tensor.shape[0], tensor.shape[1] // 4, 4, -1)
    return apart.transpose(2, 3).reshape(-1, 4)


@given(st.data(), st.integers(1, 4), st.integers(1, 3))
def test_two_of_four_is_the_two_lowest_of_each_four(data, outputs, groups):
    shapes = {"a": (outputs, 4 * groups, 2, 3), "odd": (3, 5), "odder": (2, 2, 2, 2), "b": (2, 4)}
    scope = SCOPES["2-4"](shapes, 0.5)
    assert scope.target_k == (outputs * groups * 24 + 8) // 2
    values = st.sampled_from([0.0, 1.0, 1.0, 2.0, 3.0, float("inf")])
    scores = {
        n: torch.tensor(
            data.draw(
                st.lists(values, min_size=torch.Size(s).numel(), max_size=torch.Size(s).numel())
            )
        ).view(s)
        for n, s in shapes.items()
    }
    none = {n: torch.zeros(s, dtype=torch.bool) for n, s in shapes.items()}
    on_the_way = choose(scope, scores, data.draw(st.integers(0, scope.target_k)), none)
    for name in ("a", "b"):
        assert (fours(on_the_way[name]).sum(1) <= 2).all()
    masks = choose(scope, scores, scope.target_k, none)
    assert not masks["odd"].any()
    assert not masks["odder"].any()
    for name in ("a", "b"):
        for group, mask in zip(fours(scores[name]), fours(masks[name]), strict=True):
            assert mask.tolist() == brute_force([group.tolist()], 2)


def test_scores_that_are_nan_are_told_also_where_two_of_four_leaves_a_layer_dense():
    shapes = {"a": (2, 4), "odd": (3, 5)}
    scores = {n: torch.ones(s) for n, s in shapes.items()}
    none = {n: torch.zeros(s, dtype=torch.bool) for n, s in shapes.items()}
    for name in shapes:
        bad = {**scores, name: torch.full(shapes[name], torch.nan)}
        with pytest.raises(ValueError, match=f"{name}: .* weights are NaN"):
            choose(SCOPES["2-4"](shapes, 0.5), bad, 0, none)


# -- what is refused -----------------------------------------------------------------------------


def test_a_floor_that_makes_the_target_impossible_is_refused_before_training():
    def build(**settings):
        target = settings.pop("target", 0.9)
        schedule = Schedule(target=target, warmup=0, interval=1, ramp_end=9)
        return Pruner(network(), Magnitude(), schedule, **settings)

    # 36 and 1,440 weights: 0.9 of 1,476 are 1,328, 20 + 128 may be kept beside.
    for scope in ("global", "layer", "erk"):
        assert build(scope=scope, floor=112).scope.target_k == 1328
        with pytest.raises(ValueError, match=r"at most 1327 of 1476 can be pruned, .* needs 1328"):
            build(scope=scope, floor=113)
    with pytest.raises(ValueError, match="Invalid floor: -1"):
        build(floor=-1)
    # One input channel does not divide by 4, 144 inputs do.
    assert build(scope="2-4", target=0.5, floor=720).scope.target_k == 720
    with pytest.raises(ValueError, match=r"2:4 keeps fewer than 721 weights of 4\.weight"):
        build(scope="2-4", target=0.5, floor=721)
    with pytest.raises(ValueError, match=r"Invalid target sparsity: 0\.9 \(2:4 has its own"):
        build(scope="2-4")


def test_two_of_four_needs_a_layer():
    with pytest.raises(ValueError, match="needs a layer whose inputs divide by 4"):
        SCOPES["2-4"]({"a": (4, 5)}, 0.5)
