"""Words for people that depend on a number."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``, ``1,180 steps``; of a noun whose plural ends in s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
