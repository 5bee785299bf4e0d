"""Which engine the configuration means, and what agents are told of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from adamwprune.base.errors import UserError
from adamwprune.base.wording import counted
from adamwprune.config.options import Value
from adamwprune.scheduler import devices
from adamwprune.scheduler.cluster import Engine
from adamwprune.scheduler.devices import Agents
from adamwprune.scheduler.executors.ray import Ray
from adamwprune.scheduler.executors.slurm import Slurm
from adamwprune.scheduler.spool import Settings, Spool, versions

_SIZE = re.compile(r"([0-9]+)([KMGT]?)")


def engine(operational: Mapping[str, Value]) -> Engine:
    """The engine that EXECUTOR names, with its options."""
    name, gpus = operational["EXECUTOR"], float(operational["AGENT_GPUS"])
    cpus, memory = int(operational["AGENT_CPUS"]), _chosen(operational, "AGENT_MEMORY").upper()
    if memory and not _SIZE.fullmatch(memory):
        raise UserError(f"AGENT_MEMORY={memory}: is no size like 8G or 500M")
    if name == "slurm":
        if gpus != int(gpus):
            raise UserError(f"AGENT_GPUS={gpus:g}: Slurm gives whole GPUs; runs share one by JOBS=")
        return Slurm(
            partition=_chosen(operational, "SLURM_PARTITION"),
            minutes=int(operational["SLURM_MINUTES"]),
            cpus=cpus,
            gpus=int(gpus),
            memory=memory,
            account=_chosen(operational, "SLURM_ACCOUNT"),
            more=_chosen(operational, "SLURM_OPTIONS"),
        )
    return Ray(str(operational["RAY_ADDRESS"]), cpus, gpus, _bytes(memory))


def cancel(name: str, ids: Sequence[str]) -> None:
    """End agents that another make has brought; those of Ray end as their directory says so."""
    if name == "slurm":
        Slurm().cancel(ids)


def refuse_another(spool: Spool, chosen: Engine) -> None:
    """Raise :class:`UserError` where agents of another cluster wait in its queue to train what is
    left here: they would do so by the settings of this one. Those that train refuse by themselves
    (:meth:`Spool.refuse_if_live`), and Ray's end with their make.
    """
    noted = spool.engine
    if noted.get("engine") != "slurm" or chosen.name == "slurm" or not spool.left():
        return
    waiting = Slurm().alive([str(each) for each in noted.get("ids", [])])
    if waiting:
        raise UserError(
            f"{spool.root}: {counted(waiting, 'agent')} of slurm cluster {noted.get('cluster')} "
            "may still come to train here; make stop ends that, or take another RESULTS_DIR"
        )


def agents(operational: Mapping[str, Value], runs: int) -> Agents:
    """The agents that are brought for so many runs.

    Raises :class:`UserError` where none of them could train one.
    """
    count, cores = int(operational["AGENTS"]), int(operational["AGENT_CPUS"])
    threads, ranks = int(operational["THREADS"]), int(operational["RANKS"])
    gpus = float(operational["AGENT_GPUS"])
    if gpus and ranks > max(1, gpus):
        raise UserError(f"RANKS={ranks}: an agent has AGENT_GPUS={gpus:g}")
    if not gpus and max(1, threads) * ranks > cores:
        raise UserError(f"{devices.asked(threads, ranks)}: an agent has AGENT_CPUS={cores}")
    return Agents(max(1, min(count, runs)), cores, gpus)


def settings(operational: Mapping[str, Value], runs: int) -> Settings:
    """How agents train the runs of a matrix of so many."""
    gpus = float(operational["AGENT_GPUS"])
    return Settings(
        runs=runs,
        device=str(operational["DEVICE"]) if gpus else "cpu",
        jobs=int(operational["JOBS"]),
        threads=int(operational["THREADS"]),
        ranks=int(operational["RANKS"]),
        cores=int(operational["AGENT_CPUS"]),
        gpu_share=min(1.0, gpus) or 1.0,
        retries=int(operational["RETRIES"]),
        share_gpus=bool(operational["SHARE_GPUS"]),
        lease_seconds=float(operational["LEASE_SECONDS"]),
        versions=versions(),
    )


def _chosen(operational: Mapping[str, Value], name: str) -> str:
    """A word of the engine's; empty where the engine's own default is meant."""
    text = str(operational[name])
    return "" if text in ("any", "none") else text


def _bytes(size: str) -> int:
    match = _SIZE.fullmatch(size)
    return int(match[1]) * 1024 ** "_KMGT".index(match[2] or "_") if match else 0
