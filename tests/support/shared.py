"""A file system that several hosts share as NFS lets them: what they look up may be old."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from adamwprune.base.shared_files import SharedFiles

STALE = 30.0  # seconds that a client may take what it knows of a directory for true


class Killed(BaseException):
    """The client's process is no more."""


class Server:
    """Directories by path, each with its files' contents (None: a directory), and the time."""

    def __init__(self) -> None:
        self.folders: dict[Path, dict[str, bytes | None]] = {Path("/"): {}}
        self.time = 0.0

    def make(self, folder: Path) -> None:
        if folder not in self.folders:
            self.make(folder.parent)
            self.folders[folder] = {}
            self.folders[folder.parent][folder.name] = None

    def write(self, path: Path, content: bytes) -> None:
        if path.parent not in self.folders:
            raise FileNotFoundError(path)
        self.folders[path.parent][path.name] = content

    def rename(self, old: Path, new: Path) -> bool:
        source, target = self.folders.get(old.parent, {}), self.folders.get(new.parent)
        if old.name not in source or target is None:
            return False
        if source[old.name] is None:
            if self.folders.get(new):  # a directory that is not empty
                return False
            for folder in [each for each in self.folders if each.is_relative_to(old)]:
                self.folders[new / folder.relative_to(old)] = self.folders.pop(folder)
        target[new.name] = source.pop(old.name)
        return True

    def remove(self, folder: Path) -> None:
        for each in [each for each in self.folders if each.is_relative_to(folder)]:
            del self.folders[each]
        self.folders.get(folder.parent, {}).pop(folder.name, None)


class Client(SharedFiles):
    """One host's view. ``pause`` is called before each operation; it may block, or raise
    :class:`Killed`. ``is_stale`` decides whether something old is seen, where it may be.
    """

    def __init__(
        self,
        server: Server,
        pause: Callable[[], None] = lambda: None,
        is_stale: Callable[[], bool] = lambda: True,
    ) -> None:
        self.server, self.pause, self.is_stale = server, pause, is_stale
        self._known: dict[Path, tuple[float, dict[str, bytes | None]]] = {}

    def _view(self, folder: Path) -> dict[str, bytes | None]:
        self.pause()
        at, names = self._known.get(folder, (-STALE - 1, {}))
        if self.server.time - at <= STALE and self.is_stale():
            return names
        return self._look(folder)

    def _look(self, folder: Path) -> dict[str, bytes | None]:
        found = dict(self.server.folders.get(folder, {}))
        self._known[folder] = self.server.time, found
        return found

    def names(self, folder: Path) -> list[str]:
        return list(self._view(folder))

    def read(self, path: Path) -> bytes | None:
        return self._view(path.parent).get(path.name)

    def write(self, path: Path, content: bytes) -> None:
        self.pause()
        self.server.write(path, content)
        self._look(path.parent)

    def make(self, folder: Path) -> None:
        self.pause()
        self.server.make(folder)
        self._look(folder.parent)

    def rename(self, old: Path, new: Path) -> bool:
        self.pause()
        done = self.server.rename(old, new)
        self._look(old.parent)
        self._look(new.parent)
        return done

    def remove(self, folder: Path) -> None:
        self.pause()
        self.server.remove(folder)
        self._look(folder.parent)

    def refresh(self, folder: Path) -> None:
        self.pause()
        self._look(folder)


class Stepped:
    """A program in a thread that does one operation at a time, when it is told to."""

    def __init__(self, program: Callable[[Callable[[], None]], None]) -> None:
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self.ended = self.killed = False
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=[program], daemon=True)
        self._thread.start()
        self._paused.acquire()

    def _run(self, program: Callable[[Callable[[], None]], None]) -> None:
        try:
            program(self._pause)
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001  the test's thread raises it
            self.error = error
        self.ended = True
        self._paused.release()

    def _pause(self) -> None:
        self._paused.release()
        self._go.acquire()
        if self.killed:
            raise Killed

    def step(self) -> None:
        """Let it do its next operation."""
        if not self.ended:
            self._go.release()
            self._paused.acquire()
        if self.error is not None:
            raise self.error

    def kill(self) -> None:
        """Have it do nothing more."""
        self.killed = True
        while not self.ended:
            self._go.release()
            self._paused.acquire()
