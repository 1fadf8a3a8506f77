"""Start a shared instance and the two apps of this example, say how to use them, end them together.

    python examples/01-two-apps/run.py        (what `make run` does)

Ctrl-C or SIGTERM ends everything, exit code 0. The exit code is 1 if something does not start or the instance dies.
Environment variables, all optional:

    HTTP_PORT GRPC_PORT METRICS_PORT   ports of the instance on 127.0.0.1; 3500, 50001, 9090
    ORDERS_PORT STOCK_PORT             ports of the apps; any free one
    STATE                              where data, tokens and logs are kept; .state in this checkout

Standard library only. Needs dapr_shared in the Python that runs it.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
HOST = "127.0.0.1"
APPS = {"orders": 8001, "stock": 8002}
"""The apps and their ports in apps.yaml."""
START_SECONDS = 30.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.05
FLAGS = {"--dapr-http-port": "HTTP_PORT", "--dapr-grpc-port": "GRPC_PORT", "--metrics-port": "METRICS_PORT"}


class RunError(Exception):
    """The example cannot run; the message says why and what to do."""


class StopRequested(Exception):  # noqa: N818 - no error
    """Ctrl-C, SIGTERM or a terminal that closed."""


@dataclass(frozen=True)
class Ports:
    """The ports of one run."""

    http: int
    grpc: int
    metrics: int
    apps: Mapping[str, int]

    @classmethod
    def from_environment(cls) -> Ports:
        """Read the variables. Raises `RunError` for a value that is no port."""
        free = _free_ports(len(APPS))
        return cls(
            _port("HTTP_PORT", 3500),
            _port("GRPC_PORT", 50001),
            _port("METRICS_PORT", 9090),
            {name: _port(f"{name.upper()}_PORT", free.pop()) for name in APPS},
        )


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise RunError(f"{variable}={text} is not a port: use a number from 1 to 65535")
    return int(text)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


class Signals:
    """Waits for a signal or the end of a child, without polling for either."""

    def __init__(self) -> None:
        self._wake, write = socket.socketpair()
        self._wake.setblocking(False)  # noqa: FBT003 - the name says it
        write.setblocking(False)  # noqa: FBT003
        self._write = write  # kept: its number is given away
        self._stop = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        for number in (*self._stop, signal.SIGCHLD):
            signal.signal(number, lambda received, frame: None)  # noqa: ARG005 - only the wake-up counts
        signal.set_wakeup_fd(write.fileno())

    def wait(self, seconds: float | None) -> None:
        """Return after the time, or when a child has ended. Raises `StopRequested`."""
        readable, _, _ = select.select([self._wake], [], [], seconds)
        if readable and self._stop.intersection(self._wake.recv(1024)):
            raise StopRequested


class Child:
    """A process that this script started."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], logs: Path) -> None:
        """A group of its own: Ctrl-C reaches this script alone, which then ends each child once, in order."""
        self.name = name
        self.log = logs / f"{name}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )
        self.reported = False

    @property
    def exit_code(self) -> int | None:
        """`None` while it runs."""
        return self._process.poll()

    def text(self) -> str:
        """What it has written."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def ask_to_end(self) -> None:
        """Send SIGTERM, if it runs."""
        if self._process.poll() is None:
            self._process.terminate()

    def end(self) -> None:
        """Wait for its end; one that does not come is made."""
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"{self.name} did not end in {STOP_SECONDS:g} s and was killed", file=sys.stderr)
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()


class Example:
    """The instance and the apps of one run."""

    def __init__(self, state: Path, ports: Ports, signals: Signals) -> None:
        self._state = state
        self._ports = ports
        self._signals = signals
        self._tokens = {name: token_of(name, state) for name in APPS}
        self._logs = state / "logs"
        self._logs.mkdir(exist_ok=True)
        self._instance: Child | None = None
        self._apps: list[Child] = []

    def start(self) -> None:
        """Start everything and wait until it is ready. Raises `RunError` or `StopRequested`."""
        # Names of Dapr in the environment of whoever runs this are not meant for this instance and these apps.
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("DAPR_", "APP_"))}
        plain["PYTHONUNBUFFERED"] = "1"
        for name in APPS:
            environment = plain | {
                "APP_PORT": str(self._ports.apps[name]),
                "DAPR_HTTP_ENDPOINT": f"http://{HOST}:{self._ports.http}",
                "DAPR_GRPC_ENDPOINT": f"{HOST}:{self._ports.grpc}",
                "DAPR_API_TOKEN": self._tokens[name],
            }
            self._apps.append(Child(name, [sys.executable, str(HERE / f"{name}.py")], environment, self._logs))
        tokens = {f"{name.upper()}_TOKEN": token for name, token in self._tokens.items()}
        self._instance = Child("instance", self._command(), plain | tokens, self._logs)
        deadline = time.monotonic() + START_SECONDS
        while not self._ready(self._instance):
            if time.monotonic() > deadline:
                raise RunError(f"not ready after {START_SECONDS:g} s; the logs are in {shown(self._logs)}")
            self._signals.wait(POLL_SECONDS)

    def _command(self) -> list[str]:
        text = (HERE / "apps.yaml").read_text(encoding="utf-8")
        for name, port in APPS.items():
            text = text.replace(f"port: {port}", f"port: {self._ports.apps[name]}")
        apps = self._state / "apps.yaml"
        apps.write_text(text, encoding="utf-8")
        return [
            *(sys.executable, "-m", "dapr_shared", "run"),
            *("--apps", str(apps)),
            *("--data-dir", str(self._state / "data")),
            *("--dapr-http-port", str(self._ports.http)),
            *("--dapr-grpc-port", str(self._ports.grpc)),
            *("--metrics-port", str(self._ports.metrics)),
            "--log-as-json",
        ]

    def _ready(self, instance: Child) -> bool:
        """By its own word and not by its port, which another process may hold."""
        if instance.exit_code is not None:
            raise RunError(why_it_ended(instance))
        for app in self._apps:
            if app.exit_code is not None:
                raise RunError(f"the app {app.name} ended with exit code {app.exit_code}:\n{_last_lines(app)}")
        said_so = any(line.get("msg") == "ready" for line in _log_lines(instance))
        return said_so and all(_accepts(port) for port in self._ports.apps.values())

    def watch(self) -> None:
        """Report each app that dies. Raises `RunError` when the instance has, `StopRequested` at the end."""
        assert self._instance is not None  # started before
        while True:
            self._signals.wait(None)
            if self._instance.exit_code is not None:
                raise RunError(why_it_ended(self._instance))
            for app in self._apps:
                if app.exit_code is not None and not app.reported:
                    app.reported = True
                    print(
                        f"\nThe app {app.name} has ended with exit code {app.exit_code}; the instance goes on. "
                        f"Its log: {shown(app.log)}\n{_last_lines(app)}",
                        flush=True,
                    )

    def stop(self) -> None:
        """End the instance, which lets calls in flight finish, then the apps. A second signal ends all at once."""
        instance = [self._instance] if self._instance else []
        for group in (instance, self._apps):
            for child in group:
                child.ask_to_end()
            for child in group:
                child.end()

    def kill(self) -> None:
        """End everything at once."""
        for child in (self._instance, *self._apps):
            if child is not None and child.exit_code is None:
                child.kill()

    def summary(self) -> str:
        """What runs where, and three commands to copy."""
        api = f"http://{HOST}:{self._ports.http}"
        metadata = self._metadata()
        lines = [
            f"dapr-shared {metadata['runtimeVersion']} is ready: one instance, {len(APPS)} apps. Ctrl-C ends it.",
            "",
            f"  HTTP API     {api}",
            f"  gRPC API     {HOST}:{self._ports.grpc}",
            f"  metrics      http://{HOST}:{self._ports.metrics}",
            *(f"  app          {name:<12}http://{HOST}:{port}" for name, port in self._ports.apps.items()),
            *(f"  component    {c['name']:<12}{c['type']}/{c['version']}" for c in metadata["components"]),
            f"  data, logs   {shown(self._state)}",
            "",
            "Place an order; read what orders keeps under the key tea; read what stock keeps under the same key:",
            "",
            (
                f"  curl -H 'dapr-api-token: {self._tokens['orders']}' -H 'content-type: application/json' "
                f'-d \'{{"item":"tea","amount":2}}\' {api}/v1.0/invoke/orders/method/orders'
            ),
            *(
                f"  curl -H 'dapr-api-token: {self._tokens[name]}' {api}/v1.0/state/statestore/tea"
                for name in ("orders", "stock")
            ),
        ]
        return "\n".join(lines)

    def _metadata(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection(HOST, self._ports.http, timeout=START_SECONDS)
        try:
            connection.request("GET", "/v1.0/metadata", headers={"dapr-api-token": self._tokens["orders"]})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


def token_of(name: str, state: Path) -> str:
    """The token of an app, made at the first run and readable by its owner alone."""
    folder = state / "tokens"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / name
    if not file.exists():
        draft = file.with_suffix(".draft")  # renamed when whole: an interrupted first run leaves no empty token
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(16), encoding="ascii")
        draft.replace(file)
    return file.read_text(encoding="ascii")


def why_it_ended(instance: Child) -> str:
    """The instance's own reason, with the make variable beside the flag that it names."""
    problems = [
        str(line.get("problem", line.get("msg"))) for line in _log_lines(instance) if line.get("level") == "fatal"
    ]
    reason = "\n".join(problems) or _last_lines(instance)
    for flag, variable in FLAGS.items():
        if reason.endswith(flag):
            reason += f"\nWith make: make run {variable}=PORT"
    return f"the instance ended with exit code {instance.exit_code}: {reason}\nIts log: {shown(instance.log)}"


def _log_lines(child: Child) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for line in child.text().splitlines():
        with contextlib.suppress(ValueError):  # the line that is being written
            lines.append(json.loads(line))
    return lines


def _last_lines(child: Child) -> str:
    return "\n".join(f"  {line}" for line in child.text().splitlines()[-5:]) or "  (it wrote nothing)"


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def shown(path: Path) -> str:
    """A path as short as it can be written from where the user is."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


@contextlib.contextmanager
def only_one(state: Path) -> Any:
    """Hold the state folder. Raises `RunError` if another run does."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (state / "lock").open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            raise RunError(
                f"{shown(state)} is in use by another run (process {holder}): end that one, or give this one a folder "
                "of its own and other ports: make run STATE=DIR HTTP_PORT=… GRPC_PORT=… METRICS_PORT=…"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def main() -> int:
    """Run until a signal; the exit code."""
    signals = Signals()
    state = Path(os.environ.get("STATE") or CHECKOUT / ".state").absolute()
    try:
        with only_one(state):
            return _run(Example(state, Ports.from_environment(), signals))
    except RunError as error:
        print(f"run: {error}", file=sys.stderr)
        return 1


def _run(example: Example) -> int:
    try:
        example.start()
        print(example.summary(), flush=True)
        example.watch()
    except StopRequested:
        print("\nEnding", flush=True)
    finally:
        signal.signal(signal.SIGINT, _second_signal(example))
        example.stop()
    return 0


def _second_signal(example: Example) -> Any:
    def handler(*_: object) -> None:
        example.kill()
        os._exit(1)

    return handler


if __name__ == "__main__":
    sys.exit(main())
