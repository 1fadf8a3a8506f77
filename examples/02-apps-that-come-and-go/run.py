"""Start a shared instance and the apps `order` and `stock`, but not `mail`; say how to go on; end them together.

    python examples/02-apps-that-come-and-go/run.py

Ctrl-C or SIGTERM ends everything, exit code 0. The exit code is 1 if something does not start or the instance dies.
Environment variables, all optional:

    HTTP_PORT GRPC_PORT METRICS_PORT   ports of the instance on 127.0.0.1; 3500, 50001, 9090
    ORDER_PORT STOCK_PORT MAIL_PORT    ports of the apps; any free one
    STATE                              where data, tokens and logs are kept; .state/02 in this checkout

Standard library only. Needs dapr_shared in the Python that runs it.
"""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
HOST = "127.0.0.1"
APPS = {"order": 8001, "stock": 8002, "mail": 8003}
"""The apps and their ports in apps.yaml."""
STARTED = ("order", "stock")
START_SECONDS = 30.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.1


class RunError(Exception):
    """The example cannot run; the message says why."""


def port(variable: str, default: int) -> int:
    """The port that a variable names; the default, 0 standing for any free port, when it is empty."""
    text = os.environ.get(variable) or str(default)
    if not text.isdigit() or int(text) > 65535:
        raise RunError(f"{variable}={text} is not a port: use a number from 1 to 65535")
    if int(text):
        return int(text)
    with socket.create_server((HOST, 0)) as probe:
        return probe.getsockname()[1]


def token_of(name: str, state: Path) -> str:
    """The token of an app, made at the first run and readable by its owner alone."""
    file = state / "tokens" / name
    file.parent.mkdir(mode=0o700, exist_ok=True)
    if not file.exists():
        draft = file.with_suffix(".draft")  # renamed when whole: an interrupted first run leaves no empty token
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(16), encoding="ascii")
        draft.replace(file)
    return file.read_text(encoding="ascii")


class Example:
    """The processes of one run."""

    def __init__(self, state: Path) -> None:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.state = state
        self.http = port("HTTP_PORT", 3500)
        self.grpc = port("GRPC_PORT", 50001)
        self.metrics = port("METRICS_PORT", 9090)
        self.ports = {name: port(f"{name.upper()}_PORT", 0) for name in APPS}
        self.tokens = {name: token_of(name, state) for name in APPS}
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def environment_of(self, name: str) -> dict[str, str]:
        """What an app is told. `DAPR_HTTP_ENDPOINT` and `DAPR_API_TOKEN` are what Dapr's SDKs read too."""
        return {
            "APP_PORT": str(self.ports[name]),
            "DAPR_HTTP_ENDPOINT": f"http://{HOST}:{self.http}",
            "DAPR_API_TOKEN": self.tokens[name],
        }

    def start(self) -> None:
        """Start everything but `mail`, and wait until it is ready. Raises `RunError`."""
        apps = (HERE / "apps.yaml").read_text(encoding="utf-8")
        for name, number in APPS.items():
            apps = apps.replace(f"port: {number}", f"port: {self.ports[name]}")
        (self.state / "apps.yaml").write_text(apps, encoding="utf-8")
        for name in APPS:
            file = self._file_of(name)
            file.touch(mode=0o600)  # it has the token
            lines = [f"{key}={value}\n" for key, value in self.environment_of(name).items()]
            file.write_text("".join(lines), encoding="utf-8")
        tokens = {f"{name.upper()}_TOKEN": token for name, token in self.tokens.items()}
        command = ["-m", "dapr_shared", "run", "--apps", str(self.state / "apps.yaml")]
        command += ["--data-dir", str(self.state / "data"), "--metrics-port", str(self.metrics)]
        command += ["--dapr-http-port", str(self.http), "--dapr-grpc-port", str(self.grpc)]
        self._start("instance", command, tokens)
        for name in STARTED:
            self._start(name, [str(HERE / f"{name}.py")], self.environment_of(name))
        deadline = time.monotonic() + START_SECONDS
        while not (self._healthy() and all(accepts(self.ports[name]) for name in STARTED)):
            self.check()
            if time.monotonic() > deadline:
                raise RunError(f"not ready after {START_SECONDS:g} s; the logs are in {shown(self.state)}")
            time.sleep(POLL_SECONDS)
        self.check()

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        # Names of Dapr in the environment of whoever runs this are not meant for these processes.
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("DAPR_", "APP_"))}
        with self._log(name).open("wb") as log:
            self._children[name] = subprocess.Popen(
                [sys.executable, *command],
                env=plain | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C reaches this script alone, which then ends each child once
            )

    def check(self) -> None:
        """Raises `RunError` when a process has ended."""
        for name, child in self._children.items():
            if child.poll() is not None:
                last = self._log(name).read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
                raise RunError("\n".join([f"{name} ended with exit code {child.returncode}:", *last]))

    def watch(self) -> None:
        """Report each app that ends: apps may. Raises `RunError` when the instance has ended."""
        while True:
            time.sleep(POLL_SECONDS)
            for name in [name for name in STARTED if name in self._children]:
                if self._children[name].poll() is not None:
                    del self._children[name]
                    print(
                        f"\n{name} has ended; the instance goes on. Start it again:\n  {self._again(name)}", flush=True
                    )
            self.check()

    def _again(self, name: str) -> str:
        """The command that starts an app in another terminal."""
        words = shlex.join([shown(Path(sys.executable)), shown(HERE / f"{name}.py")])
        return f"env $(cat {shlex.quote(shown(self._file_of(name)))}) {words}"

    def _file_of(self, name: str) -> Path:
        return self.state / f"{name}.env"

    def stop(self) -> None:
        """End the instance, which lets deliveries in flight finish, then the apps."""
        for child in self._children.values():
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()

    def _healthy(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(
            f"http://{HOST}:{self.http}/v1.0/metadata", headers={"dapr-api-token": self.tokens["order"]}
        )
        try:
            with opener.open(request, timeout=1):
                return True
        except OSError:  # not there yet, or somebody else's port: then ours has ended and says so
            return False

    def _log(self, name: str) -> Path:
        return self.state / f"{name}.log"

    def summary(self) -> str:
        """What runs, and the commands of the story."""
        api = f"http://{HOST}:{self.http}"
        order = shlex.quote('{"item":"tea","amount":2,"to":"ann@example.org"}')
        return "\n".join(
            [
                f"One instance ({api}) and the apps {' and '.join(STARTED)} are ready; mail is not started. Ctrl-C ends it.",
                "",
                "Place an order, as often as you like:",
                (
                    f"  curl -H 'dapr-api-token: {self.tokens['order']}' -H 'content-type: application/json' "
                    f"-d {order} {api}/v1.0/invoke/order/method/orders"
                ),
                "Start mail in another terminal (Ctrl-C ends it), also again and again:",
                f"  {self._again('mail')}",
                "See what the instance keeps for mail while it is away (after its first start):",
                f"  curl -H 'dapr-api-token: {self.tokens['mail']}' {api}/v1.0/metadata",
            ]
        )


def accepts(number: int) -> bool:
    """Whether somebody listens on a port."""
    try:
        socket.create_connection((HOST, number), timeout=1).close()
    except OSError:
        return False
    return True


def shown(path: Path) -> str:
    """A path as short as it can be written from where the user is."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def main() -> int:
    """Run until a signal; the exit code."""
    stop = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    for number in stop:
        signal.signal(number, signal.default_int_handler)
    example: Example | None = None
    try:
        example = Example(Path(os.environ.get("STATE") or CHECKOUT / ".state" / "02").absolute())
        example.start()
        print(example.summary(), flush=True)
        example.watch()
    except KeyboardInterrupt:
        print("\nEnding", flush=True)
        return 0
    except RunError as error:
        print(f"run: {error}", file=sys.stderr)
        return 1
    finally:
        for number in stop:  # a second signal does not interrupt the end, which is bounded
            signal.signal(number, signal.SIG_IGN)
        if example is not None:
            example.stop()


if __name__ == "__main__":
    sys.exit(main())
