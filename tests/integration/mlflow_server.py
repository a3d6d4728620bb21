"""A real MLflow server."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.conftest import ENVIRONMENT


@dataclass
class Server:
    """A real MLflow server on this machine, which can be killed and started again."""

    folder: Path
    port: int
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it answers."""
        store = [
            f"--backend-store-uri=sqlite:///{self.folder}/server.db",
            f"--artifacts-destination={self.folder}/files",
        ]
        command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={self.port}", "--workers=1"]
        process = subprocess.Popen(
            [*command, *store], cwd=self.folder, env=ENVIRONMENT, start_new_session=True, stdout=subprocess.DEVNULL
        )
        self.processes.append(process)
        until(lambda: process.poll() is not None or self.answers)
        assert process.poll() is None

    @property
    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.address, timeout=5) as page:
                return bool(page.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """At once, with its workers."""
        process = self.processes.pop()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """It keeps what it is given in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found = Server(folder, free.getsockname()[1])
    found.start()
    yield found
    while found.processes:
        found.kill()


def until(holds: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)
