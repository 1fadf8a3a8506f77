"""The servers that components are measured on: a Redis and a PostgreSQL, started where the machine has them.

Both keep everything in a folder of their own on loopback, with their default durability: PostgreSQL syncs each commit,
Redis nothing. Every deployment gets a database of its own in each.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import LOOPBACK, BenchmarkError, Process, free_ports, start

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import ExitStack

START_SECONDS = 20.0
REDIS_DATABASES = 16
LOADED_ON_REDIS = (("redis", "state.redis"), ("bus-redis", "pubsub.redis"))
"""The components that are measured under load."""
_BINARIES = "/usr/lib/postgresql"


class Servers:
    """What runs; `kinds` are the names that scenarios need: `redis`, `postgresql`."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self._redis = 0
        self._postgresql = 0
        self._postgresql_command: list[str] = []
        self._given = 0

    def start(self, stack: ExitStack, folder: Path, wanted: set[str]) -> None:
        """Start what is wanted and installed; it ends with the stack. Raises `BenchmarkError`."""
        if "redis" in wanted and (program := shutil.which("redis-server")) is not None:
            (self._redis,) = free_ports(1)
            words = [program, "--port", str(self._redis), "--bind", LOOPBACK, "--save", "", "--dir", str(folder)]
            _wait(start(stack, folder, "redis", words), self._redis)
            self.kinds.add("redis")
        if "postgresql" in wanted and (binaries := _postgresql()) is not None:
            self._start_postgresql(stack, folder, binaries)
            self.kinds.add("postgresql")

    def components(self, on_redis: Sequence[tuple[str, str]] = LOADED_ON_REDIS) -> str:
        """Documents of components for one more deployment, each on a database of its own; empty: no server runs.

        `on_redis`: names and types.
        """
        number, self._given = self._given, self._given + 1
        documents: list[str] = []
        if "redis" in self.kinds:
            if number >= REDIS_DATABASES:
                raise BenchmarkError(f"the Redis has {REDIS_DATABASES} databases, and more deployments than that")
            documents += [
                component(name, kind, {"redisHost": f"{LOOPBACK}:{self._redis}", "redisDB": str(number)})
                for name, kind in on_redis
            ]
        if "postgresql" in self.kinds:
            database = f"bench{number}"
            self._sql(f"CREATE DATABASE {database}")
            address = f"host={LOOPBACK} port={self._postgresql} user=postgres database={database} sslmode=disable"
            documents.append(component("postgresql", "state.postgresql", {"connectionString": address}, "v2"))
        return "---\n".join(documents)

    def _start_postgresql(self, stack: ExitStack, folder: Path, binaries: Path) -> None:
        data = Path(tempfile.mkdtemp(prefix="dapr-shared-benchmarks-postgresql-"))
        stack.callback(shutil.rmtree, data, ignore_errors=True)
        as_user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses root
            user = pwd.getpwnam("postgres")
            os.chown(data, user.pw_uid, user.pw_gid)
            as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        (self._postgresql,) = free_ports(1)
        initdb = [*as_user, str(binaries / "initdb"), "-D", str(data / "db"), "-U", "postgres", "-A", "trust"]
        _run(initdb, data)
        words = [*as_user, str(binaries / "postgres"), "-D", str(data / "db"), "-p", str(self._postgresql)]
        process = start(stack, folder, "postgresql", [*words, "-h", LOOPBACK, "-k", ""])
        self._postgresql_command = [str(binaries / "psql"), "-h", LOOPBACK, "-p", str(self._postgresql)]
        _wait(process, self._postgresql)

    def _sql(self, text: str) -> None:
        _run([*self._postgresql_command, "-U", "postgres", "-q", "-c", text], Path("/"))


def _postgresql() -> Path | None:
    """The newest PostgreSQL of Debian's packages."""
    found = sorted(Path(_BINARIES).glob("*/bin"), key=lambda path: int(path.parent.name))
    return found[-1] if found and (os.geteuid() != 0 or shutil.which("setpriv")) else None


def _run(words: Sequence[str], folder: Path) -> None:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"{words[0]}: {done.stderr.strip()}")


def _wait(process: Process, port: int) -> None:
    """Wait until the port accepts connections; PostgreSQL answers queries some milliseconds later."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        process.check_alive()
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((LOOPBACK, port)) == 0:
                time.sleep(0.5)
                return
        time.sleep(0.05)
    raise BenchmarkError(f"{process.name}: nothing on port {port} within {START_SECONDS:g} s; log: {process.log}")


def component(name: str, kind: str, metadata: Mapping[str, str], version: str = "v1") -> str:
    """The document of a component."""
    items = "".join(f'    - {{name: {key}, value: "{value}"}}\n' for key, value in metadata.items())
    return (
        "apiVersion: dapr.io/v1alpha1\n"
        "kind: Component\n"
        f"metadata: {{name: {name}}}\n"
        "spec:\n"
        f"  type: {kind}\n"
        f"  version: {version}\n"
        f"  metadata:\n{items}"
    )
