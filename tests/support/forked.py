"""Modules that run in processes forked from one that has torch: a start takes milliseconds.

For tests in which it is not the start that is tested. A forked worker is a child of the test's
process like any other: it has a number, pipes and a session of its own, and it is killed as others
are. What it shares is the import of torch, which takes most of a start.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

CHILD_SUBREAPER = 36  # prctl: orphaned processes below this one become its children
# Read once, when Python starts or torch is imported.
ONCE = ("PYTHONPATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

# -- in the process that has torch -----------------------------------------------------


def serve(channel: socket.socket) -> None:
    """Fork a worker for each request, until there is nobody to ask for one."""
    import torch.utils.flop_counter  # noqa: F401  the package that is tested is imported later

    while True:
        request, pipes, _, _ = socket.recv_fds(channel, 1 << 20, 3)
        if not request:
            return
        reading, writing = os.pipe()
        between = os.fork()
        if not between:  # its end makes the worker an orphan, and so the test's own child
            worker = os.fork()
            if not worker:
                become(json.loads(request), pipes)
            os.write(writing, str(worker).encode())
            os._exit(0)
        os.waitpid(between, 0)
        channel.send(os.read(reading, 20))
        for number in (reading, writing, *pipes):
            os.close(number)


def become(request: Mapping[str, Any], pipes: Sequence[int]) -> None:
    """Go on as a process that was started with these words, environment and pipes."""
    status = 1
    try:
        os.setsid()
        for number, pipe in enumerate(pipes):
            os.dup2(pipe, number)
        os.closerange(3, 1024)
        Path("/proc/self/comm").write_text(request["module"].removeprefix("adamwprune."))
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        if not os.environ.get("PYTHONSAFEPATH"):
            sys.path.insert(0, request["folder"])
        sys.argv[1:] = request["words"]
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        status = 0
    except BaseException:  # noqa: BLE001  this process ends here, whatever it was
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


# -- in the test's ---------------------------------------------------------------------


class Server:
    """A process that has torch, by the environment in which it imported it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def fork(
        self, words: Sequence[str], environment: Mapping[str, str], folder: str, pipes: list[int]
    ) -> int:
        """The number of a new process, a child of this one; ``words``: a module and its own."""
        module, *words = words
        given = {"module": module, "words": words, "folder": folder}
        given["environment"] = dict(environment)
        prctl = ctypes.CDLL(None).prctl
        prctl(CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            socket.send_fds(self.channel, [json.dumps(given).encode()], pipes)
            return int(self.channel.recv(20))
        finally:
            prctl(CHILD_SUBREAPER, 0, 0, 0, 0)

    def close(self) -> None:
        """End the process."""
        self.channel.close()
        self.process.wait(60)


class Subprocess:
    """In place of the module for what starts processes: those of ``python -m`` are forked."""

    PIPE, TimeoutExpired = subprocess.PIPE, subprocess.TimeoutExpired

    def __init__(self) -> None:
        self.servers: dict[tuple[str, ...], Server] = {}
        self.path = ""  # PYTHONPATH of what is forked

    def Popen(self, words: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """A process; one with code of a test's own is really started."""
        environment = options["env"]
        if environment["PYTHONPATH"] != self.path:
            return subprocess.Popen(words, **options)
        key = tuple(environment.get(name, "") for name in ONCE)
        if key not in self.servers:
            self.servers[key] = Server(environment)
        return _Forked(self.servers[key], words, **options)


class _Forked(subprocess.Popen):  # type: ignore[type-arg]
    def __init__(self, server: Server, words: Sequence[str], **options: Any) -> None:
        self.server = server
        super().__init__(words, **options)

    def _execute_child(self, words: Sequence[str], *given: Any) -> None:
        """In place of fork and exec; ``given``: from ``executable`` on."""
        folder, environment = given[4] or Path.cwd(), given[5]
        ends = ((given[9], given[10]), (given[12], given[11]), (given[14], given[13]))
        pipes = [theirs for theirs, _ in ends]
        self.pid = self.server.fork(words[2:], environment, str(folder), pipes)
        self._child_created = True
        for theirs, ours in ends:
            if ours != -1:  # a pipe, and not a file of the caller's
                os.close(theirs)


@pytest.fixture(scope="session")
def forking() -> Iterator[Subprocess]:
    """The processes that have torch, each started when it is first needed."""
    made = Subprocess()
    yield made
    for server in made.servers.values():
        server.close()


@pytest.fixture(scope="module")
def forked_workers(forking: Subprocess) -> Iterator[None]:
    """Workers that are started in this process are forked ones."""
    from adamwprune.base import subprocesses
    from adamwprune.records.code import LIBRARY
    from adamwprune.scheduler.executors import local

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forking, "path", subprocesses.environment(LIBRARY)["PYTHONPATH"])
        patch.setattr(local, "subprocess", forking)
        yield


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
