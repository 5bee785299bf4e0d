"""The runs that a cluster is to train, in the shared directory of results, and who is at it::

    .cluster/settings.json     how they are to be trained, and where they were submitted
    .cluster/engine.json       the engine that brings agents to its nodes, and its jobs
    .cluster/jobs/RUN.json     one run that is left to train; removed once it has its record
    .cluster/agents/NAME.json  what an agent is and does (:mod:`adamwprune.scheduler.agent`)
    .cluster/stop              somebody wants the runs stopped
    .cluster/logs/             what the engine and its agents print

Whoever submitted the runs may go away: agents need nothing but this directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from adamwprune.base.errors import UserError
from adamwprune.base.files import read_own, refusing, write_text
from adamwprune.plan.job import Job
from adamwprune.records import lease

FOLDER = lease.CLUSTER
CHECKED = ("torch", "numpy")  # packages whose versions may change a run's bits


@dataclass(frozen=True)
class Settings:
    """How the runs of a directory are trained, wherever that is."""

    runs: int = 1  # of the matrix
    device: str = "auto"
    jobs: int = 0  # at a time, on each device; 0 chooses
    threads: int = 0  # of each rank; 0 chooses
    ranks: int = 1  # of each run
    cores: int = 0  # that an agent has; 0: those of its node
    gpu_share: float = 1.0  # of each GPU's memory
    retries: int = 1
    share_gpus: bool = True
    lease_seconds: float = lease.DURATION
    versions: Mapping[str, str] = field(default_factory=dict)  # where the runs were submitted


class Spool:
    """The runs that are left to train below ``root``, a directory that all nodes share."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / FOLDER
        self.jobs_folder, self.agents_folder = self.folder / "jobs", self.folder / "agents"
        self.logs = self.folder / "logs"

    # -- the runs that are left ------------------------------------------------------

    def add(self, job: Job, code: str) -> None:
        """Have agents train a run; ``code``: the digest of what makes its numbers here."""
        text = json.dumps({"code": code, "job": job.to_json()})
        write_text(self.jobs_folder / f"{job.spec.run_id}.json", text, durable=False)

    def left(self) -> list[str]:
        """The ids of the runs that are left, in the order of their names."""
        with contextlib.suppress(FileNotFoundError):
            names = os.listdir(self.jobs_folder)  # noqa: PTH208  there may be ten thousand
            return sorted(name[:-5] for name in names if name.endswith(".json") and name[0] != ".")
        return []

    def job(self, run_id: str) -> tuple[Job, str] | None:
        """What is to be done, and the digest of its code where it was submitted; None where that
        has been done.
        """
        path = f"{self.jobs_folder}/{run_id}.json"
        if not os.path.exists(path):  # noqa: PTH110  each agent looks for all that others have done
            return None
        plain = _read(Path(path))
        return (Job.from_json(plain["job"]), str(plain["code"])) if plain else None

    def done(self, run_id: str) -> None:
        """A run needs no training any more."""
        (self.jobs_folder / f"{run_id}.json").unlink(missing_ok=True)

    # -- how, and by whom --------------------------------------------------------------

    def write_settings(self, settings: Settings) -> None:
        """Say how runs are to be trained from now on."""
        write_text(self.folder / "settings.json", json.dumps(vars(settings)))

    @cached_property
    def settings(self) -> Settings:
        """How runs are to be trained; :class:`UserError` where nobody has said so."""
        plain = _read(self.folder / "settings.json")
        if not plain:
            raise UserError(
                f"{self.folder}: is not there; the directory of results must be the same on all "
                "nodes (RESULTS_DIR on a shared file system)"
            )
        return Settings(**plain)

    @property
    def engine(self) -> Mapping[str, Any]:
        """The engine that the runs were submitted to, as it noted itself; empty without one."""
        return _read(self.folder / "engine.json")

    def write_engine(self, noted: Mapping[str, Any]) -> None:
        """Note the engine, for other shells and hosts."""
        write_text(self.folder / "engine.json", json.dumps(noted))

    def agents(self) -> Iterator[Mapping[str, Any]]:
        """What each agent last said of itself."""
        for path in sorted(self.agents_folder.glob("[!.]*.json")):
            told = _read(path)
            if told:
                yield told

    def write_agent(self, name: str, told: Mapping[str, Any]) -> None:
        """Say what an agent is and does."""
        write_text(self.agents_folder / f"{name}.json", json.dumps(told), durable=False)

    # -- the end -------------------------------------------------------------------------

    @property
    def is_stopping(self) -> bool:
        """Whether somebody wants the runs stopped."""
        return (self.folder / "stop").exists()

    def stop(self) -> None:
        """Have agents stop their runs at a checkpoint, and end."""
        with refusing(f"cannot write to {self.folder}"):
            write_text(self.folder / "stop", "")

    def refuse_if_live(self) -> None:
        """Raise :class:`UserError` where agents train here."""
        for agent in self.agents():
            runs = [str(run) for run in agent.get("runs", [])]
            if any(lease.live_holder(self.root / run) for run in runs):
                engine = self.engine
                raise UserError(
                    f"{self.root}: {engine.get('engine')} cluster {engine.get('cluster')} is "
                    "training into it; make stop ends that, or take another RESULTS_DIR"
                )

    def begin(self, *, anew: bool) -> None:
        """Forget that runs were to be stopped and, ``anew``, the agents of before; the runs that
        are left stay.
        """
        with refusing(f"cannot write to {self.folder}"):
            (self.folder / "stop").unlink(missing_ok=True)
            if anew:
                shutil.rmtree(self.agents_folder, ignore_errors=True)
            for folder in (self.jobs_folder, self.agents_folder, self.logs):
                folder.mkdir(parents=True, exist_ok=True)


def versions() -> dict[str, str]:
    """What a run's bits depend on beside its code, found without importing it."""
    from importlib import metadata  # of use to a cluster alone

    found = {"python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
    for name in CHECKED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """``torch 2.9.0 here, 2.9.1 where it was submitted``; empty where there are none."""
    names = [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)]
    told = (f"{n} {here.get(n, 'none')} here, {there.get(n, 'none')} there" for n in names)
    return "; ".join(told)


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is none."""
    try:
        found = json.loads(read_own(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
