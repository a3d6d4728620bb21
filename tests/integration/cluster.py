"""A SLURM of one node, real in all but its size: Debian's programs, on this machine, for as long as a block runs."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
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
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace_s}
PartitionName=high Nodes={host} MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
"""Expired credentials are what a requeued job waits for: seconds here, two minutes by default."""


@dataclass(frozen=True)
class Cluster:
    """It is running."""

    folder: Path
    host: str

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
        """Let the node begin no job any more."""
        self.ask("scontrol", "update", f"nodename={self.host}", "state=drain", "reason=test")

    def resume(self) -> None:
        """Have the node back, if it is drained."""
        if "DRAIN" in self.ask("scontrol", "show", "node", self.host):
            self.ask("scontrol", "update", f"nodename={self.host}", "state=resume")

    def until_idle(self, seconds: float = 60) -> None:
        """Until nothing waits or runs."""
        deadline = time.monotonic() + seconds
        while self.jobs():
            assert time.monotonic() < deadline, self.ask("squeue")
            time.sleep(0.2)


@contextmanager
def running_cluster(grace_s: int = 10) -> Iterator[Cluster]:
    """Start it, and end it with all its jobs.

    Raises
    ------
    AssertionError
        If its programs are not installed: `apt-get install slurm-wlm munge`.
    """
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    assert not missing, f"not installed: {', '.join(missing)}; apt-get install slurm-wlm munge"
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # a socket's path must be short
    for name in ("controller", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    cluster = Cluster(folder, socket.gethostname().split(".")[0])
    ports = dict(zip(("controller_port", "node_port"), _free_ports(2), strict=True))
    text = CONFIGURATION.format(folder=folder, host=cluster.host, grace_s=grace_s, **ports)
    (folder / "slurm.conf").write_text(text)
    try:
        _start(cluster)
        yield cluster
    finally:
        _end(cluster)


def _start(cluster: Cluster) -> None:
    folder = cluster.folder
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    names = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
    options = [f"--{option}={folder / name}" for option, name in names.items()]
    subprocess.run(["munged", "--force", *options, f"--seed-file={folder / 'munge.seed'}"], check=True)
    for program in ("slurmctld", "slurmd"):
        cluster.ask(program, "-c", "-f", str(folder / "slurm.conf"))
    deadline = time.monotonic() + 30
    while (
        "idle"
        not in subprocess.run(
            ["sinfo", "--noheader", "--format", "%T"],
            env=os.environ | cluster.environment,
            capture_output=True,
            text=True,
        ).stdout
    ):
        assert time.monotonic() < deadline, (folder / "slurmctld.log").read_text() + (folder / "slurmd.log").read_text()
        time.sleep(0.1)


def _end(cluster: Cluster) -> None:
    subprocess.run(["scancel", "--user=root"], env=os.environ | cluster.environment, capture_output=True)
    for name in ("slurmd.pid", "slurmctld.pid", "munged.pid"):
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
    shutil.rmtree(cluster.folder, ignore_errors=True)


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
