"""Slurm, through submitit: one array job, each of whose tasks is an agent.

An agent is warned some time before its time limit. It stops its runs at a checkpoint, gives up
their leases and has Slurm put it into the queue again, which submitit does not do for a command.
What is running is asked of ``squeue``: a cluster without accounting has no ``sacct``.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from adamwprune.base.errors import UserError
from adamwprune.base.wording import last_line
from adamwprune.scheduler import agent
from adamwprune.scheduler.spool import Spool

WARNING = 60  # seconds before the time limit
PATIENCE = 10.0  # seconds for a command of Slurm's


@dataclass
class Slurm:
    """The cluster whose commands are installed here."""

    partition: str = ""
    minutes: int = 240  # its time limit; then it is put into the queue again
    cpus: int = 1  # of each agent
    gpus: int = 0
    memory: str = ""  # 8G; empty: the partition's own
    account: str = ""
    more: str = ""  # words for sbatch

    run: Callable[[str], str] = agent.serve  # what a task does with the shared directory

    name = "slurm"
    outlives = True

    @cached_property
    def cluster(self) -> str:
        """The cluster's own name; :class:`UserError` where there is none."""
        if shutil.which("sbatch") is None:
            raise UserError("EXECUTOR=slurm: there is no sbatch here; make it on a login node")
        _submitit()  # nothing is handed over that could not be submitted
        try:
            told = _asked("scontrol", "show", "config")
        except _Failed as error:
            raise UserError(f"EXECUTOR=slurm: the cluster does not answer: {error}") from None
        for line in told.splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "ClusterName":
                return value.strip()
        return "slurm"

    def submit(self, spool: Spool, agents: int) -> str:
        """Submit one array job; its id."""
        submitit = _submitit()
        executor = submitit.SlurmExecutor(folder=spool.logs, python=shlex.quote(sys.executable))
        executor.update_parameters(**self._parameters(agents))
        try:
            jobs = executor.map_array(Task(self.run), [str(spool.root.absolute())] * agents)
        except (submitit.core.utils.FailedJobError, OSError, subprocess.SubprocessError) as error:
            words = [line for line in str(error).splitlines() if "error:" in line]
            told = (words or [str(error)])[-1].rpartition("error: ")[2]
            raise UserError(f"EXECUTOR=slurm: sbatch: {told}") from None
        return str(jobs[0].job_id).partition("_")[0]

    def _parameters(self, agents: int) -> dict[str, Any]:
        more = dict(_option(word) for word in shlex.split(self.more))
        passed = agent.environment().items()
        setup = [f"export {name}={shlex.quote(value)}" for name, value in passed]
        found: dict[str, Any] = {
            "job_name": "adamwprune",
            "time": self.minutes,
            "cpus_per_task": self.cpus,
            "signal_delay_s": WARNING,
            "array_parallelism": agents,
            "stderr_to_stdout": True,
            "setup": [*setup, "unset MAKELEVEL"],
            "additional_parameters": {"requeue": True, **more},
        }
        chosen = {
            "partition": self.partition,
            "gpus_per_node": self.gpus,
            "mem": self.memory,
            "account": self.account,
        }
        return {**found, **{name: value for name, value in chosen.items() if value}}

    def alive(self, ids: Sequence[str]) -> int | None:
        """How many tasks run or wait."""
        try:
            told = _asked("squeue", "--noheader", "--array", "--jobs", ",".join(ids), "-o", "%T")
        except _Failed as error:
            # A job that ended some time ago is not known any more.
            return 0 if "Invalid job id" in str(error) else None
        return sum(bool(line.strip()) for line in told.splitlines())

    def cancel(self, ids: Sequence[str]) -> None:
        """Take what waits out of the queue, and have what runs end at a checkpoint."""
        try:
            _asked("scancel", *ids)
        except _Failed as error:
            raise UserError(f"scancel {' '.join(ids)}: {error}") from None


@dataclass(frozen=True)
class Task:
    """What a task of the array runs: an agent, again after its time limit."""

    run: Callable[[str], str]

    def __call__(self, root: str) -> str:
        outcome = self.run(root)
        if outcome == "limit":
            subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)
        return outcome


class _Failed(Exception):
    """A command of Slurm's failed, and said this."""


def _asked(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _Failed(str(error)) from None
    if done.returncode:
        raise _Failed(last_line(done.stderr) or f"exit status {done.returncode}")
    return done.stdout


def _option(word: str) -> tuple[str, Any]:
    """``--qos=low`` as submitit takes it."""
    name, equals, value = word.removeprefix("--").partition("=")
    return name, value if equals else True


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise UserError(
            "EXECUTOR=slurm needs submitit: pip install 'adamwprune[slurm]', or submitit"
        ) from None
    return submitit
