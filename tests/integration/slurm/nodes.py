"""Machines of a small network, on this one: each has a name, addresses and processes of its own, and can fail like a real one.

Each is a process in namespaces of its own. It ends, and with it all that runs there and its end of each cable, when nobody can
write to it any more: so nothing is left of them, not even of tests that were killed.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

INTERFACE = "eth0"
"""how a node calls its end of the cable"""
_UNSHARE = ("unshare", "--uts", "--mount", "--net", "--pid", "--fork", "--mount-proc")
_TRIAL = "hostname trial && ip link add name bridge type bridge && ip link add name left type veth peer name right"


def why_not() -> str | None:
    """What keeps machines from being made here, if anything does."""
    if shutil.which("ip") is None:
        return "ip is not installed: apt-get install iproute2"
    done = subprocess.run([*_UNSHARE, "bash", "-c", _TRIAL], capture_output=True, text=True)
    return f"namespaces and virtual cables are not permitted here: {done.stderr.strip()}" if done.returncode else None


class Machine:
    """It runs, and does what it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._process = subprocess.Popen([*_UNSHARE, "bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"hostname {name} && ip link set lo up && echo up\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "up\n", name
        (first,) = psutil.Process(self._process.pid).children()
        self.first = first.pid
        """its first process, by the number that it has here"""

    def run(self, *command: str) -> None:
        """Run a command there, which must succeed; what it leaves in the background goes on."""
        entered = ("nsenter", f"--target={self.first}", "--uts", "--mount", "--net", "--pid", *command)
        done = subprocess.run(entered, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, f"{self.name}: {' '.join(command)}: {done.stdout}{done.stderr}"

    def stop(self) -> None:
        """End it, with all that runs there."""
        self._process.communicate()


class Network:
    """Nodes n1, n2 … on a switch, to which this machine is connected, too."""

    def __init__(self, size: int, folder: Path) -> None:
        self.folder = folder
        number = os.getpid() % 4096  # so that those of several tests at a time do not meet
        self._cable, self._base = f"nodes{os.getpid()}", f"10.213.{number // 16}.{number % 16 * 16 + 1}"
        self.addresses = {f"n{k}": _after(self._base, k) for k in range(1, size + 1)}
        self.nodes: dict[str, Machine] = {}

    @property
    def address(self) -> str:
        """Of this machine."""
        return self._base

    def hosts(self, name: str) -> Path:
        """What a node reads as /etc/hosts; it may be written to at any time."""
        return self.folder / f"hosts-{name}"

    def name_all(self) -> None:
        """Let each node know all names."""
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in self.addresses.items())]
        for name in self.addresses:
            self.hosts(name).write_text("\n".join(lines) + "\n")

    def name_themselves(self) -> None:
        """Let each node take its own name for an address that no other reaches, as Debian's installer does."""
        for name, address in self.addresses.items():
            text = self.hosts(name).read_text()
            self.hosts(name).write_text(text.replace(f"{address} {name}", f"127.0.1.1 {name}"))

    def start(self, name: str) -> Machine:
        """Switch a node on."""
        node = self.nodes[name] = Machine(name)
        node.run("mount", "--bind", str(self.hosts(name)), "/etc/hosts")
        self._plug_in(INTERFACE, str(node.first), f"to-{name}")
        node.run("ip", "address", "add", f"{self.addresses[name]}/28", "dev", INTERFACE)
        node.run("ip", "link", "set", INTERFACE, "up")
        return node

    def stop(self, name: str) -> None:
        """Switch a node off."""
        self.nodes.pop(name).stop()

    def _plug_in(self, interface: str, where: str, port: str) -> None:
        """A cable from an interface of a process to the switch."""
        switch = str(self._switch.first)
        _ip("link", "add", "name", port, "netns", switch, "type", "veth", "peer", "name", interface, "netns", where)
        self._switch.run("ip", "link", "set", port, "master", "switch", "up")

    @contextmanager
    def running(self) -> Iterator[None]:
        """While the block runs, all nodes do."""
        self.name_all()
        self._switch = Machine("switch")
        try:
            self._switch.run("ip", "link", "add", "name", "switch", "type", "bridge")
            self._switch.run("ip", "link", "set", "switch", "up")
            self._plug_in(self._cable, str(os.getpid()), "to-all")
            _ip("address", "add", f"{self.address}/28", "dev", self._cable)
            _ip("link", "set", self._cable, "up")
            for name in self.addresses:
                self.start(name)
            yield
        finally:
            for machine in (*self.nodes.values(), self._switch):
                machine.stop()
            subprocess.run(
                ["ip", "link", "delete", self._cable], capture_output=True
            )  # it went with the switch, or soon


def _after(address: str, k: int) -> str:
    start, last = address.rsplit(".", 1)
    return f"{start}.{int(last) + k}"


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
