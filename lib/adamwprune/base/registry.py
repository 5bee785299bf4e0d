"""Members of a family are modules of a package: the folder is the registry.

The member ``fashion-mnist`` of the datasets is ``adamwprune/datasets/fashion_mnist.py``. A module
whose name starts with an underscore is what members share, and no member.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def member(package: str, name: str) -> ModuleType:
    """The module of ``name`` in the family's ``package``; ``KeyError`` lists the known members."""
    module = name.replace("-", "_")
    known = members(package)
    if module not in known:
        raise KeyError(f"{package} has no member {name!r}; there are: {', '.join(known)}")
    return importlib.import_module(f"{package}.{module}")


def members(package: str) -> list[str]:
    """The names of all member modules of ``package``, sorted."""
    folder = importlib.import_module(package)
    names = (each.name for each in pkgutil.iter_modules(folder.__path__))
    return sorted(name for name in names if not name.startswith("_"))


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
