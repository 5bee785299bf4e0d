"""Ray: one task an agent, all of them of one driver, which is this process.

A task that dies with its node or its worker is started again elsewhere by Ray. The agent is a
process of its own, which stops at a checkpoint when the task's process or the driver is gone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from adamwprune.base.errors import UserError
from adamwprune.base.shared_files import unique
from adamwprune.scheduler import agent
from adamwprune.scheduler.spool import Spool

# A shell in between: when the driver is gone Ray kills (SIGKILL) a task's children, and no others.
# The agent ends by itself, at a checkpoint, when its standard input does.
_NO_CHILD = 'exec 3<&0; "$@" <&3 3<&- & wait $!'


@dataclass
class Ray:
    """The cluster at an address."""

    address: str = "auto"
    cpus: int = 1  # of each agent
    gpus: float = 0.0  # a fraction shares a GPU with other agents
    memory: int = 0  # bytes; 0: as they come

    module: str = "adamwprune.scheduler.agent"  # what a task runs
    tasks: dict[str, Any] = field(default_factory=dict)  # id -> what Ray knows a task by

    name = "ray"
    outlives = False

    @cached_property
    def _ray(self) -> Any:
        """Ray, connected."""
        try:
            import ray
        except ImportError:
            raise UserError(
                "EXECUTOR=ray needs ray: pip install 'adamwprune[ray]', or ray"
            ) from None
        if ray.is_initialized():
            return ray
        self._check_address()
        for name in ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "RAY_USAGE_STATS_ENABLED"):
            os.environ.setdefault(name, "0")  # Ray advertises itself on standard error
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            words = " ".join(str(error).split()).partition(". ")[0]
            hint = "; it may be host:port" if self.address == "auto" else ""
            told = f"EXECUTOR=ray: RAY_ADDRESS={self.address}: {words[:300]}{hint}"
            raise UserError(told) from None
        return ray

    def _check_address(self) -> None:
        """Ray would try for minutes to reach what is not there."""
        host, colon, port = self.address.rpartition(":")
        if colon and port.isdecimal():
            try:
                socket.create_connection((host.rpartition("/")[2], int(port)), 5).close()
            except OSError as error:
                raise UserError(
                    f"EXECUTOR=ray: RAY_ADDRESS={self.address}: {error.strerror or error}"
                ) from None

    @property
    def cluster(self) -> str:
        """The cluster's address; :class:`UserError` where none is there."""
        return str(self._ray.get_runtime_context().gcs_address)

    def submit(self, spool: Spool, agents: int) -> str:
        """Start the tasks; what they are known by."""
        ray, ident = self._ray, unique()[:8]
        self._check_room(agents)
        remote = ray.remote(task).options(
            num_cpus=self.cpus,
            num_gpus=self.gpus or None,
            memory=self.memory or None,
            max_retries=-1,
            name=f"adamwprune-{ident}",
            runtime_env={"env_vars": agent.environment()},
        )
        root = str(spool.root.absolute())
        self.tasks[ident] = [remote.remote(root, self.module) for _ in range(agents)]
        return ident

    def _check_room(self, agents: int) -> None:
        """Ray would wait for ever for what no node has."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}
        for node in nodes:
            if all(node.get(name, 0) >= amount for name, amount in wanted.items()):
                return
        told = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items() if amount)
        raise UserError(f"EXECUTOR=ray: no node of {self.cluster} has {told} for an agent")

    def alive(self, ids: Sequence[str]) -> int | None:
        """How many tasks have not ended; those of another driver have ended with it."""
        waiting = [task for ident in ids for task in self.tasks.get(ident, [])]
        if not waiting:
            return 0
        try:
            _, left = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        except Exception:  # noqa: BLE001  Ray raises whatever it trips over
            return None
        return len(left)

    def cancel(self, ids: Sequence[str]) -> None:
        """End the tasks; their agents stop at a checkpoint."""
        for each in (task for ident in ids for task in self.tasks.get(ident, [])):
            with contextlib.suppress(Exception):
                self._ray.cancel(each, force=True)


def task(root: str, module: str) -> int:
    """What a task runs: an agent in a process of its own, while this one lives."""
    log = Path(root) / ".cluster" / "logs" / f"{os.uname().nodename}-{os.getpid()}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as stream:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _NO_CHILD, "sh", sys.executable, "-m", module, root, "--until-eof"],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return process.wait()
