"""Real Redis (or Valkey) servers for tests: one shared by a worker's tests, and any number of own ones.

Servers listen on a free port of loopback, keep their files in a temporary folder, and are ended by their process id.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.required import need_command

PATIENCE = 20.0
"""Seconds until a server that does not come up fails the test."""
DATABASES = 512
"""Databases of the shared server; each test takes the next one. The server looks for expired keys in 16 of them at a time,
`hz` times a second."""


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def server_command() -> str:
    """The server's program: redis-server, or the one that REDIS_SERVER names (valkey-server, say)."""
    return os.environ.get("REDIS_SERVER") or need_command("redis-server", "redis-server")


@dataclass
class RedisServer:
    """One server process."""

    folder: Path
    options: tuple[str, ...] = ()
    password: str = ""
    port: int = field(default_factory=free_port)
    tls: Path | None = None
    """Folder with ca.crt, server.crt and server.key: TLS on `port`, nothing in the clear."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> RedisServer:
        """Start it and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        where = ["--port", str(self.port)]
        if self.tls is not None:
            where = [*("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "optional")]
            for name in ("tls-ca-cert-file ca.crt", "tls-cert-file server.crt", "tls-key-file server.key"):
                option, file = name.split()
                where += [f"--{option}", str(self.tls / file)]
        secret = ["--requirepass", self.password, "--masterauth", self.password] if self.password else []
        persist = [] if "--appendonly" in self.options or "--save" in self.options else ["--save", ""]
        command = [server_command(), "--bind", "127.0.0.1", "--dir", str(self.folder), *where, *secret, *persist]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--loglevel", "warning", *self.options],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        _RUNNING.add(self.process)
        self.wait_until_up()
        return self

    def wait_until_up(self) -> None:
        """Wait until it answers PING."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert self.process is None or self.process.poll() is None, (self.folder / "log").read_text()
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                if self.command("PING").strip() == "PONG":
                    return
            time.sleep(0.02)
        raise AssertionError(f"the server on port {self.port} does not answer: {(self.folder / 'log').read_text()}")

    def command(self, *words: str, db: int = 0) -> str:
        """What redis-cli prints for a command."""
        program = need_command("redis-cli", "redis-tools")
        secure = [] if self.tls is None else ["--tls", "--cacert", str(self.tls / "ca.crt")]
        given = subprocess.run(
            [program, "-h", "127.0.0.1", "-p", str(self.port), "-n", str(db), *secure, *words],
            env={**os.environ, **({"REDISCLI_AUTH": self.password} if self.password else {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
        return given.stdout

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self.process is not None:
            if self.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    self.process.send_signal(signal.SIGCONT)
                self.process.kill()
            self.process.wait()
            _RUNNING.discard(self.process)
            self.process = None

    def restart(self) -> None:
        """Kill it, and start it again on the same port with what it kept."""
        self.kill()
        self.start()


_RUNNING: set[subprocess.Popen[bytes]] = set()
_shared: list[RedisServer] = []
_databases = itertools.count(1)


def shared() -> RedisServer:
    """The server of this worker's tests; started when first asked for."""
    if not _shared:
        folder = Path(tempfile.mkdtemp(prefix="redis-"))
        _shared.append(RedisServer(folder, ("--databases", str(DATABASES), "--hz", "100")).start())
    return _shared[0]


def fresh_database() -> int:
    """The number of an empty database of the shared server."""
    number = next(_databases)
    if number >= DATABASES:
        number %= DATABASES
        shared().command("FLUSHDB", db=number)
    return number


def stop_shared() -> None:
    """End the shared server and remove its files."""
    while _shared:
        server = _shared.pop()
        server.kill()
        shutil.rmtree(server.folder, ignore_errors=True)


@atexit.register
def _end_all() -> None:
    stop_shared()
    for process in tuple(_RUNNING):
        process.kill()
        process.wait()
