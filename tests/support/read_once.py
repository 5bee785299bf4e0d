"""Source and certificates are read once for all commands and tests of code identity.

In a process of its own a command reads them once. What a module's source means depends on its text
and on which modules there are; where both are known, in a copy of the package too, it is not parsed
again. A file of certificates that is changed is read again.
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


def modules(sources: code.Sources) -> frozenset[str]:
    """The paths of all modules that there are, below the folder they are in."""
    if not hasattr(sources, "_modules"):
        folders = filter(None, (sources.library / code.PACKAGE, sources.outside))
        paths = (path.relative_to(folder) for folder in folders for path in folder.rglob("*.py"))
        sources._modules = frozenset(map(str, paths))  # type: ignore[attr-defined]
    return sources._modules  # type: ignore[attr-defined]


@pytest.fixture(scope="session", autouse=True)
def _read_once() -> Iterator[None]:
    contents: dict[tuple[Any, ...], code.Content] = {}
    proofs: dict[tuple[Any, ...], list[certified.Proof]] = {}
    read, prove = code.Sources._read, certified.Certificates.__dict__["proofs"].func

    def read_once(sources: code.Sources, name: str) -> code.Content:
        if name in sources._contents:
            return sources._contents[name]
        path = sources._path(name)
        assert path is not None
        key = (name, path.name, path.read_bytes(), modules(sources))
        if key not in contents:
            contents[key] = read(sources, name)
        sources._contents[name] = contents[key]
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
