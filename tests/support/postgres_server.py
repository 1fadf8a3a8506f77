"""A PostgreSQL server for tests: Debian's programs, a cluster in a temporary directory, a free port of loopback.

One server a test process serves all tests that do not disturb it, each with a fresh database; tests that stop, freeze
or fill a server start their own. The server refuses to run as root, so root starts it as the user `postgres`.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.required import need

USER = "dapr"
PASSWORD = "p-for-tests"
CONFIGURATION = """
SET ROLE dapr;
CREATE TABLE configtable (key VARCHAR NOT NULL, value VARCHAR NOT NULL, version VARCHAR NOT NULL, metadata JSON);
CREATE FUNCTION tell_configuration() RETURNS TRIGGER AS $$
BEGIN
  PERFORM pg_notify('config', json_build_object('table', TG_TABLE_NAME, 'action', TG_OP,
    'data', CASE WHEN TG_OP = 'DELETE' THEN row_to_json(OLD) ELSE row_to_json(NEW) END)::text);
  RETURN NULL;
END; $$ LANGUAGE plpgsql;
CREATE TRIGGER tell_configuration AFTER INSERT OR UPDATE OR DELETE ON configtable
  FOR EACH ROW EXECUTE FUNCTION tell_configuration();
"""
"""The table of a configuration store and its trigger, as an operator makes them."""
_DEBIAN = Path("/usr/lib/postgresql")
_START_SECONDS = 60


def programs() -> Path:
    """The directory of `initdb` and `postgres`; `need` where there is none."""
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]), reverse=True)
    initdb = found[0] if found else Path(shutil.which("initdb") or "/nonexistent")
    need(initdb.exists() and initdb.with_name("postgres").exists(), "PostgreSQL (apt install postgresql-15)")
    need(os.geteuid() != 0 or shutil.which("setpriv"), "the command setpriv (apt install util-linux)")
    return initdb.parent


@dataclass
class PostgresServer:
    """One cluster. `start` makes it where it is not there yet; `stop` ends the server and leaves the data."""

    directory: Path
    """The data goes below it; whoever runs the server must be able to enter it."""
    durable: bool = False
    """Whether it waits for the disk; not doing so is faster."""
    settings: dict[str, str] = field(default_factory=dict)
    certificate: tuple[Path, Path] | None = None
    """Certificate and key: the server then speaks TLS too."""
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.port = self.port or free_port()
        if not self.data.exists():
            self._create()
        # The log is the server's own: a pipe that nobody reads would stop it.
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._as_user(
                    [str(programs() / "postgres"), "-D", str(self.data), "-p", str(self.port), *self._options()]
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait()

    def wait(self) -> None:
        """Wait until the server takes connections."""
        until = time.monotonic() + _START_SECONDS
        ready = [str(programs() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            ended = self.process is not None and self.process.poll() is not None
            if ended or time.monotonic() > until:
                raise AssertionError(f"PostgreSQL did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT at once but cleanly, SIGKILL as a crash of all its processes."""
        process, self.process = self.process, None
        if process is None:
            return
        if how is signal.SIGKILL:
            self._signal_all(process, signal.SIGKILL)
        else:
            process.send_signal(how)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            self._signal_all(process, signal.SIGKILL)
            process.wait(30)

    def freeze(self) -> None:
        """Stop all processes of the server without closing a connection."""
        assert self.process is not None
        self._signal_all(self.process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        assert self.process is not None
        self._signal_all(self.process, signal.SIGCONT)

    def remove(self) -> None:
        """End the server and delete everything."""
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """What psql prints for a statement, as the administrator: rows by lines, columns by `|`."""
        command = [
            str(programs() / "psql"),
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            self.url(database, "postgres"),
        ]
        done = subprocess.run([*command, "-c", statement], check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def url(self, database: str, user: str = USER) -> str:
        """A connection string."""
        return f"postgresql://{user}:{PASSWORD}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def standby(self, directory: Path) -> PostgresServer:
        """A second server that follows this one by streaming replication, running; `promote` makes it the first.

        From now on a commit here waits until it has it: whatever is acknowledged is there after a failover.
        """
        directory.mkdir(parents=True)
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(directory, user.pw_uid, user.pw_gid)
        made = PostgresServer(directory, durable=self.durable, settings=dict(self.settings))
        copy = [str(programs() / "pg_basebackup"), "-D", str(made.data), "-R", "-X", "stream", "-c", "fast", "--no-sync",
                "-d", self.url("", "postgres")]  # fmt: skip
        done = subprocess.run(self._as_user(copy), check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        made.start()
        self.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.sql("SELECT pg_reload_conf()")
        until = time.monotonic() + _START_SECONDS
        while self.sql("SELECT sync_state FROM pg_stat_replication") != "sync":
            assert time.monotonic() < until, made.log.read_text()
            time.sleep(0.05)
        return made

    def promote(self) -> None:
        """Make a standby the first server."""
        self.sql("SELECT pg_promote()")

    def new_database(self) -> str:
        """The name of a new, empty database that the user `dapr` owns."""
        name = f"d{next(_NUMBERS)}"
        self.sql(f"CREATE DATABASE {name} OWNER {USER}")
        return name

    def _create(self) -> None:
        binaries = programs()  # first: where it is not installed there is no user of it either
        self.directory.mkdir(parents=True, exist_ok=True)
        password = self.directory / "password"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            for path in (self.directory, password, *(self.certificate or ())):
                os.chown(path, user.pw_uid, user.pw_gid)
        for path in self.certificate[1:] if self.certificate else ():
            path.chmod(0o600)
        initdb = [str(binaries / "initdb"), "-D", str(self.data), "-U", "postgres", "--auth=scram-sha-256",
                  f"--pwfile={password}", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]  # fmt: skip
        made = subprocess.run(self._as_user(initdb), check=False, capture_output=True, text=True, timeout=120)
        assert made.returncode == 0, made.stderr
        # The user is made in single-user mode, so that the first start is the only one.
        roles = subprocess.run(
            self._as_user([str(programs() / "postgres"), "--single", "-D", str(self.data), "postgres"]),
            input=f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'\n",
            check=False, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert roles.returncode == 0, roles.stderr

    def _options(self) -> list[str]:
        values = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on" if self.durable else "off",
            "synchronous_commit": "on" if self.durable else "off",
            "full_page_writes": "on" if self.durable else "off",
            "shared_buffers": "16MB",
            "max_connections": "60",
            "autovacuum": "off",
            **self.settings,
        }
        if self.certificate is not None:
            values |= {"ssl": "on", "ssl_cert_file": str(self.certificate[0]), "ssl_key_file": str(self.certificate[1])}
        return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]

    @staticmethod
    def _as_user(command: list[str]) -> list[str]:
        if os.geteuid() != 0:
            return command
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]

    @staticmethod
    def _signal_all(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Send a signal to the first process and to those that it began; they are no process group."""
        children = _children(process.pid)
        process.send_signal(number)
        children += [pid for pid in _children(process.pid) if pid not in children]
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if number is signal.SIGKILL:
            # While one lives, the data may not be used by another server. Some are not ours to wait for.
            until = time.monotonic() + _START_SECONDS
            while any(_lives(pid) for pid in children) and time.monotonic() < until:
                time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _children(parent: int) -> list[int]:
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(stat.parent.name))
    return found


_NUMBERS = count(1)


def new_directory() -> Path:
    """A directory that the user `postgres` can enter, which pytest's own cannot be."""
    path = Path(tempfile.mkdtemp(prefix="dapr-shared-pg-"))
    path.chmod(0o755)
    return path


@cache
def shared_server() -> PostgresServer:
    """The server of this test process; it ends with the process."""
    server = PostgresServer(new_directory())
    atexit.register(server.remove)
    server.start()
    return server


def accepts(port: int) -> bool:
    """Whether something listens on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def metadata(server: PostgresServer, database: str, **more: Any) -> dict[str, str]:
    """Metadata of a component that uses this database."""
    return {"connectionString": server.url(database), **{name: str(value) for name, value in more.items()}}
