"""Pairs in place of products: every two values of different axes meet in some case."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import pytest

Case = tuple[object, ...]


def _all(*values: object) -> bool:
    return True


def pairwise(
    *axes: Iterable[object], fits: Callable[..., bool] = _all
) -> tuple[list[Case], list[Case]]:
    """The cases of the product that ``fits``, in its order: a few that hold every pair, the rest.

    Greedy: the next case is the one with the most pairs that were not there yet.
    """
    product = [case for case in itertools.product(*axes) if fits(*case)]
    pairs = {case: _pairs(case) for case in product}
    missing = set().union(*pairs.values())
    chosen: set[Case] = set()
    while missing:
        best = max(product, key=lambda case: len(missing & pairs[case]))
        chosen.add(best)
        missing -= pairs[best]
    return [c for c in product if c in chosen], [c for c in product if c not in chosen]


def _pairs(case: Case) -> set[tuple[object, ...]]:
    return set(itertools.combinations(enumerate(case), 2))


def cases(*axes: Iterable[object], fits: Callable[..., bool] = _all) -> list[object]:
    """For ``parametrize``: the pairs; the rest of the product is marked ``long``."""
    few, rest = pairwise(*axes, fits=fits)
    return [*few, *(pytest.param(*case, marks=pytest.mark.long) for case in rest)]
