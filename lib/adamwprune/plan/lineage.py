"""What keeps old records valid when a symbol is renamed or added.

A renamed symbol counts in a run's identity under its first name; one that was added later does not
count where it says what runs did before it was there. It is no part of the code that makes a record
(:mod:`adamwprune.records.code`): an entry here changes no number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adamwprune.config.options import Value
    from adamwprune.config.tree import Tree

RENAMED: dict[str, str] = {}  # name now -> its first name
NEUTRAL: dict[str, Value] = {  # name now -> the value that means the old behaviour
    "ACCUMULATION": 1,
    "AUGMENT": "none",
    "DECAYED": "all",
    "EVALUATION_INTERVAL": 0,
    "INITIAL_SPARSITY": 0.0,
    "LABEL_SMOOTHING": 0,
    "LENET5_FUSED": True,
    "LENET5_NUMBA": False,
    "LENET5_TRITON": False,
    "LR_FLOOR": 0.0,
    "LR_WARMUP": 0,
    "MEMORY_FORMAT": "contiguous",
    "MODEL_WIDTH": 1.0,
    "PRECISION": "float32",
    "PRUNE_FIRST_LAYER": True,
    "PRUNE_LAST_LAYER": True,
    "PRUNING_FLOOR": 0,
    "RELEASE_GRADIENTS": False,
    "SPAM_TRITON": False,
    "STEPS": 0,
    "TASK": "classification",
    "TORCH_COMPILE": False,
    "VALIDATION_EXAMPLES": 0,
}


def is_unset(tree: Tree, name: str, value: Value) -> bool:
    """Whether a record's value says that the option is not used, which is not how a user sets it:
    such a value cannot be given.
    """
    if name not in tree.options or NEUTRAL.get(name) != value:
        return False
    interval = tree.options[name].type.interval
    return interval is not None and float(value) not in interval
