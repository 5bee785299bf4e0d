"""Which code a run is made by, as a digest: what tells a stale record from a fresh one.

The digest is over the syntax trees of the run's own components (model, dataset, optimizer, pruning
method), of the training loop, and of everything in this package that they import, found
statically, without comments, docstrings and places. What only a type checker imports is left out.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from adamwprune.base.errors import UserError
from adamwprune.plan.spec import COMPONENTS, RunSpec

PACKAGE = "adamwprune"
LIBRARY = Path(__file__).resolve().parents[2]
TRAINING = f"{PACKAGE}.train.loop"
# Says only what a run is called in records of other times: it changes no number.
NAMING = (f"{PACKAGE}.plan.lineage",)


@dataclass(frozen=True)
class Code:
    """The modules that produce one run: name -> ten hex digits of its syntax tree."""

    modules: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits over all of them."""
        lines = (f"{name} {digest}\n" for name, digest in sorted(self.modules.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """What a record and a checkpoint hold."""
        return {"digest": self.digest, "modules": dict(sorted(self.modules.items()))}

    def changed_since(self, recorded: Mapping[str, Any]) -> list[str]:
        """Names of the modules that differ from a record's ``code``, came or went."""
        before = recorded.get("modules", {})
        names = sorted({*before, *self.modules})
        return [name for name in names if before.get(name) != self.modules.get(name)]


class Sources:
    """The package's source below ``library`` as it was when first asked for."""

    def __init__(self, library: Path = LIBRARY) -> None:
        self.library = library
        self._modules: dict[str, tuple[str, frozenset[str]]] = {}  # name -> digest, imports
        self._runs: dict[tuple[str, ...], Code] = {}  # by the members of each component

    def of(self, spec: RunSpec) -> Code:
        """The code of a run; :class:`UserError` for a missing member or broken Python."""
        members = tuple([spec[name] for name in COMPONENTS])
        if members not in self._runs:
            packages = zip(COMPONENTS.values(), members, strict=True)
            roots = (f"{package}.{_module(member)}" for package, member in packages)
            names = self._closure((TRAINING, *roots))
            self._runs[members] = Code({name: self._read(name)[0] for name in names})
        return self._runs[members]

    def _closure(self, roots: Iterable[str]) -> set[str]:
        found: set[str] = set()
        waiting = [name for root in roots for name in _with_packages(root)]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self._read(name)[1]
        return found

    def _read(self, name: str) -> tuple[str, frozenset[str]]:
        if name not in self._modules:
            path = self._path(name)
            if path is None:
                raise UserError(f"{self.library}: there is no module {name}")
            try:
                tree = ast.parse(path.read_bytes(), str(path))
            except (OSError, SyntaxError, ValueError) as error:
                raise UserError(f"{path}: {error}") from None
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            self._modules[name] = _digest(tree), frozenset(self._imports(tree, package))
        return self._modules[name]

    def _path(self, name: str) -> Path | None:
        """The module's file, of the package or of a module in it."""
        path = self.library.joinpath(*name.split("."))
        candidates = (path / "__init__.py", path.with_suffix(".py"))
        return next((each for each in candidates if each.is_file()), None)

    def _imports(self, tree: ast.Module, package: str) -> Iterator[str]:
        """What of this library a module in ``package`` imports when it runs, wherever it does."""
        for node in _running(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                source = _absolute(node, package)
                submodules = (f"{source}.{alias.name}" for alias in node.names)
                names = [source, *filter(self._path, submodules)]
            else:
                continue
            for name in names:
                if name.split(".")[0] == PACKAGE and name not in NAMING:
                    yield from _with_packages(name)


def stamps(library: Path = LIBRARY) -> dict[str, tuple[int, int]]:
    """Each source file of the package: when it was last written, in ns, and its size in bytes."""
    found = {}
    for path in library.joinpath(PACKAGE).rglob("*.py"):
        if path.name.startswith("."):  # an editor's own: Emacs locks a file with a dangling link
            continue
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed
            stat = path.stat()
            found[str(path)] = (stat.st_mtime_ns, stat.st_size)
    return found


def _module(member: str) -> str:
    return str(member).replace("-", "_")


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that ``from … import`` in a module of ``package`` names, dots resolved."""
    parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    return ".".join([*parts, *([node.module] if node.module else [])])


def _with_packages(name: str) -> Iterator[str]:
    """A module's name and those of the packages around it, which are imported with it."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        yield ".".join(parts[:length])


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING:``."""
    yield node
    for child in ast.iter_child_nodes(node):
        skipped = isinstance(child, ast.If) and _is_type_checking(child.test)
        yield from _running_else(child) if skipped else _running(child)


def _running_else(node: ast.AST) -> Iterator[ast.AST]:
    assert isinstance(node, ast.If)
    for child in node.orelse:
        yield from _running(child)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _digest(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [each for each in body or [] if not _is_text(each)]
    return hashlib.sha256(repr(_plain(tree)).encode()).hexdigest()[:10]


def _is_text(statement: ast.stmt) -> bool:
    """A docstring, or another text that stands for nothing."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _plain(node: Any) -> Any:
    """A syntax tree as nested lists, without places and without what is empty.

    Not ``ast.dump``: newer Pythons add fields to nodes, and an empty one must change nothing.
    """
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, ast.AST):
        return node
    fields = ((name, value) for name, value in ast.iter_fields(node) if name != "type_comment")
    parts = [(name, _plain(value)) for name, value in fields if value is not None and value != []]
    return [type(node).__name__, *parts]
