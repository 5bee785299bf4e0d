"""AdamWPrune: optimizers and weight pruning in PyTorch, and the experiments around them.

Usable alone in any training script::

    from adamwprune.optimizers import AdamWPrune
    from adamwprune.pruning import Pruner

The experiment build system (Kconfig, matrix, scheduler, report) is driven by ``make``.
"""

__version__ = "0.1.0"
