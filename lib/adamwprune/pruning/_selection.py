"""Which weights to prune: exactly k of them, the lowest scores, ties broken by index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from adamwprune.pruning import _radix

SORTED = 1 << 20  # up to so many scores a sort is as fast as histograms and takes little memory


def lowest(scores: Mapping[str, Tensor], k: int) -> dict[str, Tensor]:
    """Bool tensors, True at the ``k`` lowest of all layers' ``scores`` together.

    Among equal scores the lower index goes first, in the order of the mapping. Raises
    ``ValueError`` if a score is NaN, naming its layer, or if ``k`` is no count of them.
    """
    numel = sum(score.numel() for score in scores.values())
    if not 0 <= k <= numel:
        raise ValueError(f"cannot choose {k} of {numel} weights")
    refuse_nan(scores)
    if numel > SORTED and all(score.dtype in _radix.DTYPES for score in scores.values()):
        return _radix.lowest(scores, k)
    return _sorted(scores, k)


def refuse_nan(scores: Mapping[str, Tensor]) -> None:
    """Raise ``ValueError`` if a score is NaN, naming its layer."""
    # The largest of numbers with a NaN among them is NaN; one flag a layer is read back.
    layers = {name: score for name, score in scores.items() if score.numel()}
    flags = [score.amax().isnan() for score in layers.values()]
    for (name, score), is_nan in zip(layers.items(), _read(flags), strict=True):
        if is_nan:
            count = int(score.isnan().sum())
            raise ValueError(f"{name}: {count} of {score.numel()} scores are NaN")


def _read(numbers: list[Tensor]) -> list[Any]:
    return torch.stack(numbers).tolist() if numbers else []


def _sorted(scores: Mapping[str, Tensor], k: int) -> dict[str, Tensor]:
    flat = torch.cat([score.flatten() for score in scores.values()])
    chosen = torch.zeros(flat.numel(), dtype=torch.bool, device=flat.device)
    chosen[flat.argsort(stable=True)[:k]] = True
    parts = chosen.split([score.numel() for score in scores.values()])
    # A view would keep the whole selection alive.
    return {
        name: part.clone().view(score.shape)
        for (name, score), part in zip(scores.items(), parts, strict=True)
    }


def shares(
    total: int, weights: Sequence[int], least: Sequence[int], most: Sequence[int]
) -> list[Fraction]:
    """Split ``total`` in proportion to ``weights``, each share within its own limits.

    shareᵢ = min(max(ε·weightᵢ, leastᵢ), mostᵢ) with the one ε at which they add up to ``total``,
    exactly. What is above a limit goes to the others in proportion. Raises ``ValueError`` unless
    Σ least ≤ total ≤ Σ most.
    """
    if not sum(least) <= total <= sum(most):
        raise ValueError(f"cannot split {total} into shares of {sum(least)} to {sum(most)}")
    limits = list(zip(weights, least, most, strict=True))

    def at(epsilon: Fraction) -> list[Fraction]:
        return [min(max(epsilon * w, Fraction(low)), Fraction(high)) for w, low, high in limits]

    # The sum rises with ε along straight lines, bent where a share meets one of its limits.
    bends = {Fraction(limit, w) for w, low, high in limits for limit in (low, high) if w}
    start = max(bend for bend in {Fraction(0), *bends} if sum(at(bend)) <= total)
    missing = total - sum(at(start))
    if missing == 0:
        return at(start)
    rising = sum(w for w, low, high in limits if low <= start * w < high)
    return at(start + Fraction(missing) / rising)


def apportion(
    k: int, quotas: Sequence[Fraction], at_least: Sequence[int], at_most: Sequence[int]
) -> list[int]:
    """Whole numbers near ``quotas``, within their limits, that add up to ``k`` as the quotas do.

    Largest remainder: floors first, then one more where the remainder is largest (the earlier
    layer among equals), so that the sum is exactly ``k``. Raises ``ValueError`` if impossible.
    """
    limits = list(zip(at_least, at_most, strict=True))
    fits = all(least <= most for least, most in limits)
    if not fits or not sum(at_least) <= k <= sum(at_most):
        raise ValueError(f"cannot split {k} over layers of {limits}")
    parts = [
        min(max(int(quota), least), most)
        for quota, (least, most) in zip(quotas, limits, strict=True)
    ]
    while (rest := k - sum(parts)) != 0:
        sign = 1 if rest > 0 else -1
        # Towards the quota: up where most is missing, down where most is too much.
        free = [i for i, part in enumerate(parts) if limits[i][0] <= part + sign <= limits[i][1]]
        best = max(free, key=lambda i: (sign * (quotas[i] - parts[i]), -i))
        parts[best] += sign
    return parts
