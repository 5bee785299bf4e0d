"""How fast a run trained: examples and tokens a second, without evaluations."""

from __future__ import annotations

from adamwprune.base.kinds import Kind, Tokens


def examples_seen(steps: int, examples: int, batch: int) -> int:
    """Return how many examples ``steps`` batches have, in passes over all ``examples``.

    The last batch of a pass has what is left.
    """
    passes, rest = divmod(steps, -(-examples // batch))
    return passes * examples + rest * batch


def throughput(seen: int, seconds: float, kind: Kind) -> dict[str, float]:
    """``examples``: seen in ``seconds`` of training; ``examples_per_second``, and
    ``tokens_per_second`` of data that are sequences of them. Empty where no time was measured.
    """
    if seconds <= 0:
        return {}
    found = {"examples": seen, "examples_per_second": seen / seconds}
    if isinstance(kind, Tokens):
        found["tokens_per_second"] = seen * kind.block / seconds
    return found
