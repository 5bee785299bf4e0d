"""A command as a user would start it: its seconds, its lines and when they came, its memory."""

import os
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from adamwprune.base.errors import UserError
from adamwprune.config.tree import SOURCE_TREE

SAMPLED = 0.1  # seconds between looks at the resident sets
APPORTIONED = 10  # looks between those at the shared pages, which cost the kernel milliseconds
_OF_MAKE = ("MAKEFLAGS", "MFLAGS", "GNUMAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MAKEFILES")
# As this process was started: what it sets for itself later is none of its children's.
_ENVIRONMENT = dict(os.environ)
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Finished:
    """A command that has ended well. Memory in bytes, at its peak, of the command and all that it
    started: ``rss`` counts a page once a process that has it, ``pss`` once (sampled once a second).
    """

    seconds: float
    lines: tuple[tuple[float, str], ...]  # seconds since the start, and a line of either output
    rss: int
    pss: int

    def when(self, words: str) -> float:
        """Seconds until the first line with these ``words``; :class:`UserError` without one."""
        for seconds, line in self.lines:
            if words in line:
                return seconds
        raise UserError(f"no line of the command's output has {words!r}")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The one this process was started with, without what make left in it, with the package."""
    kept = {name: value for name, value in _ENVIRONMENT.items() if name not in _OF_MAKE}
    paths = [str(SOURCE_TREE / "lib"), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), **(extra or {})}


def run(
    command: Sequence[str], cwd: Path = SOURCE_TREE, extra: Mapping[str, str] | None = None
) -> Finished:
    """Run ``command`` to its end; :class:`UserError` with the end of its output if it fails."""
    start = time.perf_counter()
    lines = []
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        with _Memory(process.pid) as memory:
            for line in process.stdout:
                lines.append((time.perf_counter() - start, line.rstrip("\n")))
            status = process.wait()
    seconds = time.perf_counter() - start
    if status:
        tail = "\n".join(line for _, line in lines[-20:])
        raise UserError(f"{' '.join(command)[:200]}: exit status {status}\n{tail}")
    return Finished(seconds, tuple(lines), memory.rss, memory.pss)


class _Memory:
    """Looks on from a thread while a process and its descendants live."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.rss = self.pss = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        looks = 0
        while not self._ended.wait(SAMPLED):
            family = descendants(self.pid)
            self.rss = max(self.rss, sum(map(_resident, family)))
            if looks % APPORTIONED == 0:
                self.pss = max(self.pss, sum(map(_apportioned, family)))
            looks += 1


def descendants(pid: int) -> set[int]:
    """A process and all that it started, and they."""
    parents = dict(_parents())
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _parents() -> Iterable[tuple[int, int]]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            # The name, in brackets, may hold anything; after it: state, parent.
            fields = _read(path / "stat").rpartition(")")[2].split()
            if len(fields) > 1:
                yield int(path.name), int(fields[1])


def _resident(pid: int) -> int:
    fields = _read(Path(f"/proc/{pid}/statm")).split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def _apportioned(pid: int) -> int:
    for line in _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended meanwhile
        return ""
