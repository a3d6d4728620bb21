"""A SLURM of a few nodes, real in all but its size: Debian's programs, on this machine, for as long as a block runs."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.integration.slurm.nodes import Network

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}({address})
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
ReturnToService=2
KillWait=5
MinJobAge=3600
InactiveLimit=0
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace_s}
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
"""Expired credentials are what a requeued job waits for: seconds here, two minutes by default."""


@dataclass(frozen=True)
class Cluster:
    """It is running."""

    folder: Path
    network: Network | None = None
    """of its nodes; none where this machine is the only one"""

    @property
    def host(self) -> str:
        """This machine."""
        return socket.gethostname().split(".")[0]

    @property
    def nodes(self) -> dict[str, str]:
        """Addresses by names."""
        return self.network.addresses if self.network else {self.host: "127.0.0.1"}

    @property
    def environment(self) -> dict[str, str]:
        """By which its programs find it."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def ask(self, *command: str) -> str:
        """What one of its programs prints."""
        done = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True, check=True)
        return done.stdout

    def jobs(self) -> list[str]:
        """The numbers of all jobs that wait or run."""
        return self.ask("squeue", "--noheader", "--format", "%i").split()

    def drain(self) -> None:
        """Let the nodes begin no job any more."""
        self.ask("scontrol", "update", "nodename=ALL", "state=drain", "reason=test")

    def resume(self) -> None:
        """Have the nodes back that are drained."""
        for node in self.nodes:
            if "DRAIN" in self.ask("scontrol", "show", "node", node):
                self.ask("scontrol", "update", f"nodename={node}", "state=resume")

    def start_node(self, name: str) -> None:
        """Switch one of several nodes on."""
        assert self.network is not None
        self.network.start(name).run("slurmd", "-c", "-f", str(self.folder / "slurm.conf"))

    def stop_node(self, name: str) -> None:
        """Switch one of several nodes off."""
        assert self.network is not None
        self.network.stop(name)

    def cancel_all(self) -> None:
        """End all jobs."""
        for job in self.jobs():
            self.ask("scancel", job)
        self.until_idle()

    def until_ready(self, seconds: float = 30) -> None:
        """Until all nodes wait for jobs."""
        deadline = time.monotonic() + seconds
        while set(self._states()) != {"idle"}:
            assert time.monotonic() < deadline, "".join(log.read_text() for log in self.folder.glob("slurm*.log"))
            time.sleep(0.1)

    def until_idle(self, seconds: float = 60) -> None:
        """Until nothing waits or runs."""
        deadline = time.monotonic() + seconds
        while self.jobs():
            assert time.monotonic() < deadline, self.ask("squeue")
            time.sleep(0.2)

    def _states(self) -> list[str]:
        command = ["sinfo", "--noheader", "--Node", "--partition=main", "--format=%T"]
        done = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True)
        return done.stdout.split()  # nothing, while the controller is not there yet


def why_not() -> str | None:
    """What keeps a cluster from being started here, if anything does."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}; apt-get install slurm-wlm munge"
    return "SLURM's programs are started by root" if os.geteuid() else None


@contextmanager
def running_cluster(grace_s: int = 10, nodes: int = 1) -> Iterator[Cluster]:
    """Start it, and end it with all its jobs: this machine alone, or several that are made for it.

    Raises
    ------
    AssertionError
        If there can be none here.
    """
    reason = why_not()
    assert reason is None, reason
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # a socket's path must be short
    folder.chmod(0o755)
    network = Network(nodes, folder) if nodes > 1 else None
    cluster = Cluster(folder, network)
    try:
        with network.running() if network else nullcontext():
            _configure(cluster, grace_s)
            try:
                _start(cluster)
                yield cluster
            finally:
                _end(cluster)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _configure(cluster: Cluster, grace_s: int) -> None:
    (cluster.folder / "controller").mkdir()
    address = cluster.network.address if cluster.network else "127.0.0.1"
    lines = (
        f"NodeName={name} NodeAddr={at} CPUs=2 RealMemory=1000 State=UNKNOWN" for name, at in cluster.nodes.items()
    )
    ports = dict(zip(("controller_port", "node_port"), _free_ports(2), strict=True))
    text = CONFIGURATION.format(
        folder=cluster.folder, host=cluster.host, address=address, nodes="\n".join(lines), grace_s=grace_s, **ports
    )
    (cluster.folder / "slurm.conf").write_text(text)


def _start(cluster: Cluster) -> None:
    folder = cluster.folder
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    names = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
    options = [f"--{option}={folder / name}" for option, name in names.items()]
    subprocess.run(["munged", "--force", *options, f"--seed-file={folder / 'munge.seed'}"], check=True)
    command = ("-c", "-f", str(folder / "slurm.conf"))
    cluster.ask("slurmctld", *command)
    if cluster.network:
        for node in cluster.network.nodes.values():
            node.run("slurmd", *command)
    else:
        cluster.ask("slurmd", *command)
    cluster.until_ready()


def _end(cluster: Cluster) -> None:
    """End what runs on this machine; what runs on others ends with them."""
    subprocess.run(["scancel", "--user=root"], env=os.environ | cluster.environment, capture_output=True)
    of_node = [] if cluster.network else [f"slurmd-{cluster.host}.pid"]
    for name in (*of_node, "slurmctld.pid", "munged.pid"):
        file = cluster.folder / name
        if file.exists():
            process = psutil.Process(int(file.read_text()))
            steps = process.children(recursive=True)
            process.terminate()
            for each in (process, *steps):
                try:
                    each.wait(10)
                except psutil.TimeoutExpired:
                    each.kill()


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
