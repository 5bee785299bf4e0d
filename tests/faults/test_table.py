"""The table of planted faults fits the tree: each can be planted, and names tests there are."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.faults.table import FAULTS, Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_planted_at_one_place(fault: Fault, repository: Path) -> None:
    assert fault.new != fault.old
    assert (repository / fault.path).read_text().count(fault.old) == 1
    files = [word for word in shlex.split(fault.tests) if word.startswith("tests/")]
    assert files
    assert all((repository / word.partition("::")[0]).exists() for word in files)


def test_there_are_thirty_with_names_of_their_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 30
