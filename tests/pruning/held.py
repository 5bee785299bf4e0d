"""Scores that are there already, for tests of what is chosen by them."""

from __future__ import annotations

import math

from adamwprune.pruning.select.selection import Scores, cut, masks


class Held(Scores):
    """Tensors by layer; ``excluded``: bool tensors, True where a weight is no candidate."""

    def __init__(self, scores, excluded=None):
        super().__init__()
        self.scores = scores
        self.excluded = excluded or {}
        self.sizes = {
            name: score.numel() - int(self.excluded[name].sum() if name in self.excluded else 0)
            for name, score in scores.items()
        }

    def layer(self, name):
        return self.scores[name]

    def raw(self, name, part):
        return part.of(self.scores[name]).clone()

    def mark(self, name, part, scores):
        if name in self.excluded:
            scores.masked_fill_(part.of(self.excluded[name]), math.nan)
        return scores


def lowest(scores, k):
    """Bool tensors, True at the ``k`` lowest of all layers' scores together."""
    held = Held(scores)
    return masks(held, [cut(held, scores, k)])
