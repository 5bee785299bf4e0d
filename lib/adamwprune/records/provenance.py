"""Which code a run comes from: the commit, and what was changed since; imports no torch."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adamwprune.base import registry
from adamwprune.base.files import refusing, write_bytes
from adamwprune.base.wording import DUBIOUS

CODE = ("Kconfig", "Makefile", "defconfigs", "lib", "scripts", "train.py")
_DIGEST = re.compile("[0-9a-f]{16}")
MEMBERS = ("Kconfig*", *(registry.folder(each) for each in registry.PACKAGES.values()))
FOLDER = ".provenance"  # of the diffs, below the directory of results

# The user's settings may colour, abbreviate or convert a diff so that it cannot be applied.
_PLAIN = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--binary",
          "--full-index", "--src-prefix=a/", "--dst-prefix=b/")  # fmt: skip
# Set where git itself started this process (a hook): they name its repository, not the tree's.
_OF_GIT = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR",
           "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES")  # fmt: skip


@dataclass(frozen=True)
class Source:
    """The code of a source tree. All None where git does not know the tree."""

    commit: str | None
    dirty: bool | None  # whether the code differs from the commit, files unknown to git included
    diff: str | None  # the first 16 hex digits of the patch's SHA-256; None where it is empty
    patch: bytes = field(default=b"", repr=False)  # from the commit to the code, for git apply

    def record(self) -> dict[str, Any]:
        """What a record holds of it, ready for ``json.dumps``: all but the patch itself."""
        return {"commit": self.commit, "dirty": self.dirty, "diff": self.diff}


def source(tree: Path, code: Sequence[str] = CODE) -> Source:
    """The code of ``tree`` as it is now; reads, and writes nothing, not even git's index."""
    try:
        commit = _git(tree, "rev-parse", "HEAD").decode().strip()
        # Unpacked inside somebody else's repository, the tree has no commit of its own.
        _git(tree, "cat-file", "-e", "HEAD:./Kconfig")
        patch = _patch(tree, code)
    except (OSError, subprocess.CalledProcessError):
        return Source(None, None, None)
    digest = hashlib.sha256(patch).hexdigest()[:16] if patch else None
    return Source(commit, bool(patch), digest, patch)


def record(tree: Path, members: Path | None, root: Path) -> dict[str, Any]:
    """What a record holds of the code of ``tree`` and of the members outside of it.

    Uncommitted changes are stored below the directory of results, ``root``.
    """
    found = source(tree)
    keep_diff(found, root)
    if members is None:
        return found.record()
    theirs = source(members, MEMBERS)
    keep_diff(theirs, root)
    return {**found.record(), "members": theirs.record()}


def note(*trees: Path | None) -> str:
    """What a user should know of trees whose commit is not told; empty where nothing."""
    refused = [tree.resolve() for tree in trees if tree is not None and _is_refused(tree)]
    told = "; ".join(DUBIOUS.format(tree=tree) for tree in refused)
    return f"{told}. Until then records hold no commit" if told else ""


def _is_refused(tree: Path) -> bool:
    try:
        _git(tree, "rev-parse", "HEAD")
    except subprocess.CalledProcessError as error:
        return b"dubious ownership" in error.stderr
    except OSError:
        return False
    return False


def diffs(environment: Mapping[str, Any]) -> list[str]:
    """The digests of the uncommitted changes that a record's ``environment`` names."""
    places = (environment, environment.get("members") or {})
    return [str(place["diff"]) for place in places if place.get("diff")]


def keep_diff(source: Source, root: Path) -> Path | None:
    """Store the patch below the directory of results, once; its path, None where it is empty.

    Raises :class:`~adamwprune.base.errors.UserError` where that cannot be written.
    """
    if source.diff is None:
        return None
    path = root / FOLDER / f"{source.diff}.diff"
    with refusing(f"cannot write {path}"):
        if not path.exists():
            write_bytes(path, source.patch)
    return path


def publish_diffs(digests: Iterable[str], results: Path, published: Path) -> list[str]:
    """Copy these patches from below the directory of results to below that of published records.

    Returns those that are in neither: the code of their runs cannot be had any more. A digest
    comes from a record, which may be anybody's: what is none is in neither. Raises
    :class:`~adamwprune.base.errors.UserError` where nothing can be written.
    """
    lost = []
    for digest in sorted(set(digests)):
        if not _DIGEST.fullmatch(digest):
            lost.append(digest)
            continue
        found, path = (root / FOLDER / f"{digest}.diff" for root in (results, published))
        with refusing(f"cannot write {path}"):
            if found.is_file() and not path.exists():
                write_bytes(path, found.read_bytes())
            if not path.exists():
                lost.append(digest)
    return lost


def _patch(tree: Path, code: Sequence[str]) -> bytes:
    """From the commit to the files that are there, those that git does not know yet included.

    Made in a copy of the index and beside git's objects: the user's own stay as they are.
    """
    index, objects = (
        tree / os.fsdecode(_git(tree, "rev-parse", "--git-path", name).rstrip(b"\n"))
        for name in ("index", "objects")
    )
    listed = _git(tree, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *code)
    # A name that ends in a slash is another repository, which has a history of its own.
    names = [name for name in listed.split(b"\0") if not name.endswith(b"/")]
    with tempfile.TemporaryDirectory() as folder:
        if index.is_file():
            shutil.copyfile(index, Path(folder, "index"))
        aside = {
            "GIT_INDEX_FILE": str(Path(folder, "index")),
            "GIT_OBJECT_DIRECTORY": folder,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(objects.resolve()),
        }
        update = ("update-index", "--add", "--remove", "--replace", "-z", "--stdin")
        _git(tree, *update, text=b"\0".join(names), settings=aside)
        return _git(
            tree, "diff", "--cached", "HEAD", "--relative", *_PLAIN, "--", *code, settings=aside
        )


def _quoted(path: Path) -> str:
    """A path in a list of paths separated by colons, as git reads one."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _git(tree: Path, *words: str, text: bytes = b"", settings: Mapping[str, str] = {}) -> bytes:
    """The output of a git command that succeeds; ``CalledProcessError`` of one that does not."""
    inherited = {name: value for name, value in os.environ.items() if name not in _OF_GIT}
    command = ["git", "--no-optional-locks", "-C", str(tree), *words]
    environment = {**inherited, "LC_ALL": "C", **settings}  # what it says is looked at
    return subprocess.run(
        command, input=text, env=environment, capture_output=True, check=True
    ).stdout
