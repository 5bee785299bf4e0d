"""Members of a family are modules of a package: the folder is the registry.

The member ``fashion-mnist`` of the datasets is ``adamwprune/datasets/fashion_mnist.py``. A module
whose name starts with an underscore is what members share, and no member.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


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
