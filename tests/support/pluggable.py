"""A pluggable component written in JavaScript, as its own process at a socket."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.instance import environment
from tests.support.node import PACKAGES, node_with_packages

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("pluggable_server.cjs")
PROTOS = Path(__file__).parents[2] / "proto"


class PluggableServer:
    """The process; it can be killed and started again."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._node = node_with_packages()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it listens."""
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        log = self.socket.with_suffix(".log").open("ab")
        self._process = subprocess.Popen(
            [self._node, str(PROGRAM), str(PROTOS), str(self.socket)],
            env={**environment(self.socket.parent), "NODE_PATH": str(PACKAGES / "node_modules")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        log.close()
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == b"ready\n", self.socket.with_suffix(".log").read_text()

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it by force; its socket file stays, as after a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


@contextmanager
def pluggable_server(socket: Path) -> Iterator[PluggableServer]:
    """A running one, ended by its id."""
    made = PluggableServer(socket)
    made.start()
    try:
        yield made
    finally:
        made.kill()
