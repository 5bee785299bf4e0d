"""What there is to say of pruned weights, counted in the weights themselves, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from adamwprune.pruning.pruned import PrunedWeights
from adamwprune.pruning.select.weight_bins import LIMIT, histogram


def layers(pruned: PrunedWeights) -> list[dict[str, Any]]:
    """Each layer: its name, number of weights, number of zeros, density (the fraction that is not
    zero), and how many pruned weights returned. The device is asked once.
    """
    weights = pruned.weights.values()
    zeros = torch.stack([(w == 0).sum() for w in weights]).tolist() if weights else []
    zeros = pruned.summed(zeros)
    return [
        {
            "name": name,
            "numel": numel,
            "zeros": count,
            "density": 1 - count / numel if numel else 1.0,
            "returned": pruned.returned_by_layer[name],
        }
        for (name, numel), count in zip(pruned.numels.items(), zeros, strict=True)
    ]


def record(
    pruned: PrunedWeights,
    target: float,
    updates: Sequence[dict[str, float]],
    before: Sequence[int],
) -> dict[str, Any]:
    """What a run's record says of its pruning.

    ``requested``: the target sparsity; ``k``: the number of pruned weights that this means in the
    scope, at present; ``zeros``: counted, with live weights that happen to be zero; ``prunable``:
    the number of weights; ``layers``; ``updates``: step, target, k, number of weights that
    ``returned`` and of masks that ``changed`` (weights newly pruned, and returned) of each, and
    what else was measured of it; ``returned``; ``histogram``: the weights that are not zero in bins
    of equal width from ``low`` to ``high``, ``before`` the first update (None without one) and
    ``after`` training. The pruner adds ``mean_density``, over the steps, the number of all
    ``parameters``, and which are ``left_out`` and why.
    """
    found = layers(pruned)
    return {
        "requested": target,
        "k": pruned.k,
        "zeros": sum(layer["zeros"] for layer in found),
        "prunable": pruned.numel,
        "layers": found,
        "updates": list(updates),
        "returned": pruned.returned,
        "histogram": {
            "low": -LIMIT,
            "high": LIMIT,
            "before": list(before) or None,
            "after": pruned.summed(histogram(pruned.weights.values())),
        },
    }
