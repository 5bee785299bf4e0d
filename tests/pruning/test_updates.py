"""A mask update against one that has all scores at once; its memory; weights laid out otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from adamwprune.optimizers import AdamWPrune
from adamwprune.pruning import (
    Magnitude,
    Movement,
    MovementSeed,
    Pruner,
    Schedule,
    Score,
    State,
    scope,
)
from adamwprune.pruning.scope import SCOPES
from adamwprune.pruning.select import parts as parts
from adamwprune.pruning.select import selection as selection
from adamwprune.pruning.storage import STORAGES
from adamwprune.train.measure.update_peak import transient_of
from tests.pruning.conftest import WAYS
from tests.pruning.methods import METHODS
from tests.pruning.networks import network, train
from tests.pruning.test_pruning import SCHEDULE
from tests.pruning.test_selection import brute_force
from tests.support.pairwise import cases


def whole_scores(pruner, name):
    """As the methods define them, of a whole layer."""
    w, score = pruner.weights[name].detach(), pruner.score
    state = pruner.optimizer.state[pruner.weights[name]]
    m, v = state["exp_avg"], state["exp_avg_sq"]
    if isinstance(score, State):
        return {
            "precond": v.sqrt() * w * w,
            "fisher": v * w * w,
            "taylor": (w * m).abs(),
            "movement": -(w * m),
            "hybrid": (w * m).abs() * w.abs() / (v.sqrt() + 1e-8),
        }[score.criterion]
    if isinstance(score, MovementSeed):
        return (w - score._initial[pruner.weights[name]]) * w
    if isinstance(score, Movement):
        return score._scores[pruner.weights[name]].clone()
    if isinstance(score, Magnitude):
        return w.abs()
    return score.score(pruner.weights[name], state, parts.whole(w)).view(w.shape)


def expected(pruner, k):
    """True where a weight is zero after the update to ``k``, by a sort in Python."""
    scores = {}
    for name, weight in pruner.weights.items():
        scores[name] = whole_scores(pruner, name)
        if not pruner.score.returns and pruner.k:
            scores[name][weight == 0] = -torch.inf
    flat = [score.flatten().tolist() for score in scores.values()]
    if type(pruner.scope) is SCOPES["global"]:
        return brute_force(flat, k)
    zeros = {} if pruner.score.returns else {n: (w == 0).sum() for n, w in pruner.weights.items()}
    wanted = pruner.scope.parts(k, {n: int(zeros.get(n, 0)) for n in pruner.scope.shapes})
    found = []
    for name, layer in zip(scores, flat, strict=True):
        if name not in wanted:
            found += [False] * len(layer)
        elif type(pruner.scope) is SCOPES["2-4"]:
            fours = [layer[i : i + 4] for i in range(0, len(layer), 4)]
            two = [chosen for four in fours for chosen in brute_force([four], 2)]
            places = [place for place, is_candidate in enumerate(two) if is_candidate]
            chosen = brute_force([[layer[place] for place in places]], wanted[name])
            pruned = {place for place, each in zip(places, chosen, strict=True) if each}
            found += [place in pruned for place in range(len(layer))]
        else:
            found += brute_force([layer], wanted[name])
    return found


ONCE_PRUNED = [name for name in METHODS if not METHODS[name]().regrows]


@pytest.mark.parametrize(
    ("way", "method", "scope"), cases(WAYS, ONCE_PRUNED, SCOPES), indirect=["way"]
)
def test_every_update_is_the_one_of_a_sort_of_all_scores(way, method, scope):
    model = network()
    optimizer = AdamWPrune(model.parameters(), 1e-2)
    schedule = replace(SCHEDULE, target=0.5 if scope == "2-4" else 0.9)
    pruner = Pruner(model, METHODS[method](), schedule, scope).attach(optimizer)
    updates = []

    def compared(update):
        wanted = expected(pruner, pruner.scope.k(schedule.sparsity(pruner.steps)))
        update()
        masks = [pruner.masks.mask(name, {}) for name in pruner.weights]
        assert [x for mask in masks for x in mask.flatten().tolist()] == wanted
        zeros = [w == 0 for w in pruner.weights.values()]
        assert [x for zero in zeros for x in zero.flatten().tolist()] == wanted
        updates.append(pruner.steps)

    pruner.around_update = compared
    # Of few values, so that very many scores are equal.
    with torch.no_grad():
        for weight in pruner.weights.values():
            weight.copy_(weight.sign() * (1 + (weight * 20).round().abs()) / 16)
    train(model, optimizer, 51)
    assert len(updates) == 12


@pytest.mark.parametrize("scores", [-1.0, 0.0, 1.0, -torch.inf, torch.inf])
def test_equal_scores_are_pruned_in_the_order_of_their_indices(way, scores):
    """Of all layers together, update after update, whatever the score is."""

    class Constant(Score):
        def score(self, weight, state, part):
            return torch.full_like(part.of(weight), scores)

    model = network()
    optimizer = AdamWPrune(model.parameters(), 1e-2)
    schedule = Schedule(target=0.5, warmup=0, interval=1, ramp_end=10, shape="linear")
    pruner = Pruner(model, Constant(), schedule, storage="implied").attach(optimizer)

    def each(step):
        zeros = torch.cat([(w == 0).flatten() for w in pruner.weights.values()])
        assert zeros[: pruner.k].all()
        assert int(zeros.sum()) == pruner.k

    train(model, optimizer, 12, each)
    assert pruner.k == 738


@pytest.mark.parametrize("storage", STORAGES)
def test_an_update_takes_little_beside_what_is_kept(storage):
    """8.4 million weights, whose scores are 34 MB; no layer of them is there at once."""
    model = nn.Sequential(*(nn.Linear(1448, 1448, bias=False) for _ in range(4)))
    optimizer = AdamWPrune(model.parameters())
    schedule = Schedule(target=0.9, warmup=0, interval=1, ramp_end=3)
    pruner = Pruner(model, State(), schedule, storage=storage).attach(optimizer)
    taken = []
    pruner.around_update = lambda update: taken.append(transient_of(update))
    for _ in range(3):
        for weight in model.parameters():
            weight.grad = torch.randn_like(weight)
        optimizer.step()
    assert len(taken) == 3
    kept = [each.kept for each in taken]
    if storage == "packed":  # states go with the weights: what is freed is more than what is kept
        assert all(each <= 0 for each in kept)
        largest = 1448 * 1448
        assert all(each.bytes < 16_000_000 + 12 * largest for each in taken), "one layer's states"
        return
    masks = {"bool": pruner.numel, "bits": pruner.numel // 8, "implied": 0}[storage]
    assert kept == [masks, 0, 0]
    assert all(each.bytes < 16_000_000 for each in taken)


@pytest.mark.parametrize("method", ["magnitude", "state-precond", "state-movement", "random"])
def test_what_is_zero_needs_no_marks_where_it_scores_lowest(way, method, monkeypatch, request):
    """Only if it does, and only in the way that says beforehand where the threshold lies."""
    cuts, cut = [], selection.cut
    monkeypatch.setattr(scope, "cut", lambda *given: cuts.append(cut(*given)) or cuts[-1])
    model = network()
    optimizer = AdamWPrune(model.parameters(), 1e-2)
    schedule = Schedule(target=0.9, warmup=0, interval=1, ramp_end=4, shape="linear")
    pruner = Pruner(model, METHODS[method](), schedule).attach(optimizer)
    train(model, optimizer, 4)
    pruner.verify()
    unmarked = [not any(each.scores.pruned.values()) for each in cuts]
    can = method in ("magnitude", "state-precond") and "sample" in request.node.name
    assert unmarked == [True] + 3 * [can]


def test_weights_laid_out_otherwise_are_pruned_alike(way):
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(64, 3)
        )
        model = model.to(memory_format=layout)
        optimizer = AdamWPrune(model.parameters(), 1e-2)
        pruner = Pruner(model, State(), SCHEDULE, storage="bits").attach(optimizer)
        for step in range(50):
            generator = torch.Generator().manual_seed(step)
            for param in model.parameters():
                gradient = torch.randn(param.shape, generator=generator)
                param.grad = torch.empty_like(param).copy_(gradient)
            optimizer.step()
        pruner.verify()
        results.append([w.detach().clone() for w in pruner.weights.values()])
    assert not model[0].weight.is_contiguous()
    for plain, otherwise in zip(*results, strict=True):
        assert torch.equal(plain == 0, otherwise == 0)


def test_weights_of_another_type_than_their_scores_are_pruned_alike():
    """bfloat16 weights under movement, whose scores are float32."""
    model = network().bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    pruner = Pruner(model, Movement(), SCHEDULE).attach(optimizer)
    for step in range(60):
        generator = torch.Generator().manual_seed(step)
        for param in model.parameters():
            param.grad = torch.randn(param.shape, generator=generator).bfloat16()
        optimizer.step()
    pruner.verify()
    assert pruner.zeros() == 1328


def test_a_part_is_whole_bytes_and_fours_and_counted_exactly():
    for size in parts.SIZE.values():
        assert size % 8 == 0
        assert size <= 1 << 24, "float32 holds every count up to there"


@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
def test_parts_are_by_index(layout):
    tensor = torch.arange(24.0).view(4, 6)
    if layout == "transposed":
        tensor = tensor.t().contiguous().t()
    part = parts.Part(5, 20, 3)
    assert part.of(tensor).tolist() == [5, 8, 11, 14, 17]
    part.put(tensor, -part.of(tensor))
    assert tensor.flatten()[5:21].tolist() == [
        *(-5, 6, 7, -8, 9, 10, -11, 12, 13, -14, 15, 16, -17, 18, 19, 20)
    ]
    covered = [place for each in parts.parts(tensor) for place in range(each.start, each.stop)]
    assert covered == list(range(24))
