"""Clipping by the norm of what is trained: gradients of pruned weights do not count."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adamwprune.pruning.pruned import PrunedWeights
from adamwprune.pruning.shards import local


@torch.no_grad()
def clip_grad_norm_(pruned: PrunedWeights, max_norm: float, norm_type: float = 2.0) -> Tensor:
    """See :meth:`adamwprune.pruning.Pruner.clip_grad_norm_`.

    The gradients of pruned weights are scaled as well: a returning method scores by them.
    """
    if pruned.optimizer is None:
        raise RuntimeError("the pruner is not attached to an optimizer of its weights")
    names = {id(param): name for name, param in pruned.parameters.items()}
    groups = pruned.optimizer.param_groups
    params = [p for group in groups for p in group["params"] if p.grad is not None]
    norms = []
    for param in params:
        gradient = param.grad
        if pruned.k and id(param) in names:
            name = names[id(param)]
            gradient = gradient.clone()
            pruned.masks.zero(name, local(gradient), pruned.states(name))
        norms.append(torch.linalg.vector_norm(gradient, float(norm_type)))
    if not norms:
        return torch.zeros(())
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms), float(norm_type))
    nn.utils.clip_grads_with_norm_(params, max_norm, total)
    return total
