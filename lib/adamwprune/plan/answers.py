"""What planning asks a process that imports torch, kept in the user's cache.

Planning itself never imports torch. What only a model or a data set can say is answered by another
process (:mod:`adamwprune.train.answering`), from a run's values, and remembered: by the source of
the members that decide it, and by the values that were read on the way.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adamwprune.base import registry, subprocesses
from adamwprune.base.errors import UserError
from adamwprune.base.files import user_cache, write_text

KEPT = 200  # entries of a cache

Answer = dict[str, Any]  # "read": values by name, and what is answered beside them


class Answers:
    """Answers to one question, ``about`` what, that has a run's values.

    ``folders``: the families' folders whose source decides it. ``holds``: whether a remembered
    answer still does. ``asks``: the module that answers, as a process.
    """

    def __init__(
        self,
        about: str,
        folders: tuple[str, ...],
        holds: Callable[[Answer], bool] = lambda answer: True,
        asks: str = "adamwprune.train.answering",
    ) -> None:
        self.about, self.folders, self.holds, self.asks = about, folders, holds, asks
        self._entries: list[Answer] = []  # the newest first

    def of(self, values: Mapping[str, Any]) -> Answer:
        """The answer for a run; :class:`UserError` with the reason where there is none."""
        known = self.known(values)
        if known is not None:
            return known
        code = _source_digest(registry.outside(), self.folders)
        entry = {"code": code, **self._asked(values)}
        self._entries[:] = [entry, *(each for each in self._entries if each != entry)][:KEPT]
        with contextlib.suppress(OSError):  # a cache saves time, and no more
            write_text(self._path(), json.dumps(self._entries), durable=False)
        return entry

    def known(self, values: Mapping[str, Any]) -> Answer | None:
        """The remembered answer for a run, if there is one."""
        code = _source_digest(registry.outside(), self.folders)
        for entry in self._known():
            same = all(values.get(name, ...) == value for name, value in entry["read"].items())
            if entry["code"] == code and same and self.holds(entry):
                return entry
        return None

    def _asked(self, values: Mapping[str, Any]) -> Answer:
        if not _process(registry.outside(), self.asks).is_alive:
            _process.cache_clear()
        process = _process(registry.outside(), self.asks)
        return process.ask({"about": self.about, "values": dict(values)})

    def _path(self) -> Path:
        return user_cache() / f"{self.about}.json"

    def _known(self) -> list[Answer]:
        """What is cached; nothing of a file that is not there or is damaged."""
        if not self._entries:
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                self._entries = [
                    {**each, "code": each["code"], "read": dict(each["read"])}
                    for each in json.loads(self._path().read_bytes())
                ]
        return self._entries


class _Process:
    """One process for all questions of this one: it ends when its stdin does, with its asker."""

    def __init__(self, module: str) -> None:
        self._busy = threading.Lock()  # a menu counts runs in a thread of its own
        self._child = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=subprocesses.environment(registry.PACKAGE.parent),
            start_new_session=True,  # Ctrl-C is for the asker
        )

    @property
    def is_alive(self) -> bool:
        """Whether it still answers: it ends when nothing was asked for a while."""
        return self._child.poll() is None

    def ask(self, question: Mapping[str, Any]) -> Answer:
        """The answer; :class:`UserError` with what the other process says in its place."""
        to, by = self._child.stdin, self._child.stdout
        assert to is not None
        assert by is not None
        line = ""
        with self._busy, contextlib.suppress(OSError):  # where it has ended, no line comes
            to.write(json.dumps(question) + "\n")
            to.flush()
            line = by.readline()
        if not line:
            raise UserError(f"the process that answers ended with {self._child.wait()}")
        answer: Answer = json.loads(line)
        if "error" in answer:
            raise UserError(answer["error"])
        return answer


@functools.lru_cache(maxsize=2)
def _process(members: Path | None, module: str) -> _Process:
    """That of these members from outside: another directory's modules have the same names."""
    return _Process(module)


@functools.cache
def _source_digest(members: Path | None, names: tuple[str, ...]) -> str:
    """Over the source of the families' folders, here and outside."""
    digest = hashlib.sha256()
    folders = [registry.PACKAGE, *([members] if members else [])]
    files = (folder.joinpath(name).rglob("*.py") for folder in folders for name in names)
    for path in sorted(itertools.chain.from_iterable(files)):
        digest.update(f"{path.name} ".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
