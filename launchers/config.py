"""The launch configuration: chosen outside `params.yaml`, because it changes no result."""

import argparse
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ocean_emulators.config.base import Config, parse, shown
from ocean_emulators.config.bounds import Count, Positive
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.errors import UserError
from ocean_emulators.parallel import Resources
from ocean_emulators.runtime import Runtime

VARIABLE = "OCEAN_EMULATORS_LAUNCH"
DEFAULT = Path("configs/launch/inline.yaml")

Processes = Annotated[int, Field(ge=1, le=1024)]
Stage = Literal["prepare", "stats", "train", "evaluate", "compare"]


class LaunchConfig(Config):
    """What every place has in common."""

    runtime: Runtime = Runtime()
    """how to use the machine"""
    prepare: Resources = Resources()
    """what preparing data and taking their statistics may use"""

    @property
    def ranks(self) -> int:
        """How many processes train together."""
        return 1

    def submits(self, stage: str) -> bool:
        """Whether a stage is a cluster's job."""
        return False


class Inline(LaunchConfig):
    where: Literal["inline"] = "inline"
    """in this process"""


class Local(LaunchConfig):
    where: Literal["local"] = "local"
    """training by several processes on this machine, each with a share of every batch"""
    processes: Processes = 1
    """how many; on GPUs, one for each. The result is the same to rounding"""

    @property
    def ranks(self) -> int:
        """How many processes train together."""
        return self.processes


class Slurm(LaunchConfig):
    where: Literal["slurm"] = "slurm"
    """as jobs of a SLURM cluster, whose nodes see this project's folder at the same path"""
    stages: tuple[Stage, ...] = ("train", "evaluate")
    """what is submitted; the rest is done in this process"""
    nodes: Annotated[int, Field(ge=1, le=10_000)] = 1
    """for training; other stages take one"""
    processes: Processes = 1
    """on each node, for training, each with a share of every batch: one for each GPU. Other stages take one"""
    gpus: Annotated[int, Field(ge=0, le=1024)] = 0
    """GPUs of each process"""
    cpus: Count = 1
    """processor cores of each process"""
    memory_gib: Positive | None = None
    """memory of each node, GiB; null leaves it to the cluster"""
    hours: Annotated[float, Field(ge=1 / 60, le=10_000)] = 24.0
    """longest run; a training that needs more is requeued before, and goes on where it was"""
    grace_s: Annotated[int, Field(ge=10, le=3600)] = 120
    """how long before that the job is told to save its state"""
    requeues: Annotated[int, Field(ge=0, le=100_000)] = 50
    """how often a job may be requeued, after preemptions and time limits, before it is given up"""
    partition: str | None = None
    """queue to submit to; null takes the cluster's default, here and below"""
    account: str | None = None
    """project whose allocation is charged"""
    constraint: str | None = None
    """features that nodes must have"""
    qos: str | None = None
    """quality of service"""
    options: dict[str, str | Count | bool] = Field({})
    """further options of sbatch by their long names, such as {exclusive: true, reservation: ocean}"""
    setup: tuple[str, ...] = ()
    """shell commands before a job begins, such as `module load cuda` or `export NCCL_DEBUG=INFO`"""
    network: str | None = None
    """network interface that processes on several nodes talk through, such as ib0; null leaves the choice to NCCL and gloo"""
    container: str | None = None
    """command that Python is run by, such as `apptainer exec --nv ocean.sif`; the container needs this project's packages"""
    python: str | None = None
    """the interpreter on the nodes, or in the container; null takes the one that submits"""

    @property
    def ranks(self) -> int:
        """How many processes train together."""
        return self.nodes * self.processes

    def submits(self, stage: str) -> bool:
        """Whether a stage is a cluster's job; a probe is what a training is."""
        return ("train" if stage == "probe" else stage) in self.stages


KINDS: dict[str, type[LaunchConfig]] = {"inline": Inline, "local": Local, "slurm": Slurm}


def add_launch_argument(parser: argparse.ArgumentParser) -> None:
    """The option by which a command is given the path for `load_launch_config`."""
    parser.add_argument("--launch", type=Path, metavar="FILE", help=f"launch configuration, else that of {VARIABLE}")


def load_launch_config(path: Path | None = None) -> LaunchConfig:
    """A launch file: the given one, else that which OCEAN_EMULATORS_LAUNCH names, else `configs/launch/inline.yaml`.

    Raises
    ------
    UserError
        If a file that is named is missing, or one is not valid.
    """
    named = path or os.environ.get(VARIABLE)
    if named is None and not DEFAULT.is_file():
        return Inline()
    file = Path(named or DEFAULT)
    return parse_launch_config(load_yaml(file), str(file))


def parse_launch_config(tree: Any, source: str) -> LaunchConfig:
    """The configuration from plain types; `source` is what messages name.

    Raises
    ------
    UserError
        If it is not valid.
    """
    where = tree.get("where", "inline") if isinstance(tree, dict) else "inline"
    if not isinstance(where, str) or where not in KINDS:
        raise UserError(f"{source}: where: found {shown(where)}: expected one of: {', '.join(KINDS)}")
    return parse(KINDS[where], tree, source)
