"""Members of a family are modules of a package: the folder is the registry.

The member ``fashion-mnist`` of the datasets is ``adamwprune/datasets/fashion_mnist.py``. A module
whose name starts with an underscore is what members share, and no member.

A directory outside the package may add members (``make M=../mine``): its ``models/tiny.py`` is
imported as ``adamwprune.models.tiny``. The directory is named by an environment variable, so that
every process started from here finds the same members.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, MutableSequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

VARIABLE = "ADAMWPRUNE_MEMBERS"  # the directory outside the package, as an absolute path
PACKAGE = Path(__file__).resolve().parents[1]
PACKAGES = {  # family -> the package that its members are in
    "MODEL": "adamwprune.models",
    "DATASET": "adamwprune.datasets",
    "TASK": "adamwprune.tasks",
    "OPTIMIZER": "adamwprune.optimizers",
    "PRUNING_METHOD": "adamwprune.pruning.methods",
}


def member(package: str, name: str) -> ModuleType:
    """The module of ``name`` in the family's ``package``; ``KeyError`` lists the known members."""
    module = name.replace("-", "_")
    known = members(package)
    if module not in known:
        raise KeyError(f"{package} has no member {name!r}; there are: {', '.join(known)}")
    return importlib.import_module(f"{package}.{module}")


def members(package: str) -> list[str]:
    """The names of all member modules of ``package``, sorted."""
    path = importlib.import_module(package).__path__
    names = (each.name for each in pkgutil.iter_modules(path))
    return sorted(name for name in names if not name.startswith("_"))


def outside() -> Path | None:
    """The directory outside the package whose members count too."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def folder(package: str) -> str:
    """The folder of such a directory whose modules become part of ``package``."""
    return package.split(".")[1]


@contextmanager
def using(directory: Path | None) -> Iterator[None]:
    """Take the members of ``directory`` too, here and in every process started from here."""
    before = outside()
    _use(directory)
    try:
        yield
    finally:
        _use(before)


def _use(directory: Path | None) -> None:
    before = outside()
    if directory == before:
        return
    for name in _imported_from(before) if before else ():
        del sys.modules[name]  # another directory may have a member of the same name
    importlib.invalidate_caches()
    os.environ.pop(VARIABLE, None)
    if directory is not None:
        os.environ[VARIABLE] = str(directory)
    for package in PACKAGES.values():
        if package in sys.modules:
            extend(package, sys.modules[package].__path__)


def _imported_from(directory: Path) -> list[str]:
    """The modules whose files are below ``directory``."""
    below = f"{directory}{os.sep}"
    files = [(name, getattr(module, "__file__", None)) for name, module in sys.modules.items()]
    return [name for name, file in files if file and str(file).startswith(below)]


def extend(package: str, path: MutableSequence[str]) -> None:
    """Make ``path``, a family's ``__path__``, its own folder and the one outside the package."""
    directory = outside()
    path[1:] = [str(directory / folder(package))] if directory else []


def lazily(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's ``__getattr__`` (PEP 562) for ``names``: public name -> module it is in.

    A package that imported its members would make every run depend on all of them: what a run
    was made by is told from static imports (:mod:`adamwprune.records.code`).
    """

    def attribute(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{names[name]}"), name)

    return attribute
