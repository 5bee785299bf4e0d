"""What a directory of members outside the tree (``make M=../mine``) must keep to.

It has a ``Kconfig`` and folders of the families: ``models/``, ``datasets/``, ``tasks/``,
``optimizers/``, ``pruning/``. Each member is a module and a Kconfig entry, and changes nothing of
what is in the tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import kconfiglib

from adamwprune.base import registry
from adamwprune.base.errors import ConfigError, UserError
from adamwprune.base.files import expanded

if TYPE_CHECKING:
    from adamwprune.config.tree import Tree

KCONFIG = "Kconfig"


def resolved(text: str) -> Path | None:
    """The directory that ``M=text`` names; None where the text is empty.

    Raises :class:`UserError` where there is none, or one without a Kconfig.
    """
    if not text:
        return None
    directory = expanded(text).absolute()
    check_directory(directory, text)
    return directory.resolve()


def check_directory(directory: Path, text: str = "") -> None:
    """Raise :class:`UserError` unless the directory is there and has a Kconfig."""
    if not directory.is_dir():
        raise UserError(f"M={text or directory}: there is no such directory")
    if not (directory / KCONFIG).is_file():
        raise UserError(f"M={text or directory}: the directory has no Kconfig")


def check(tree: Tree, directory: Path) -> None:
    """Raise :class:`ConfigError` with a line for each member that is not one module and one entry,
    and for each symbol of the tree that the directory would change.
    """
    owned = _Owned(tree, directory)
    problems = [*owned.changed()]
    for family, package in registry.PACKAGES.items():
        if family in tree.families or (directory / registry.folder(package)).is_dir():
            problems += owned.unmatched(family, package)
    if problems:
        raise ConfigError(problems)


class _Owned:
    """The symbols and modules of a directory outside the tree."""

    def __init__(self, tree: Tree, directory: Path) -> None:
        self.tree, self.directory = tree, directory

    def is_here(self, node: kconfiglib.MenuNode) -> bool:
        """Whether a declaration is in a file below the directory."""
        return Path(self.tree.root, node.filename).is_relative_to(self.directory)

    def is_own(self, symbol: kconfiglib.Symbol) -> bool:
        """Whether a symbol is declared nowhere else."""
        return bool(symbol.nodes) and all(map(self.is_here, symbol.nodes))

    def changed(self) -> Iterator[str]:
        """Declarations that would change what is in the tree."""
        for symbol in self.tree.symbols.values():
            here = [node for node in symbol.nodes if self.is_here(node)]
            if not here or self.is_own(symbol):
                continue
            for node in here:
                if reason := self._contradiction(symbol, node):
                    yield f"{node.filename}:{node.linenr}: {symbol.name} is the tree's: {reason}"

    def _contradiction(self, symbol: kconfiglib.Symbol, node: kconfiglib.MenuNode) -> str:
        if node.prompt:
            return "it cannot be declared again; choose another name"
        if node.ranges or node.selects or node.implies or any(n.prompt for n in symbol.nodes):
            return "nothing can be added to it"
        for _, condition in node.defaults:
            named = (each for each in kconfiglib.expr_items(condition))
            if not any(isinstance(each, kconfiglib.Symbol) and self.is_own(each) for each in named):
                return "a default needs a condition on a member of this directory"
        return ""

    def unmatched(self, family: str, package: str) -> Iterator[str]:
        """Modules without an entry, entries without a module, names that the tree has."""
        folder = self.directory / registry.folder(package)
        modules = {path.stem: path for path in sorted(folder.glob("*.py"))}
        taken = registry.PACKAGE.parent.joinpath(*package.split("."))
        members = self._members(family)
        for name, path in modules.items():
            symbol = f"{family}_{name.upper()}"
            if (taken / f"{name}.py").is_file():
                yield f"{path}: the tree has a module of this name; choose another"
            elif name not in members and not name.startswith("_"):
                yield f"{path}: {self.directory / KCONFIG} declares no {symbol}"
        for name, symbol in members.items():
            node = self.tree.symbols[symbol].nodes[0]
            place = f"{node.filename}:{node.linenr}: {symbol}"
            if name not in modules:
                yield f"{place}: there is no {folder / name}.py"
            elif not self._resolves(family, symbol):
                member = name.replace("_", "-")
                yield f'{place}: CELL_{family} needs: default "{member}" if {symbol}'

    def _members(self, family: str) -> dict[str, str]:
        """Module -> symbol of the members that are declared here alone."""
        members = self.tree.families[family].members if family in self.tree.families else {}
        return {
            member.replace("-", "_"): symbol
            for member, symbol in members.items()
            if self.is_own(self.tree.symbols[symbol])
        }

    def _resolves(self, family: str, symbol: str) -> bool:
        """Whether a cell says which member it has, where this one is on."""
        return any(
            self.tree.symbols[symbol] in kconfiglib.expr_items(condition)
            for _, condition in self.tree.cell_symbols[family].defaults
        )
