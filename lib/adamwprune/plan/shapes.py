"""Shapes of the weights that pruning may touch, known to planning without torch.

They are the model's own (:mod:`adamwprune.train.shapes`), computed in a process of its own that
imports torch, and kept in the user's cache: by the source of all models and datasets, and by the
values of the run that were read on the way.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from adamwprune.base import registry, subprocesses
from adamwprune.base.errors import UserError
from adamwprune.base.files import write_text
from adamwprune.base.wording import last_line
from adamwprune.plan.spec import RunSpec

SOURCES = ("models", "datasets", "pruning")  # folders that decide the shapes
KEPT = 200  # entries of the cache

Shape = tuple[int, ...]


def prunable_shapes(spec: RunSpec) -> list[Shape]:
    """Of the run's model on the run's data, in the order of its layers.

    Raises :class:`UserError` where the model cannot be built.
    """
    code, settings = _source_digest(registry.outside()), spec.settings
    for entry in _entries():
        same = all(settings.get(name, ...) == value for name, value in entry["read"].items())
        if entry["code"] == code and same:
            return [tuple(shape) for shape in entry["shapes"]]
    entry = {"code": code, **_computed(spec)}
    _ENTRIES[:] = [entry, *_entries()][:KEPT]
    with contextlib.suppress(OSError):  # a cache saves time, and no more
        write_text(_path(), json.dumps(_ENTRIES), durable=False)
    return [tuple(shape) for shape in entry["shapes"]]


def _computed(spec: RunSpec) -> dict[str, Any]:
    """By :mod:`adamwprune.train.shapes` in another process."""
    done = subprocess.run(
        [sys.executable, "-m", "adamwprune.train.shapes"],
        input=json.dumps(dict(spec.settings)),
        capture_output=True,
        text=True,
        check=False,
        env=subprocesses.environment(registry.PACKAGE.parent),
    )
    if done.returncode:
        reason = last_line(done.stderr) or "no reason given"
        raise UserError(f"the weights of {spec['MODEL']} cannot be counted: {reason}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@functools.cache
def _source_digest(members: Path | None) -> str:
    """Over the source of all models and datasets, and of what chooses the weights to prune."""
    digest = hashlib.sha256()
    folders = [registry.PACKAGE, *([members] if members else [])]
    files = (folder.joinpath(name).rglob("*.py") for folder in folders for name in SOURCES)
    for path in sorted(itertools.chain.from_iterable(files)):
        digest.update(f"{path.name} ".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _path() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "adamwprune" / "shapes.json"


_ENTRIES: list[dict[str, Any]] = []  # of this process, the newest first


def _entries() -> list[dict[str, Any]]:
    """What is cached; nothing of a file that is not there or is damaged."""
    if not _ENTRIES:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            _ENTRIES.extend(
                {"code": each["code"], "read": dict(each["read"]), "shapes": list(each["shapes"])}
                for each in json.loads(_path().read_bytes())
            )
    return _ENTRIES
