"""Random configurations, drawn out of the type of each option."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import partial
from random import Random

from adamwprune.config.options import Interval, Type
from adamwprune.config.tree import Family, Tree

_LARGEST = 1000.0  # of a number, however far its range goes
_SMALLEST = 1e-6  # of a number drawn over orders of magnitude
_MAX_POINTS = 200  # of the matrix, before anything is dropped
# Every batch divides into every number of parts.
_WORDS = {
    "BATCH_SIZE": ("preset", "16", "64", "256", "1024"),
    "ACCUMULATION": ("1", "1", "2", "4"),
    "MODEL_WIDTH": ("1", "1", "0.5"),
}
# Where a legal value may be one that nobody can wait for, or that no network has room for.
_PLAUSIBLE = {
    "STEPS": Interval.parse("[40, 4000]"),
    "EPOCHS": Interval.parse("[1, 30]"),
    "BLOCK": Interval.parse("[16, 24]"),
    "GPT_LAYERS": Interval.parse("[1, 2]"),
    "GPT_WIDTH": Interval.parse("[64, 66]"),
    "GPT_HEADS": Interval.parse("[1, 1]"),  # which divides any width
    "PRUNING_FLOOR": Interval.parse("[0, 3]"),  # more may leave too few weights to prune
}


def draw(tree: Tree, rng: Random, fixed: Collection[str]) -> None:
    """Set every family and option that affects results; those in ``fixed`` stay as they are.

    What is visible depends on what stands before it in the menu, so that one pass in the
    order of the menu reaches everything. How to run, and where, is left at its default, and so
    is any text, such as the name of a file.
    """
    points = 1
    done: set[str] = set(fixed)
    for symbol in tree.symbols:
        name = tree.family_of.get(symbol, symbol)
        if name in done or not tree.is_visible(symbol):
            continue
        if name in tree.families:
            done.add(name)
            family = tree.families[name]
            if not family.operational:
                points *= _draw_members(tree, rng, family, _MAX_POINTS // points)
        elif not tree.options[name].operational and tree.options[name].type.kind != "string":
            texts = _texts(rng, name, tree.options[name].type, _MAX_POINTS // points)
            points *= len(texts)
            tree.set(name, " ".join(texts))


def _draw_members(tree: Tree, rng: Random, family: Family, at_most: int) -> int:
    """Switch on one member of a choice, or some of a multi-select family; how many are on."""
    legal = [name for name in family.members.values() if tree.is_visible(name)]
    if family.exclusive:
        tree.set(rng.choice(legal), "y")
        return 1
    chosen = rng.sample(legal, min(_few(rng), len(legal), at_most))
    for name in legal:
        tree.set(name, "y" if name in chosen else "n")
    return len(chosen)


def _texts(rng: Random, name: str, kind: Type, at_most: int) -> list[str]:
    """One random value, or for a list a few."""
    item = _item(rng, kind, _PLAUSIBLE.get(name, kind.interval))
    if name in _WORDS:
        item = partial(rng.choice, _WORDS[name])
    count = min(_few(rng), at_most) if kind.is_list else 1
    return list(dict.fromkeys(item() for _ in range(count)))


def _few(rng: Random) -> int:
    return rng.choices((1, 2, 3), (6, 3, 1))[0]


def _item(rng: Random, kind: Type, interval: Interval | None) -> Callable[[], str]:
    """Draws one value of a type, as a text that the type accepts."""

    def item() -> str:
        if kind.preset and rng.random() < 0.5:
            return "preset"
        if kind.kind == "bool":
            return rng.choice("yn")
        if kind.kind == "word":
            return rng.choice(kind.words)
        if interval is None:
            raise ValueError(f"no range to draw a {kind.kind} from")
        if kind.kind == "steps" and rng.random() < 0.3:
            return str(rng.choice((0.05, 0.1, 0.25)))  # of the training
        return _number(rng, interval, whole=kind.kind in ("int", "steps"))

    return item


def _number(rng: Random, interval: Interval, *, whole: bool) -> str:
    """A number in the interval: even over a fraction of 1, else over orders of magnitude."""
    while True:
        if whole and 0 in interval and rng.random() < 0.5:
            return "0"  # which often means without
        if not whole and interval.high <= 1 and rng.random() < 0.5:
            number = rng.uniform(interval.low, interval.high)
        else:
            low = max(interval.low, 1 if whole else _SMALLEST)
            high = max(min(interval.high, _LARGEST), low)
            number = math.exp(rng.uniform(math.log(low), math.log(high)))
        # Short if it can be; rounding may leave a narrow interval.
        for text in [str(round(number))] if whole else (f"{number:.3g}", repr(number)):
            if float(text) in interval:
                return text
