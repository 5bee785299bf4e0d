"""What a module says, apart from its name and place: what code identity goes by.

Comments, docstrings, layout and import lines do not count. A name that an import binds stands for
what it means, so that neither the target's place nor the local name counts: ``nn.Linear`` is
``torch.nn.Linear``, and of a module of this package only what is taken from it is kept.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PACKAGE = "adamwprune"
LAZILY = f"{PACKAGE}.base.registry.lazily"  # makes a package's ``__getattr__`` from a mapping

# Splits a qualified name of this package into its module and what is taken from it.
Split = Callable[[str], tuple[str, str]]


@dataclass(frozen=True)
class Content:
    """One module: its own digest, and what it takes from elsewhere by qualified names."""

    digest: str  # ten hex digits; empty where the module only imports
    imports: tuple[str, ...]  # what its import lines name, of this package
    used: tuple[str, ...]  # the names of this package that it uses, in their order
    bound: Mapping[str, str]  # local name -> qualified name, also of what is looked up lazily


def read(tree: ast.Module, package: str, split: Split) -> Content:
    """The content of a module in ``package``."""
    nodes = list(_running(tree))
    lines = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    named = [each for line in lines for each in _bindings(line, package)]
    bound = dict(named)
    twice = {name for name, qualified in named if bound[name] != qualified}
    lazy, left_out = _lazy(tree, package, bound)
    writer = _Writer(package, bound, twice | _bound_otherwise(nodes), left_out, split)
    text = writer.plain(tree.body)
    return Content(
        hashlib.sha256(repr(text).encode()).hexdigest()[:10] if text else "",
        tuple(name for line in lines for name in _named(line, package) if _is_ours(name)),
        tuple(writer.used),
        {**lazy, **bound},
    )


class _Writer:
    """Writes a syntax tree as nested lists, and notes what it uses of this package."""

    def __init__(
        self,
        package: str,
        bound: Mapping[str, str],
        ambiguous: set[str],
        left_out: list[ast.stmt],
        split: Split,
    ) -> None:
        self.package, self.bound, self.ambiguous = package, bound, ambiguous
        self.left_out, self.split = left_out, split
        self.used: list[str] = []

    def plain(self, node: Any) -> Any:
        """Without places and without what is empty.

        Not ``ast.dump``: newer Pythons add fields to nodes, and an empty one must change nothing.
        """
        if isinstance(node, list):
            return [plain for each in node for plain in self._of_list(each)]
        if not isinstance(node, ast.AST):
            return node
        qualified = self._qualified(node)
        if qualified is not None:
            context = [type(node.ctx).__name__] if not isinstance(node.ctx, ast.Load) else []  # type: ignore[attr-defined]
            return [*self._taken(qualified), *context]
        fields = ((name, value) for name, value in ast.iter_fields(node) if name != "type_comment")
        parts = ((name, self.plain(value)) for name, value in fields if value is not None)
        return [type(node).__name__, *(list(part) for part in parts if part[1] != [])]

    def _of_list(self, node: Any) -> Iterator[Any]:
        """Nothing for a statement that does not count."""
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, qualified in _bindings(node, self.package):
                if name in self.ambiguous:  # what it means depends on where this line stands
                    yield ["import", name, *self._taken(qualified)]
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            yield from self.plain(node.orelse)
        elif not _is_text(node) and node not in self.left_out:
            yield self.plain(node)

    def _qualified(self, node: ast.AST) -> str | None:
        """``torch.nn.Linear`` for an expression that is an imported name, with its attributes."""
        if isinstance(node, ast.Name):
            return None if node.id in self.ambiguous else self.bound.get(node.id)
        if isinstance(node, ast.Attribute):
            inner = self._qualified(node.value)
            return None if inner is None else f"{inner}.{node.attr}"
        return None

    def _taken(self, qualified: str) -> list[str]:
        if not _is_ours(qualified):
            return ["name", qualified]
        self.used.append(qualified)
        return ["from", self.split(qualified)[1]]


def _bindings(line: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, str]]:
    """What an import line binds: local name, qualified name."""
    if isinstance(line, ast.Import):
        for alias in line.names:
            whole = alias.name if alias.asname else alias.name.partition(".")[0]
            yield alias.asname or whole, whole
    elif line.module != "__future__":
        source = _absolute(line, package)
        for alias in line.names:
            yield alias.asname or alias.name, f"{source}.{alias.name}"


def _named(line: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
    if isinstance(line, ast.Import):
        yield from (alias.name for alias in line.names)
    else:
        yield from (f"{_absolute(line, package)}.{alias.name}" for alias in line.names)


def _absolute(line: ast.ImportFrom, package: str) -> str:
    """The module that ``from … import`` in a module of ``package`` names, dots resolved."""
    parts = package.split(".")[: len(package.split(".")) - line.level + 1] if line.level else []
    return ".".join([*parts, *([line.module] if line.module else [])])


def _is_ours(qualified: str) -> bool:
    return qualified.partition(".")[0] == PACKAGE


def _bound_otherwise(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that something else than an import binds, anywhere: arguments, assignments, …"""
    found = {"*"}
    for node in nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif not isinstance(node, (ast.alias, ast.keyword)):
            found |= {str(getattr(node, field, "")) for field in ("name", "arg", "rest")}
    return found


def _lazy(
    tree: ast.Module, package: str, bound: Mapping[str, str]
) -> tuple[dict[str, str], list[ast.stmt]]:
    """Names that a package looks up lazily, with what they mean; and the statements for that.

    Those are left out of the content, or a new member would change every run: its public name is
    a line of the mapping.
    """
    known = {
        node.targets[0].id: node
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    left_out: list[ast.stmt] = [known[name] for name in ("__all__",) if name in known]
    lookup = known.get("__getattr__")
    call = lookup.value if lookup else None
    if lookup is None or not isinstance(call, ast.Call) or not _is_lazily(call.func, bound):
        return {}, left_out
    source, names = (known[each.id].value if isinstance(each, ast.Name) and each.id in known
                     else each for each in call.args)  # fmt: skip
    place = _text(source, package)
    if not isinstance(names, ast.Dict) or place is None:
        return {}, left_out
    mapping = {
        str(name.value): f"{place}.{module.value!s}.{name.value!s}"
        for name, module in zip(names.keys, names.values, strict=True)
        if isinstance(name, ast.Constant) and isinstance(module, ast.Constant)
    }
    listed = [each for each in known.values() if each.value is names]
    return mapping, [*left_out, lookup, *listed]


def _is_lazily(function: ast.expr, bound: Mapping[str, str]) -> bool:
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return f"{bound.get(function.value.id)}.{function.attr}" == LAZILY
    return isinstance(function, ast.Name) and bound.get(function.id) == LAZILY


def _text(node: ast.expr, package: str) -> str | None:
    """The value of a text made of constants and ``__name__``."""
    if isinstance(node, ast.Name) and node.id == "__name__":
        return package
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, package)
    if isinstance(node, ast.JoinedStr):
        parts = [_text(each, package) for each in node.values]
        return None if None in parts else "".join(part for part in parts if part)
    return None


def _running(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING:``."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _is_text(statement: Any) -> bool:
    """A docstring, or another text that stands for nothing."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
