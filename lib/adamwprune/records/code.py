"""Which code a run is made by, as a digest: what tells a stale record from a fresh one.

Only modules that make numbers count: those in the folders of :data:`COUNTED`, of the package or of
a directory with members from outside, which the training loop and the run's own members (model,
data set, optimizer, pruning method) import, found statically. A module goes by its content, not by
its name: what is moved or renamed is the same code.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from adamwprune.base import registry
from adamwprune.base.errors import UserError
from adamwprune.plan.spec import COMPONENTS, RunSpec
from adamwprune.records import content, parsed
from adamwprune.records.certified import Certificates
from adamwprune.records.content import PACKAGE, Content
from adamwprune.records.parsed import Parsed

LIBRARY = Path(__file__).resolve().parents[2]
TRAINING = f"{PACKAGE}.train.loop"
COUNTED = ("train", "tasks", "models", "datasets", "optimizers", "pruning")
# A folder of a directory with members from outside -> the package they belong to.
OUTSIDE = {registry.folder(package): package for package in registry.PACKAGES.values()}
Stamp = tuple[int, int]  # of a file: when it was last written, in ns, and its size in bytes
CERTIFIED = LIBRARY.parent / "results" / "certified.jsonl"


@dataclass(frozen=True)
class Code:
    """The modules that produce one run.

    To each name belongs a digest of the module's own content (ten hex digits) and, after a
    hyphen, one of what its imported names mean (six).
    """

    modules: Mapping[str, str]
    certificates: Certificates = field(default_factory=Certificates, compare=False, repr=False)

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits over all of them; their names do not count."""
        lines = "\n".join(sorted(self.modules.values()))
        return hashlib.sha256(lines.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """What a record and a checkpoint hold."""
        return {"digest": self.digest, "modules": dict(sorted(self.modules.items()))}

    def changed_since(self, recorded: Mapping[str, Any]) -> list[str]:
        """Names of the modules that differ from a record's ``code``, came or went.

        Not of one that is called otherwise now, nor of one that only imports what changed.
        """
        before: Mapping[str, str] = recorded.get("modules", {})
        return _unmatched(before, self.modules, _own) or _unmatched(before, self.modules, str)


_PARSED = Parsed()


class Sources:
    """The package's source below ``library`` as it was when first asked for."""

    def __init__(self, library: Path = LIBRARY, certified: Path | None = CERTIFIED) -> None:
        self.certificates = Certificates(certified)
        self.library = library

    @cached_property
    def _source(self) -> _Source:
        written = frozenset(stamps(self.library).items())
        return _source(self.library, registry.outside(), written)

    def of(self, spec: RunSpec) -> Code:
        """The code of a run; :class:`UserError` for a missing member or broken Python."""
        members = tuple([str(spec[name]) for name in COMPONENTS])
        return Code(self._source.modules(members), self.certificates)


@functools.lru_cache(maxsize=1)
def _source(library: Path, outside: Path | None, written: frozenset[tuple[str, Stamp]]) -> _Source:
    """The source in files that were written then, which a command looks at several times."""
    return _Source(library, outside, [path for path, _ in written])


class _Source:
    """What the files of the package hold, read when it is asked for."""

    def __init__(self, library: Path, outside: Path | None, files: Iterable[str]) -> None:
        self.library, self.outside = library, outside
        # The files there are: by them a qualified name is split into module and name.
        self._beside = "\0".join(sorted(path.removeprefix(f"{library}/") for path in files))
        self._contents: dict[str, Content] = {}
        self._paths: dict[str, Path | None] = {}
        self._runs: dict[tuple[str, ...], dict[str, str]] = {}  # by the members of each component

    def modules(self, members: tuple[str, ...]) -> dict[str, str]:
        """What :class:`Code` holds of a run with these members."""
        if members not in self._runs:
            packages = zip(COMPONENTS.values(), members, strict=True)
            roots = [TRAINING, *(f"{package}.{_module(member)}" for package, member in packages)]
            for root in roots:
                if self._path(root) is None:
                    raise UserError(f"there is no module {root}; is it from outside, M=DIR?")
            names = sorted(name for name in self._closure(roots) if self._read(name).digest)
            self._runs[members] = {name: self._entry(name) for name in names}
            _PARSED.save()
        return self._runs[members]

    def _closure(self, roots: Iterable[str]) -> set[str]:
        found: set[str] = set()
        waiting = [name for root in roots for name in self._with_packages(root)]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self._imported(self._read(name))
        return found

    def _imported(self, module: Content) -> Iterator[str]:
        """The counted modules that a module loads, also by a name that is looked up lazily."""
        for qualified in (*module.imports, *module.used):
            yield from self._with_packages(self._split(qualified)[0])
            yield from self._with_packages(self._home(qualified)[0])

    def _entry(self, name: str) -> str:
        """What :class:`Code` holds of a module."""
        module = self._read(name)
        homes = [self._home(qualified) for qualified in module.used]
        meant = [
            f"{self._read(home).digest} {attribute}" if _counts(home) else attribute
            for home, attribute in homes
        ]
        links = hashlib.sha256("\n".join(meant).encode()).hexdigest()[:6]
        return f"{module.digest}-{links}"

    def _home(self, qualified: str) -> tuple[str, str]:
        """The module that really defines a name, behind those that import it too."""
        seen = set()
        while qualified not in seen:
            seen.add(qualified)
            module, attribute = self._split(qualified)
            first, dot, rest = attribute.partition(".")
            if not _counts(module) or first not in self._read(module).bound:
                return module, attribute
            qualified = f"{self._read(module).bound[first]}{dot}{rest}"
        return self._split(qualified)

    def _split(self, qualified: str) -> tuple[str, str]:
        """The module, and what is taken from it: ``adamwprune.models``, ``Model``."""
        if not qualified.startswith(f"{PACKAGE}."):
            return "", qualified
        parts = qualified.split(".")
        for length in range(len(parts), 1, -1):
            name = ".".join(parts[:length])
            if self._path(name):
                return name, ".".join(parts[length:])
        return PACKAGE, ".".join(parts[1:])

    def _with_packages(self, name: str) -> Iterator[str]:
        """A counted module's name and those of the packages around it, imported with it."""
        parts = name.split(".")
        for length in range(2, len(parts) + 1):
            part = ".".join(parts[:length])
            if _counts(part) and self._path(part):
                yield part

    def _read(self, name: str) -> Content:
        if name not in self._contents:
            path = self._path(name)
            assert path is not None
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            try:
                text = path.read_bytes()
                self._contents[name] = _PARSED.of(
                    parsed.key(text, package, self._beside),
                    lambda: content.read(ast.parse(text, str(path)), package, self._split),
                )
            except (OSError, SyntaxError, ValueError) as error:
                raise UserError(f"{path}: {error}") from None
        return self._contents[name]

    def _path(self, name: str) -> Path | None:
        """The file of a package or of a module in it; ``None`` where there is none."""
        if name not in self._paths:
            self._paths[name] = self._find(name)
        return self._paths[name]

    def _find(self, name: str) -> Path | None:
        places = [self.library.joinpath(*name.split("."))]
        for folder, package in OUTSIDE.items() if self.outside else ():
            if self.outside and name.startswith(f"{package}."):
                inner = name.removeprefix(f"{package}.").split(".")
                places.append(self.outside.joinpath(folder, *inner))
        files = (file for place in places for file in (place / "__init__.py", _file(place)))
        return next((file for file in files if file.is_file()), None)


def stamps(library: Path = LIBRARY) -> dict[str, Stamp]:
    """Each source file of the package, and of the directory with members from outside: when it was
    last written, in ns, and its size in bytes."""
    outside = registry.outside()
    folders = [library / PACKAGE, *(outside / name for name in OUTSIDE if outside)]
    found = {}
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        if path.name.startswith("."):  # an editor's own: Emacs locks a file with a dangling link
            continue
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed
            stat = path.stat()
            found[str(path)] = (stat.st_mtime_ns, stat.st_size)
    return found


def _counts(module: str) -> bool:
    """Whether a module is in a folder of those that make numbers."""
    package, _, rest = module.partition(".")
    return package == PACKAGE and rest.partition(".")[0] in COUNTED


def _file(place: Path) -> Path:
    return place.with_name(f"{place.name}.py")


def _module(member: str) -> str:
    return member.replace("-", "_")


def _own(entry: str) -> str:
    return entry.partition("-")[0]


def _unmatched(
    one: Mapping[str, str], other: Mapping[str, str], key: Callable[[str], str]
) -> list[str]:
    """Names in either whose entry, seen through ``key``, is no entry of the other."""
    found: set[str] = set()
    for here, there in ((one, other), (other, one)):
        known = {key(entry) for entry in there.values()}
        found.update(name for name, entry in here.items() if key(entry) not in known)
    return sorted(found)
