"""The methods under test: every member, built by its module with Kconfig's values of a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from adamwprune import pruning
from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.plan.matrix import expand
from adamwprune.pruning import Score, State
from adamwprune.pruning.methods.state import CRITERIA
from tests.members.language.pruning.saliency import Saliency
from tests.pruning.wanda import Wanda


def _members() -> dict[str, Callable[[], Score]]:
    tree = Tree()
    names = " ".join(tree.families["PRUNING_METHOD"].members)
    words = {"OPTIMIZER": "adamw", "PRUNING_METHOD": names, "SEED": "3"}
    strict.apply(tree, strict.command_line(tree, words, "test"))
    return {
        spec["PRUNING_METHOD"]: partial(pruning.method, spec.values)
        for spec in expand(tree).specs
        if "MASK_STORAGE" in spec
    }


METHODS: dict[str, Callable[[], Score]] = _members()
del METHODS["state"]  # by each criterion:
METHODS |= {f"state-{name}": partial(State, name) for name in CRITERIA}
# As members from outside the tree: one asks for gradients, one for what its layers read.
METHODS |= {"saliency": Saliency, "wanda": Wanda}
