"""Words that depend on a number."""

from __future__ import annotations

import pytest

from adamwprune.base.wording import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (1_180, "1,180 runs")]
)
def test_one_has_no_plural(number: int, text: str) -> None:
    assert counted(number, "run") == text
