"""A real Slurm cluster on this machine: a controller and three nodes on loopback, as root."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

NODES = 3
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
CONFIG = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmctldTimeout=10
SlurmdTimeout=6
KillWait=10
MinJobAge=300
ReturnToService=2
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def missing() -> str:
    """Why there can be no cluster here; empty where there can be one."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        packages = "slurmctld slurmd slurm-client munge"
        return f"{', '.join(absent)} is not installed (apt-get install {packages})"
    return "" if os.geteuid() == 0 else "starting Slurm's daemons needs root"


class Cluster:
    """Slurm's daemons, each of which a test may kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "slurm.conf"
        self.munged: subprocess.Popen[bytes] | None = None
        self.controller: subprocess.Popen[bytes] | None = None
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """All daemons; returns once the nodes are idle."""
        ports = free_ports(NODES + 1)
        host = socket.gethostname().partition(".")[0]
        nodes = "\n".join(
            f"NodeName=n{i} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[i]} CPUs=1"
            for i in range(1, NODES + 1)
        )
        self.config.write_text(
            CONFIG.format(host=host, port=ports[0], folder=self.folder, nodes=nodes)
        )
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        words = [f"--{name}={self.folder}/munge.{name[:4]}" for name in ("pid-file", "log-file")]
        words += [f"--key-file={key}", f"--socket={self.folder}/munge.sock", "--force"]
        words += [f"--seed-file={self.folder}/munge.seed", "--foreground"]
        self.munged = self._daemon("munged", *words)
        self.start_controller()
        for i in range(1, NODES + 1):
            self.start_node(f"n{i}")
        self.wait_for(lambda: self.states() == {f"n{i}": "idle" for i in range(1, NODES + 1)})

    def _daemon(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{words[0]}.out").open("ab") as stream:
            return subprocess.Popen(
                words, stdout=stream, stderr=stream, env=self.environment, start_new_session=True
            )

    def start_controller(self) -> None:
        """Slurm's controller."""
        self.controller = self._daemon("slurmctld", "-D", "-f", str(self.config))

    def start_node(self, name: str) -> None:
        """One node's daemon."""
        (self.folder / name).mkdir(exist_ok=True)
        self.nodes[name] = self._daemon("slurmd", "-D", "-N", name, "-f", str(self.config))

    @property
    def environment(self) -> dict[str, str]:
        """In which Slurm's commands find this cluster."""
        return {**os.environ, "SLURM_CONF": str(self.config)}

    def ask(self, *words: str) -> str:
        """What a command of Slurm's prints."""
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=False
        )
        return done.stdout

    def states(self) -> dict[str, str]:
        """Each node's state."""
        told = self.ask("sinfo", "--noheader", "--Node", "-o", "%N %T").split()
        return dict(zip(told[::2], told[1::2], strict=False))

    def steps_on(self, node: str) -> list[int]:
        """The process ids of a node's step daemons, which log where the node's daemon does."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if path.read_bytes().startswith(b"slurmstepd"):
                    opened = [os.readlink(each) for each in (path.parent / "fd").iterdir()]  # noqa: PTH115
                    if f"{self.folder}/{node}.log" in opened:
                        found.append(int(path.parent.name))
        return found

    def kill_node(self, name: str) -> None:
        """kill -9 of a node's daemon and its step daemons; the jobs' own processes live on."""
        steps = self.steps_on(name)
        self.nodes[name].kill()
        self.nodes[name].wait()
        for step in steps:
            with contextlib.suppress(ProcessLookupError):
                os.kill(step, signal.SIGKILL)

    def kill_controller(self) -> None:
        """kill -9 of the controller, once its files know what its jobs do.

        It writes its state up to five seconds late. One that is killed before takes jobs that run
        for jobs that wait, starts them twice, and drains the nodes for it: Slurm's fault, not ours.
        """
        assert self.controller is not None
        before, jobs = self._saved(), self.ask("squeue", "--noheader", "-o", "%A").split()
        assert jobs, "no job is there"
        for job in jobs:
            self.ask("scontrol", "update", f"jobid={job}", "comment=changed")
        self.wait_for(lambda: self._saved() not in (None, before))
        self.controller.kill()
        self.controller.wait()

    def _saved(self) -> int | None:
        """When the controller last wrote its jobs down, in ns; None while it replaces the file."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "state/job_state").stat().st_mtime_ns
        return None

    def wait_for(self, condition, seconds: float = 120) -> None:
        """Poll; a machine may be slow, so only a hang fails."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.states(), self.ask("squeue"))
            time.sleep(0.3)

    def close(self) -> None:
        """End everything."""
        self.ask("scancel", "--user=root")
        end = time.monotonic() + 20
        while self.ask("squeue", "--noheader").strip() and time.monotonic() < end:
            time.sleep(0.3)
        for process in (*self.nodes.values(), self.controller, self.munged):
            if process is not None and process.poll() is None:
                process.terminate()
        for process in (*self.nodes.values(), self.controller, self.munged):
            if process is not None:
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster that ends with the block."""
    made = Cluster(folder)
    try:
        made.start()
        yield made
    finally:
        made.close()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
