"""What planning asks a process that imports torch, kept in the user's cache.

Planning itself never imports torch. What only a model or a data set can say is computed by a module
of the package in another process, from a run's values, and remembered: by the source of the members
that decide it, and by the values that were read on the way.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adamwprune.base import registry, subprocesses
from adamwprune.base.errors import UserError
from adamwprune.base.files import user_cache, write_text
from adamwprune.base.wording import last_line

KEPT = 200  # entries of a cache

Answer = dict[str, Any]  # "read": values by name, and what the module says beside them


class Answers:
    """Answers of ``module``, run as ``python -m`` with a run's values as JSON on its stdin.

    It prints a JSON object with the values that it ``read`` and its answer. ``folders``: the
    families' folders whose source decides it. ``holds``: whether a remembered answer still does.
    """

    def __init__(
        self,
        module: str,
        folders: tuple[str, ...],
        holds: Callable[[Answer], bool] = lambda answer: True,
    ) -> None:
        self.module, self.folders, self.holds = module, folders, holds
        self._entries: list[Answer] = []  # the newest first

    def of(self, values: Mapping[str, Any]) -> Answer:
        """The answer for a run; :class:`UserError` with the reason where there is none."""
        code = _source_digest(registry.outside(), self.folders)
        for entry in self._known():
            same = all(values.get(name, ...) == value for name, value in entry["read"].items())
            if entry["code"] == code and same and self.holds(entry):
                return entry
        entry = {"code": code, **self._asked(values)}
        self._entries[:] = [entry, *(each for each in self._entries if each != entry)][:KEPT]
        with contextlib.suppress(OSError):  # a cache saves time, and no more
            write_text(self._path(), json.dumps(self._entries), durable=False)
        return entry

    def _asked(self, values: Mapping[str, Any]) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", self.module],
            input=json.dumps(dict(values)),
            capture_output=True,
            text=True,
            check=False,
            env=subprocesses.environment(registry.PACKAGE.parent),
        )
        if done.returncode:
            raise UserError(last_line(done.stderr) or "no reason given")
        found: Answer = json.loads(done.stdout)
        return found

    def _path(self) -> Path:
        return user_cache() / f"{self.module.rpartition('.')[2]}.json"

    def _known(self) -> list[Answer]:
        """What is cached; nothing of a file that is not there or is damaged."""
        if not self._entries:
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                self._entries = [
                    {**each, "code": each["code"], "read": dict(each["read"])}
                    for each in json.loads(self._path().read_bytes())
                ]
        return self._entries


@functools.cache
def _source_digest(members: Path | None, names: tuple[str, ...]) -> str:
    """Over the source of the families' folders, here and outside."""
    digest = hashlib.sha256()
    folders = [registry.PACKAGE, *([members] if members else [])]
    files = (folder.joinpath(name).rglob("*.py") for folder in folders for name in names)
    for path in sorted(itertools.chain.from_iterable(files)):
        digest.update(f"{path.name} ".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
