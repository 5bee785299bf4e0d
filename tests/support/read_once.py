"""Certificates are read once for all commands and tests of code identity.

In a process of its own a command reads them once. A file of them that is changed is read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adamwprune.records import certified, code


def stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


@pytest.fixture(scope="session", autouse=True)
def _prove_once() -> Iterator[None]:
    proofs: dict[tuple[Any, ...], list[certified.Proof]] = {}
    prove = certified.Certificates.__dict__["proofs"].func

    def prove_once(certificates: certified.Certificates) -> list[certified.Proof]:
        if certificates.path != code.CERTIFIED or not code.CERTIFIED.is_file():
            return prove(certificates)
        key = stamp(code.CERTIFIED)
        if key not in proofs:
            proofs[key] = prove(certificates)
        return proofs[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certified.Certificates, "proofs", property(prove_once))
        yield
