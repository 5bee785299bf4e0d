"""A pruning track: one network, one data set, one budget, and every method and control beside it.

A track is several configurations, since scope and schedule are one a configuration. Here their
records become arms (a method with its scope and schedule, or a control) with a cell a sparsity.
docs/track.md has the rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult
from adamwprune.report.groups import Group, group_runs, percent, score_digits
from adamwprune.report.statistics import ALPHA, LEAST, Paired, holm

REFERENCE = "magnitude"
NEAR = 0.03  # of all weights, or of the training FLOPs, that a control may differ by from its cell
_NAMES = {"set": "SET", "rigl": "RigL"}
_SCOPES = {"layer": ", by layer", "erk": ", ERK", "2-4": ", 2:4"}
BETTER, WORSE = "▲", "▼"  # than the reference, by the mark in a table's cell


@dataclass(frozen=True)
class Cell:
    """An arm at one sparsity, and how it compares with the reference there."""

    group: Group
    paired: Paired | None = None  # against the reference; None for that itself
    p: float | None = None  # after Holm's correction for all comparisons of the track

    @property
    def mark(self) -> str:
        """:data:`BETTER` or :data:`WORSE`; empty where the difference is not significant."""
        if self.p is None or self.paired is None or self.p >= ALPHA:
            return ""
        gain = self.group.done[0].headline.sign * self.paired.difference.mean
        return BETTER if gain > 0 else WORSE


@dataclass(frozen=True)
class Arm:
    """One row: a method with its scope and schedule, or a control."""

    label: str
    cells: Mapping[float, Cell]  # by target sparsity
    is_control: bool = False  # a dense network: smaller, or trained for less time


@dataclass(frozen=True)
class Track:
    """All arms of a track. Groups without a completed run play no part."""

    name: str
    dense: Group
    arms: Sequence[Arm] = field(default_factory=tuple)

    @cached_property
    def sparsities(self) -> list[float]:
        """Ascending, of all arms."""
        return sorted({sparsity for arm in self.arms for sparsity in arm.cells})

    @property
    def groups(self) -> list[Group]:
        """The dense one, and those of all cells."""
        return [self.dense, *(cell.group for arm in self.arms for cell in arm.cells.values())]

    @property
    def title(self) -> str:
        """``gpt-nano on shakespeare, adamw, 2,000 steps of 12 examples``."""
        spec = self.dense.spec
        length = f"{spec.total_steps:,} steps of {spec['BATCH_SIZE']} examples"
        return f"{spec['MODEL']} on {spec['DATASET']}, {spec['OPTIMIZER']}, {length}"


def track(name: str, specs: Iterable[RunSpec], records: Iterable[RunResult]) -> Track | None:
    """The track of these runs; None as long as its dense runs are missing."""
    asked = group_runs(specs, records)
    whole = [g for g in asked if g.is_dense and g.spec["MODEL_WIDTH"] == 1]
    dense = max(whole, key=lambda group: (group.spec.total_steps, group.n), default=None)
    if dense is None or not dense.done:
        return None
    arms: dict[str, dict[float, Group]] = {}
    for group in (group for group in asked if not group.is_dense):
        cells = arms.setdefault(label(group), {})
        if group.sparsity not in cells or group.n > cells[group.sparsity].n:
            cells[group.sparsity] = group
    sparsities = list(arms.get(REFERENCE, {}))
    arms = {name: done for name, cells in arms.items() if (done := _done(cells))}
    reference = arms.get(REFERENCE, {})
    others = [group for group in asked if group.is_dense and group.done and group is not dense]
    controls = _controls(others, dense, sparsities, reference)
    found = [
        Arm(name, cells, name in controls)
        for name, cells in _compared({**arms, **controls}, reference).items()
    ]
    return Track(name, dense, tuple(found))


def _done(cells: Mapping[float, Group]) -> dict[float, Group]:
    return {sparsity: group for sparsity, group in cells.items() if group.done}


def label(group: Group) -> str:
    """``magnitude, ERK``, ``static random mask, ERK``, ``RigL, ERK``, ``state (precond)``."""
    spec = group.spec
    scope = _SCOPES.get(str(spec["PRUNING_SCOPE"]), "")
    is_constant = spec["PRUNING_SCHEDULE"] == "constant"
    regrows = "REGROW_FRACTION" in spec
    name = _NAMES.get(group.method, group.method)
    if is_constant and name == "random":
        name = "static random mask"
    elif is_constant != regrows:  # published regrowing methods are constant, the others not
        name += ", constant" if is_constant else ", on the ramp"
    return name + scope


def _controls(
    groups: Iterable[Group],
    dense: Group,
    sparsities: Iterable[float],
    reference: Mapping[float, Group],
) -> dict[str, dict[float, Group]]:
    """Dense networks at the sparsity whose weights, or whose training FLOPs, they have, within
    :data:`NEAR`; the nearest one where there are several.
    """
    weights = {sparsity: 1 - sparsity for sparsity in sparsities}
    flops = {s: share for s, g in reference.items() if (share := training_share(g)) is not None}
    found: dict[str, dict[float, Group]] = {}
    apart: dict[tuple[str, float], float] = {}
    for group in groups:
        if group.spec["MODEL_WIDTH"] != 1:
            kept = group.done[0].pruning["prunable"] / dense.done[0].pruning["prunable"]
            name, shares = "small dense", weights
        else:
            kept = group.spec.total_steps / dense.spec.total_steps
            name, shares = "short dense", flops
        if not shares:
            continue
        nearest = min(shares, key=lambda sparsity: abs(shares[sparsity] - kept))
        distance = abs(shares[nearest] - kept)
        if distance <= min(NEAR, apart.get((name, nearest), NEAR)):
            apart[name, nearest] = distance
            found.setdefault(name, {})[nearest] = group
    return found


def training_share(group: Group) -> float | None:
    """The training FLOPs that the masks leave, as a share of a dense training's; None where no
    record says it.
    """
    shares = (_training_share(record) for record in group.done)
    return next((share for share in shares if share is not None), None)


def _training_share(record: RunResult) -> float | None:
    """By the mean density of each layer, which records say since they count it. Without, only where
    it follows: from constant masks, or where the mean over all layers does as well.
    """
    said, spec = record.operations, record.spec
    if not said:
        return None
    if spec.values.get("PRUNING_SCHEDULE") == "constant":
        return float(said["multiply_adds_left"] / said["multiply_adds"])
    layers = said["layers"]
    is_counted = any("mean_density" in layer for layer in layers)
    same_density = spec.values.get("PRUNING_SCOPE") in ("layer", "2-4", None)
    numels = {layer["name"]: layer["numel"] for layer in record.pruning["layers"]}
    costs = {layer["multiply_adds"] / numels[layer["name"]] for layer in layers}
    if is_counted or same_density or len(costs) == 1:
        return float(said["training_flops_sparse"] / said["training_flops"])
    return None


def _compared(
    arms: Mapping[str, Mapping[float, Group]], reference: Mapping[float, Group]
) -> dict[str, dict[float, Cell]]:
    """Each cell against the reference at its sparsity, in pairs of equal seeds."""
    cells = {
        (name, sparsity): Cell(group, _against(group, reference.get(sparsity)))
        for name, groups in arms.items()
        for sparsity, group in groups.items()
    }
    tested = {key: c.paired.p for key, c in cells.items() if c.paired and c.paired.p is not None}
    for key, p in zip(tested, holm(list(tested.values())), strict=True):
        cells[key] = replace(cells[key], p=p)
    return {name: {s: cells[name, s] for s in sorted(groups)} for name, groups in arms.items()}


def _against(group: Group, reference: Group | None) -> Paired | None:
    if reference is None or group is reference:
        return None
    one, other = ({int(r.spec["SEED"]): r.score for r in g.done} for g in (group, reference))
    both = [seed for seed in one if seed in other]
    return Paired.of([one[s] for s in both], [other[s] for s in both]) if both else None


# -- as Markdown ---------------------------------------------------------------


def markdown(found: Track) -> str:
    """The track's tables: scores, and what each arm costs at one sparsity."""
    return "\n".join([*_scores(found), "", *_costs(found)]) + "\n"


def _scores(found: Track) -> Iterator[str]:
    metric, digits = found.dense.done[0].headline, max(2, score_digits([found.dense]))
    seeds = sorted({group.n for group in found.groups})
    lower = f", {metric.direction}" if metric.direction else ""
    spread = f"mean ± standard deviation over n = {seeds[-1]} seeds"
    if seeds[-1] == 1:
        spread = "of one seed"
    yield f"{found.title}. Test {metric.heading}{lower}, {spread}."
    yield f"Dense: **{found.dense.score.text(digits)}**."
    yield ""
    yield _row("arm", *(f"{percent(s)} sparse" for s in found.sparsities))
    yield _row("---", *("---:" for _ in found.sparsities))
    best = {s: _best(found, s) for s in found.sparsities}

    def text(cell: Cell) -> str:
        few = f" (n = {cell.group.n})" if cell.group.n < seeds[-1] else ""
        words = f"{cell.group.score.text(digits)} {cell.mark}".strip() + few
        return f"**{words}**" if cell.group in best.values() else words

    for arm in found.arms:
        texts = [text(arm.cells[s]) if s in arm.cells else "" for s in found.sparsities]
        yield _row(f"*{arm.label}*" if arm.is_control else arm.label, *texts)
    yield ""
    tests = sum(c.p is not None for arm in found.arms for c in arm.cells.values())
    short = [g for g in found.groups if g.n < LEAST]
    lacking = f" Cells of fewer than {LEAST} seeds are not compared." if short else ""
    yield (
        f"**Bold**: the best mean of a column. {BETTER} better, {WORSE} worse than {REFERENCE} "
        f"(one threshold for the network) at p < {ALPHA:g}, in pairs of equal seeds, after Holm's "
        f"correction for {tests} tests; no mark: not significant.{lacking} *Italic*: dense "
        "networks with as many weights, or trained for as many FLOPs."
    )


def _best(found: Track, sparsity: float) -> Group | None:
    groups = [arm.cells[sparsity].group for arm in found.arms if sparsity in arm.cells]
    return max(groups, key=lambda group: group.worth, default=None)


def _costs(found: Track) -> Iterator[str]:
    """At the sparsity nearest to 90%: weights, multiply-adds, training FLOPs, bytes, agreement."""
    if not found.sparsities:
        return
    at = min(found.sparsities, key=lambda sparsity: abs(sparsity - 0.9))
    yield f"At {percent(at)}:"
    yield ""
    heads = ("weights in use", "multiply-adds", "training FLOPs", "bytes in training", "agreement")
    yield _row("arm", *heads)
    yield _row("---", *("---:" for _ in heads))
    base = found.dense.done[0]
    yield _row("dense", *_cost(found.dense, base))
    for arm in found.arms:
        if at in arm.cells:
            yield _row(arm.label, *_cost(arm.cells[at].group, base))
    yield ""
    yield (
        "Weights in use: of the prunable ones. Multiply-adds: of one forward pass, as a share of "
        "the dense network's. Training FLOPs: those that the masks leave, as a share, by each "
        "layer's own masks; empty where no record says those. Bytes in training: all that is kept "
        "between steps, weights, gradients, states, masks and scores. "
        "Agreement: Cohen's κ of the last update's choice with that of magnitude."
    )


def _cost(group: Group, base: RunResult) -> list[str]:
    record, trained = group.done[0], training_share(group)
    pruning, operations = record.pruning, record.operations
    used = pruning["prunable"] - pruning["k"]
    texts = [f"{used:,}", "", "", f"{record.memory['total']:,}"]
    if operations and base.operations:
        dense = base.operations
        texts[1] = _share(operations["multiply_adds_left"], dense["multiply_adds"])
        if trained is not None:
            texts[2] = _share(trained * operations["training_flops"], dense["training_flops"])
    agreements = [
        u["magnitude_agreement"] for u in pruning["updates"] if "magnitude_agreement" in u
    ]
    return [*texts, f"{agreements[-1]:.2f}" if agreements else ""]


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}%"


def _row(*texts: str) -> str:
    return f"| {' | '.join(texts)} |"
