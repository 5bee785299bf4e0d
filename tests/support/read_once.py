"""The package's own source and certificates, read once for all commands that are called here.

In a process of its own a command reads them once. A file that is changed is read again; a copy of
the package, as tests of code identity make it, always is.
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
def _read_once() -> Iterator[None]:
    contents: dict[tuple[Any, ...], code.Content] = {}
    proofs: dict[tuple[Any, ...], list[certified.Proof]] = {}
    read, prove = code.Sources._read, certified.Certificates.__dict__["proofs"].func

    def read_once(sources: code.Sources, name: str) -> code.Content:
        path = sources._path(name)
        if sources.library != code.LIBRARY or sources.outside is not None or path is None:
            return read(sources, name)
        key = (name, *stamp(path))
        if name not in sources._contents and key in contents:
            sources._contents[name] = contents[key]
        contents[key] = read(sources, name)
        return contents[key]

    def prove_once(certificates: certified.Certificates) -> list[certified.Proof]:
        if certificates.path != code.CERTIFIED or not code.CERTIFIED.is_file():
            return prove(certificates)
        key = stamp(code.CERTIFIED)
        if key not in proofs:
            proofs[key] = prove(certificates)
        return proofs[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code.Sources, "_read", read_once)
        patch.setattr(certified.Certificates, "proofs", property(prove_once))
        yield
