"""Bytes of training with AdamW by sparsity, storage of the masks and release of gradients."""

from collections.abc import Mapping, Sequence
from itertools import product
from operator import itemgetter

from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.plan.matrix import expand
from adamwprune.plan.spec import RunSpec
from adamwprune.report.columns import Column, piped
from adamwprune.report.groups import percent
from benchmarks.memory.counted import Row

SPARSITIES = (0.5, 0.7, 0.9, 0.95)
STORAGES = ("bool", "bits", "implied", "packed")
AMSGRAD = ("off", "on")
RELEASED = ("n", "y")
Key = tuple[float, str, str, str]  # sparsity, storage, AMSGrad, released

HEAD = """\
AdamW's training by state, in millions of bytes: at 0% dense, else after the mask update. *a
weight*: bytes that a prunable weight takes with its gradient, states and mask (released, there is
one gradient at a time, and it counts for none). *of dense*: the total beside AdamW's, dense, with
all gradients.
"""


def runs() -> dict[Key, RunSpec]:
    """Every combination; of sparsity 0 the storage says nothing, and it is empty."""
    dense = {
        (0.0, "", amsgrad, released): _spec(amsgrad, released, PRUNING_METHOD="none")
        for amsgrad, released in product(AMSGRAD, RELEASED)
    }
    pruned = {
        (sparsity, storage, amsgrad, released): _spec(
            *(amsgrad, released),
            PRUNING_METHOD="state",
            MASK_STORAGE=storage,
            TARGET_SPARSITY=str(sparsity),
        )
        for sparsity, storage, amsgrad, released in product(SPARSITIES, STORAGES, AMSGRAD, RELEASED)
    }
    return {**dense, **pruned}


def _spec(amsgrad: str, released: str, **words: str) -> RunSpec:
    tree = Tree()
    given = {"OPTIMIZER": "adamw", "AMSGRAD": amsgrad, "RELEASE_GRADIENTS": released, **words}
    strict.apply(tree, strict.command_line(tree, given, "memory table"))
    (spec,) = expand(tree).specs
    return spec


def table(rows: Mapping[Key, Row]) -> str:
    """Of one network, as Markdown; sparsities that take the same are one line."""
    base = rows[0.0, "", "off", "n"].measured["total"]
    lines: dict[tuple[str, ...], list[float]] = {}  # storage and sizes, and of which sparsities
    for sparsity, storage in sorted({key[:2] for key in rows}, key=_place):
        found = [rows[sparsity, storage, *kind] for kind in product(AMSGRAD, RELEASED)]
        sizes = [cell for row in found for cell in _cells(row, base)]
        lines.setdefault((storage, *sizes), []).append(sparsity)
    cells = [(_span(found), *line) for line, found in lines.items()]
    kinds = ("AdamW", "AdamW, released", "AMSGrad", "AMSGrad, released")
    sizes = [name for kind in kinds for name in (f"{kind}: total", "of dense", "a weight")]
    shown: Sequence[Column] = [
        Column(name, itemgetter(at), at > 1)
        for at, name in enumerate(("sparsity", "masks as", *sizes))
    ]
    return "\n".join(piped(shown, cells))


def _place(key: tuple[float, str]) -> tuple[int, float]:
    sparsity, storage = key
    return ("", *STORAGES).index(storage), sparsity


def _span(sparsities: Sequence[float]) -> str:
    first, last = percent(sparsities[0]), percent(sparsities[-1])
    return first if first == last else f"{first} to {last}"


def _cells(row: Row, base: int) -> tuple[str, str, str]:
    total = row.measured["total"]
    return f"{total / 1e6:,.2f}", f"{total / base:.3f}", f"{a_weight(row):.2f}"


def a_weight(row: Row) -> float:
    """Bytes of a prunable weight: itself, its gradient, states and masks, counted.

    What the network's other parameters take of the states is what they would take in any case.
    """
    size, memory = row.size, row.measured
    prunable = sum(count.numel for count in size.counts)
    others = size.parameters - prunable
    states = {name: each for name, each in memory["optimizer"].items() if name != "step"}
    own: int = sum(states.values()) - 4 * others * len(states) + sum(memory["pruner"].values())
    gradient = 0 if row.spec["RELEASE_GRADIENTS"] else 4
    return 4 + gradient + own / prunable
