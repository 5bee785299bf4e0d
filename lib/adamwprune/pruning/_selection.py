"""Which weights to prune: exactly k of them, the lowest scores, ties broken by index."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor


def lowest(scores: list[Tensor], k: int) -> list[Tensor]:
    """Bool tensors, True at the ``k`` lowest of all ``scores`` together.

    Among equal scores the lower index goes first, in the order of the list. Raises ``ValueError``
    if a score is NaN or ``k`` is no count of them.
    """
    flat = torch.cat([score.flatten() for score in scores])
    if not 0 <= k <= flat.numel():
        raise ValueError(f"cannot choose {k} of {flat.numel()} weights")
    if torch.isnan(flat).any():
        raise ValueError(f"{int(torch.isnan(flat).sum())} of {flat.numel()} scores are NaN")
    chosen = torch.zeros(flat.numel(), dtype=torch.bool, device=flat.device)
    chosen[flat.argsort(stable=True)[:k]] = True
    parts = chosen.split([score.numel() for score in scores])
    return [part.view_as(score) for part, score in zip(parts, scores, strict=True)]


def apportion(k: int, numels: list[int], at_least: list[int]) -> list[int]:
    """Split ``k`` over layers in proportion to ``numels``, none below ``at_least``.

    Largest remainder: floors first, then one more where the remainder is largest (the earlier
    layer among equals), so that the sum is exactly ``k``. Raises ``ValueError`` if impossible.
    """
    if not sum(at_least) <= k <= sum(numels):
        raise ValueError(f"cannot split {k} over layers of {numels} with at least {at_least}")
    total = sum(numels)
    quotas = [Fraction(k * numel, total) for numel in numels]
    parts = [max(int(quota), least) for quota, least in zip(quotas, at_least, strict=True)]
    while (rest := k - sum(parts)) != 0:
        sign = 1 if rest > 0 else -1
        # Towards the quota: up where most is missing, down where most is too much.
        free = [i for i, part in enumerate(parts) if at_least[i] <= part + sign <= numels[i]]
        best = max(free, key=lambda i: (sign * (quotas[i] - parts[i]), -i))
        parts[best] += sign
    return parts
