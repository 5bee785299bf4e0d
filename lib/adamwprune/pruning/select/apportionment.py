"""k divided over layers: exact shares within limits, and whole numbers that add up to k."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction


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
