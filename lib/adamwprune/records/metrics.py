"""Which metrics a record has, and how exactly its headline was measured."""

from __future__ import annotations

import math

from adamwprune.base.metrics import ACCURACY, LOSS, Metric
from adamwprune.plan.spec import RunSpec

# What records say that were made before a record named its metrics and counted what it was
# measured on. Nothing is ever added here: a record of today says it itself.
FORMER = (ACCURACY, LOSS)
_FORMER_EXAMPLES = {"mnist": 10_000, "fashion-mnist": 10_000, "mnist5k": 1_000}


def former_examples(spec: RunSpec) -> int | None:
    """How many examples such an older record was measured on; None if that is not known."""
    validation = int(spec["VALIDATION_EXAMPLES"])
    return validation or _FORMER_EXAMPLES.get(str(spec["DATASET"]))


def difference_error(p: float, q: float, examples: int) -> float:
    """The standard error of p - q, two accuracies (fractions) on ``examples`` examples each.

    That of two independent binomial proportions, √((p (1 - p) + q (1 - q)) / examples). On the same
    examples the luck of their choice is common to both, and the true error smaller.
    """
    return math.sqrt((p * (1 - p) + q * (1 - q)) / examples)


__all__ = ["FORMER", "Metric", "difference_error", "former_examples"]
