"""The README's numbers are the published records', and its example runs as it stands."""

import re
import statistics

import pytest

from adamwprune.records.published import published_as
from adamwprune.records.record import RunResult
from adamwprune.report.statistics import Paired
from tests.support.commands import ROOT

TEXT = (ROOT / "README.md").read_text()
PLAIN = " ".join(TEXT.split())


def published(name: str) -> list[RunResult]:
    found = published_as(ROOT / "results" / "published", name)
    return [record for record in found if record.status == "done"]


def test_it_is_no_longer_than_two_minutes():
    assert len(TEXT.splitlines()) <= 150


def test_every_cell_of_the_table():
    cells: dict[tuple[str, str, float], list[float]] = {}
    for record in published("memory-comparison-seeds"):
        spec = record.spec
        method = str(spec["PRUNING_METHOD"]).replace("state", "movement")
        cells.setdefault((spec["OPTIMIZER"], method, spec.sparsity), []).append(record.score)
    rows = re.findall(r"^\| ((?:sgd|adam)\w*)(?: \(state\))? \| (\d.*) \|$", TEXT, re.M)
    assert len(rows) == 6
    columns = [("none", 0.0)]
    columns += [(method, s) for s in (0.5, 0.7, 0.9) for method in ("magnitude", "movement")]
    for optimizer, told in rows:
        for (method, sparsity), text in zip(columns, told.split(" | "), strict=True):
            own = cells[optimizer, method, sparsity]
            assert text == f"{statistics.mean(own):.2f} ± {statistics.stdev(own):.2f}", optimizer


def scores(method: str, sparsity: float) -> list[float]:
    """Of adamw in study 3, by seed."""
    found = {
        record.spec["SEED"]: record.score
        for record in published("study-scores")
        if (record.spec["OPTIMIZER"], record.spec["PRUNING_METHOD"]) == ("adamw", method)
        and record.spec.values.get("STATE_CRITERION", "precond") == "precond"
        and record.spec.sparsity == sparsity
    }
    return [found[seed] for seed in sorted(found)]


@pytest.mark.parametrize(
    ("sparsity", "told"),
    [
        (0.9, "90% sparsity ({mean:+.2f} points"),
        (0.95, "state is better by {mean:.2f} points (95% interval {low:.2f} to {high:.2f}"),
        (0.98, "at 98% by {mean:.1f} ({low:.1f} to {high:.1f}"),
    ],
)
def test_the_result(sparsity, told):
    difference = Paired.of(scores("state", sparsity), scores("magnitude", sparsity)).difference
    assert difference.n == 10
    low, high = difference.interval
    assert told.format(mean=difference.mean, low=low, high=high) in PLAIN


def losses(method: str, sparsity: float) -> list[float]:
    """Of the GPT's track, by seed."""
    found = {
        record.spec["SEED"]: record.final["test_loss"]
        for record in published("track-gpt-nano")
        if record.spec["PRUNING_METHOD"] == method
        and record.spec.values.get("STATE_CRITERION", "precond") == "precond"
        and record.spec.sparsity == sparsity
    }
    return [found[seed] for seed in sorted(found)]


def test_the_result_of_the_gpt():
    difference = Paired.of(losses("magnitude", 0.95), losses("state", 0.95)).difference
    assert difference.n == 3
    low, high = difference.interval
    told = f"by {difference.mean:.3f} nats ({low:.3f} to {high:.3f})"
    assert f"three seeds) state is better at 95% {told}" in PLAIN


def test_bytes_a_weight_of_packed_states():
    """Weights, states and index of what can be pruned; biases and counters are taken off."""
    found = set()
    for record in published("study-memory-released"):
        if record.spec["PRUNING_METHOD"] == "state":
            memory, prunable = record.memory, record.pruning["prunable"]
            states = {k: v for k, v in memory["optimizer"].items() if k != "step"}
            own = memory["weights"] + sum(states.values()) + memory["pruner"]["masks"]
            others = memory["weights"] // 4 - prunable
            found.add(f"{(own - 4 * others * (1 + len(states))) / prunable:.1f}")
    (told,) = found
    assert f"training takes {told} bytes a weight of AdamW's 16 at 90%" in PLAIN


def test_packed_states_and_released_gradients_change_no_bit():
    """Of what was published: final weights by method and seed, whatever is kept."""
    weights: dict[tuple[str, int], set[str]] = {}
    for part in ("study-memory", "study-memory-packed", "study-memory-released"):
        for record in published(part):
            key = record.spec["PRUNING_METHOD"], record.spec["SEED"]
            weights.setdefault(key, set()).add(record.weights)
    assert {key: len(found) for key, found in weights.items()} == dict.fromkeys(weights, 1)
    assert len(weights) == 4 * 3


def test_what_gpt_2_takes_by_what_is_kept():
    page = " ".join((ROOT / "docs" / "findings.md").read_text().split())
    names = ("study-memory-gpt2", "study-memory-gpt2-packed", "study-memory-gpt2-released")
    found = {
        (record.spec["PRUNING_METHOD"], name): record
        for name in names
        for record in published(name)
    }
    state = [record for (method, _), record in found.items() if method == "state"]
    assert len(state) == 3
    assert len({record.weights for record in state}) == 1
    plain, packed, released = names
    sizes = [
        f"{found[key].memory['total'] / 1e6:,.0f}"
        for key in (("none", plain), ("state", packed), ("state", released))
    ]
    told = "dense training holds {} MB, state pruning at 90% with packed states {}, and {} with"
    assert told.format(*sizes) in page


def test_what_magnitude_reaches_with_erk_and_state_without():
    found = [
        record.score
        for record in published("track-lenet5-erk")
        if record.spec["PRUNING_METHOD"] == "magnitude" and record.spec.sparsity == 0.98
    ]
    assert len(found) == 3
    assert f"{statistics.mean(scores('state', 0.98)):.1f}% of the digits right" in PLAIN
    assert f"(ERK, three seeds) reaches {statistics.mean(found):.1f}% there" in PLAIN


def test_the_result_on_fashion_mnist():
    state, magnitude = (
        {
            record.spec["SEED"]: record.score
            for record in published("study-fashion")
            if record.spec["PRUNING_METHOD"] == method
            and record.spec.values.get("STATE_CRITERION", "precond") == "precond"
            and record.spec.sparsity == 0.95
        }
        for method in ("state", "magnitude")
    )
    seeds = sorted(state)
    difference = Paired.of([state[s] for s in seeds], [magnitude[s] for s in seeds]).difference
    assert difference.n == 5
    low, high = difference.interval
    assert f"by {difference.mean:.1f} points at 95% ({low:.1f} to {high:.1f})" in PLAIN


def test_no_run_had_uncommitted_changes():
    assert not any(record.environment["dirty"] for record in published("memory-comparison-seeds"))


def test_the_example_runs_as_it_stands(tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.M | re.S)
    exec(code, {})
    weights = torch.load("pruned.pt")
    pruned = [weights["0.weight"], weights["2.weight"]]
    count = sum(int((each == 0).sum()) for each in pruned)
    assert count / sum(each.numel() for each in pruned) == pytest.approx(0.9, abs=1e-4)


def test_what_whole_networks_take_is_what_the_published_table_says():
    table = (ROOT / "results" / "published" / "memory-models.md").read_text()
    page = (ROOT / "docs" / "memory.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)`.* \| ([\d,.]+) MB \| (\d+)% \| (\d+)% \|$", page, re.M)
    assert [name for name, *_ in rows] == ["lenet5", "resnet18", "resnet50", "gpt2", "gpt2-medium"]
    for name, dense, packed, released in rows:
        section = table.split(f"### {name}: ")[1].split("\n### ")[0]
        cells = {
            tuple(row[:2]): row
            for row in (line.strip("| ").split(" | ") for line in section.splitlines())
        }
        (whole,) = (row for row in cells.values() if row[0] == "0%")
        assert whole[-12] == dense
        found = cells["90%", "packed"]
        assert f"{float(found[3]):.0%}" == f"{packed}%"
        assert f"{float(found[6]):.0%}" == f"{released}%"
