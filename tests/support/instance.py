"""The real process in tests: started from resources, watched by its log and metrics, ended by its id."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.calls import Answer, ask
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PATIENCE = 20.0
"""Seconds after which a process that does not start or end has failed the test."""
_POLL = 0.01
_TRIES = 3


def token_of(app_id: str) -> str:
    """The API token that `app` gives to an app."""
    return f"{app_id}-token-3f9a"


def digest_of(app_id: str) -> str:
    """The SHA-256 of that token."""
    return hashlib.sha256(token_of(app_id).encode()).hexdigest()


def app(app_id: str, port: int | None = None, *, protocol: str = "http", namespace: str = "", **spec: Any) -> dict:
    """An App resource that its token proves; `port` is where the app listens on loopback."""
    made: dict[str, Any] = {"appId": app_id, "tokens": [{"sha256": digest_of(app_id)}], **spec}
    if port is not None:
        made["channel"] = {"protocol": protocol, "port": port, **made.get("channel", {})}
    name = app_id.lower().replace("_", "-")
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "shared.dapr.io/v1alpha1", "kind": "App", "metadata": metadata, "spec": made}


def component(
    name: str, kind: str, *, namespace: str = "", scopes: Sequence[str] = (), spec: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> dict:  # fmt: skip
    """A Component resource; `metadata` are its settings."""
    made: dict[str, Any] = {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        "spec": {
            "type": kind,
            "version": "v1",
            "metadata": [{"name": key, "value": value} for key, value in metadata.items()],
            **(spec or {}),
        },
    }
    if scopes:
        made["scopes"] = list(scopes)
    return made


def write_resources(path: Path, resources: Sequence[Mapping[str, Any]]) -> None:
    """Write a resource file; a watcher sees the old or the new one, never half of it."""
    draft = path.with_name(path.name + ".draft")
    draft.write_text(yaml.safe_dump_all(list(resources)), encoding="utf-8")
    draft.replace(path)


class StartError(AssertionError):
    """The process ended instead of starting; `code` and `log` say how."""

    def __init__(self, code: int, log: str) -> None:
        super().__init__(f"ended with {code} instead of starting:\n{log}")
        self.code = code
        self.log = log


@dataclass
class Instance:
    """One running process."""

    process: subprocess.Popen[bytes]
    folder: Path
    http_port: int
    grpc_port: int
    metrics_port: int
    public_port: int
    defects_expected: bool = False
    stopped: bool = field(default=False, init=False)

    @property
    def http(self) -> str:
        """`host:port` of the HTTP API."""
        return f"127.0.0.1:{self.http_port}"

    @property
    def grpc(self) -> str:
        """`host:port` of the gRPC API."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def metrics_address(self) -> str:
        """`host:port` of the metrics."""
        return f"127.0.0.1:{self.metrics_port}"

    @property
    def public(self) -> str:
        """`host:port` of the public port."""
        return f"127.0.0.1:{self.public_port}"

    def ask(self, method: str, target: str, body: bytes | None = None, **options: Any) -> Answer:
        """One HTTP request; `app=` is whose token it carries (see `tests.support.calls.ask`)."""
        whose = options.pop("app", None)
        if whose is not None:
            options["headers"] = [("dapr-api-token", token_of(whose)), *options.get("headers", ())]
        return ask(options.pop("address", self.http), method, target, body, **options)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels. (The parser gives every counter the end `_total`.)."""
        text = ask(self.metrics_address, "GET", "/metrics").body.decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name in (name, f"{name}_total") and labels.items() <= sample.labels.items()
        )

    def refused(self, reason: str) -> float:
        """How many requests were refused for this reason."""
        return self.metric("dapr_shared_identity_refused_total", reason=reason)

    def memory(self) -> int:
        """Resident bytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the process has no memory: it has ended")

    def output(self) -> str:
        """Everything that it has written."""
        return (self.folder / "instance.log").read_text(errors="replace")

    def log(self) -> list[dict[str, Any]]:
        """The lines of its JSON log."""
        return [json.loads(line) for line in self.output().splitlines() if line.startswith("{")]

    def wait_for_line(self, message: str, *, after: int = 0, **fields: Any) -> dict[str, Any]:
        """Wait for a log line, not among the first `after` ones."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for line in self.log()[after:]:
                if line["msg"] == message and fields.items() <= line.items():
                    return line
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"no line {message!r} {fields} in the log:\n{self.output()}")
            time.sleep(_POLL)

    def signal(self, number: Signals) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(seconds)
        self.stopped = True
        return code

    def stop(self, number: Signals = Signals.SIGTERM) -> int:
        """End it by a signal; the exit code."""
        if self.process.poll() is None:
            self.signal(number)
        return self.wait()

    def close(self) -> None:
        """The end of a test: stop it if it runs, and hold it to a clean end."""
        if self.process.poll() is None:
            try:
                code = self.stop()
            except subprocess.TimeoutExpired as error:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"did not end after SIGTERM:\n{self.output()}") from error
            assert code == 0, f"exit code {code}:\n{self.output()}"
        elif not self.stopped:
            raise AssertionError(f"ended by itself with {self.process.returncode}:\n{self.output()}")
        if not self.defects_expected:
            defects = [line for line in self.log() if line["msg"] == "defect"]
            assert not defects, f"defects in the log: {defects}"
            assert "Traceback" not in self.output(), self.output()


def environment(folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A small environment of its own for a process: nothing of the test's leaks into it."""
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "LANG": "C.UTF-8",
        **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},  # the same code as the test's
        **(extra or {}),
    }


def command(*words: str, entry: str = "dapr-shared") -> list[str]:
    """The command line of `dapr-shared` or `daprd`, run by this Python."""
    if entry == "daprd":
        return [sys.executable, "-c", "import sys; from dapr_shared.cli.daprd import main; sys.exit(main())", *words]
    return [sys.executable, "-m", "dapr_shared", *words]


def start(
    folder: Path,
    *flags: str,
    resources: Sequence[Mapping[str, Any]] | None = None,
    env: Mapping[str, str] | None = None,
    app_id: str = "",
    entry: str = "dapr-shared",
    ready: str = "/v1.0/healthz/outbound",
    patience: float = PATIENCE,
) -> Instance:
    """Start the process and wait until it is ready: at most `patience` seconds, and not at all with an empty `ready`.

    `resources` are written to `folder/resources/all.yaml` and given with `--apps`, or with `--resources-path` when
    `app_id` starts it for one app. Raises `StartError` when it ends instead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    where = folder / "resources"
    if resources is not None:
        where.mkdir(exist_ok=True)
        write_resources(where / "all.yaml", resources)
    for attempt in range(_TRIES):
        http_port, grpc_port, metrics_port, public_port = free_ports(4)
        words = [
            *(["run"] if entry == "dapr-shared" else ["--dapr-listen-addresses=127.0.0.1"]),
            f"--dapr-http-port={http_port}",
            f"--dapr-grpc-port={grpc_port}",
            f"--metrics-port={metrics_port}",
            "--metrics-listen-address=127.0.0.1",
            f"--dapr-public-port={public_port}",
            "--dapr-public-listen-address=127.0.0.1",
            "--log-as-json",
            *(["--app-id", app_id] if app_id else []),
            *(["--resources-path" if app_id else "--apps", str(where)] if resources is not None else []),
            *flags,
        ]
        with (folder / "instance.log").open("wb") as log:
            process = subprocess.Popen(
                command(*words, entry=entry),
                cwd=folder,
                env=environment(folder, env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        made = Instance(process, folder, http_port, grpc_port, metrics_port, public_port)
        try:
            if ready:
                _wait_until_ready(made, ready, patience)
        except StartError as error:
            if "is taken" in error.log and attempt + 1 < _TRIES:
                continue  # somebody was given the port between our look and the start
            raise
        except BaseException:
            process.kill()
            process.wait()
            raise
        return made
    raise AssertionError("not reached")


def _wait_until_ready(instance: Instance, ready: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        if instance.process.poll() is not None:
            raise StartError(instance.process.returncode, instance.output())
        try:
            # Its own port would do as well, but a Unix socket in place of ports leaves only this one.
            if ask(instance.public, "GET", ready).status == 204:
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"not ready in time:\n{instance.output()}")
        time.sleep(_POLL)


@contextmanager
def running(folder: Path, *flags: str, **options: Any) -> Iterator[Instance]:
    """`start` for a block of code; at its end the process must end with 0 and have no defect in its log."""
    made = start(folder, *flags, **options)
    try:
        yield made
    except BaseException:
        if made.process.poll() is None:
            made.process.kill()
        made.process.wait()
        raise
    made.close()


def run_to_end(
    folder: Path,
    *words: str,
    env: Mapping[str, str] | None = None,
    entry: str = "dapr-shared",
    seconds: float = PATIENCE,
) -> tuple[int, str]:
    """Run a command that is to end by itself; its exit code and everything that it wrote."""
    done = subprocess.run(
        command(*words, entry=entry),
        cwd=folder,
        env=environment(folder, env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace")
