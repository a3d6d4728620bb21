"""What a partition of a SLURM cluster has."""

import re
from dataclasses import dataclass

from launchers.queue import ask
from ocean_emulators.errors import UserError

_MIB_PER_GIB = 1024
_DAYS = re.compile(r"(?:(\d+)-)?(\d+):(\d+):(\d+)")


@dataclass(frozen=True)
class Partition:
    """Nodes that are queued for together."""

    name: str
    nodes: int
    up: int
    """nodes that are neither down nor drained"""
    hours: float | None
    """longest job; None where there is no limit"""
    memory_gib: float
    """of the node that has most"""
    cores: int
    """of the node that has most"""
    resources: str
    """generic ones of a node, such as `gpu:a100:4`"""

    def __str__(self) -> str:
        resources = f" and {self.resources}" if self.resources else ""
        limit = f"; jobs of at most {self.hours:g} h" if self.hours is not None else ""
        return (
            f"partition {self.name}: {self.nodes} node(s), {self.up} up, of up to {self.cores} core(s), "
            f"{self.memory_gib:,.4g} GiB{resources}{limit}"
        )


def partitions(names: str | None) -> list[Partition]:
    """Those of some names, which commas separate, or the cluster's default; without those that it does not know."""
    shown = ask("scontrol", "--oneliner", "show", "partition").stdout
    tables = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in shown.splitlines()]
    chosen = names.split(",") if names else [t["PartitionName"] for t in tables if t.get("Default") == "YES"]
    return [_partition(table) for table in tables if table["PartitionName"] in chosen]


def _partition(table: dict[str, str]) -> Partition:
    name = table["PartitionName"]
    told = ask("sinfo", "--noheader", "--partition", name, "--format", "%D|%m|%c|%G|%t").stdout
    rows = [line.strip().split("|") for line in told.splitlines()]
    nodes = [(int(count), _number(memory), _number(cores), gres, state) for count, memory, cores, gres, state in rows]
    return Partition(
        name=name,
        nodes=sum(count for count, *_ in nodes),
        up=sum(count for count, *_, state in nodes if not state.startswith(("down", "drain", "drng", "fail", "unk"))),
        hours=_hours(table.get("MaxTime", "UNLIMITED")),
        memory_gib=max((memory for _, memory, *_ in nodes), default=0) / _MIB_PER_GIB,
        cores=max((cores for _, _, cores, *_ in nodes), default=0),
        resources=", ".join(dict.fromkeys(gres for *_, gres, _ in nodes if gres not in ("(null)", ""))),
    )


def _number(text: str) -> int:
    """Of nodes that differ sinfo tells the least, as `64000+`."""
    return int(text.rstrip("+") or 0)


def _hours(limit: str) -> float | None:
    found = _DAYS.fullmatch(limit)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return 24 * days + hours + minutes / 60 + seconds / 3600


def require_room(names: str | None, nodes: int, hours: float) -> list[Partition]:
    """The partitions that a job of so many nodes and hours could run in.

    Raises
    ------
    UserError
        If it fits into none: SLURM would let such a job wait for ever. What SLURM refuses itself is left to it.
    """
    known = partitions(names)
    fitting = [p for p in known if p.nodes >= nodes and (p.hours is None or p.hours >= hours)]
    if known and not fitting:
        told = "; ".join(map(str, known))
        raise UserError(
            f"launch configuration: nodes: {nodes}, hours: {hours:g}: more than {told}; ask for fewer nodes, or for less time "
            "(a training that needs more is requeued, and goes on where it was), or name another `partition`"
        )
    return fitting
