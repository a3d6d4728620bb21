"""How much later a training begins as a job of a cluster than in the process that asks for it.

The cluster is a real SLURM of one node, on this machine, on which nothing waits. `make benchmarks` runs this, or
`PYTHONPATH=. python benchmarks/slurm.py`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from oceans import ROOT
from table import Result, run

from ocean_emulators.workspace import Workspace
from tests.integration.slurm.cluster import Cluster, running_cluster, why_not
from tests.pipeline import new_workspace, run_stage

RUNTIME = {"device": "cpu", "checkpoint_steps": 1}
INLINE = {"where": "inline", "runtime": RUNTIME}
SLURM = {"where": "slurm", "memory_gib": 0.5, "runtime": RUNTIME}


def seconds_to_first_step(workspace: Workspace, launch: dict[str, Any], cluster: Cluster) -> float:
    """From the start of `python -m launchers train` until the state after the first step is saved; then it is ended."""
    (workspace.root / "launch.yaml").write_text(yaml.safe_dump(launch))
    command = [sys.executable, "-m", "launchers", "train", "--launch", "launch.yaml"]
    quiet = {"OCEAN_EMULATORS_TRACKER": "none", "PYTHONPATH": str(ROOT)}
    said = workspace.root / "said.txt"
    with said.open("w") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=workspace.root, env=os.environ | quiet | cluster.environment, stdout=log, stderr=log
        )
    try:
        while not list(workspace.scratch.glob("train-*/states/[0-9]*.pt")):
            assert process.poll() is None, said.read_text()
            time.sleep(0.02)
        return time.perf_counter() - began
    finally:
        process.kill()
        process.wait()
        cluster.cancel_all()
        shutil.rmtree(workspace.scratch)


def measure(repeats: int) -> list[Result]:
    """All figures."""
    times = 2 if repeats < 10 else 5
    with tempfile.TemporaryDirectory() as name, running_cluster() as cluster:
        workspace = new_workspace(Path(name) / "tiny")
        for stage in ("prepare", "stats"):
            run_stage(workspace, stage)
        pairs = [
            [seconds_to_first_step(workspace, launch, cluster) for launch in (INLINE, SLURM)] for _ in range(times)
        ]
    inline, slurm = (min(column) for column in zip(*pairs, strict=True))
    return [
        Result("seconds from start to first step: a job of SLURM, beyond inline", slurm - inline, 10.0),
        Result("seconds from start to first step: inline", inline, None),
    ]


if __name__ == "__main__":
    reason = why_not()
    if reason is None:
        run(measure)
    else:
        print(f"nothing is measured: {reason}")
