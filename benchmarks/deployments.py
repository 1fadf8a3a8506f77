"""What is measured, running: one dapr-shared for all apps, or one daprd an app.

Both get the same components, the same apps behind them, metrics switched on and everything on loopback. A dapr-shared
is asked with the caller's token, because on a shared instance identity is proved with each request; a daprd serves one
app only and is asked without.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.processes import (
    LOOPBACK,
    BenchmarkError,
    Process,
    free_ports,
    start,
    status,
    wait_healthy,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path

CALLER, HTTP_APP, GRPC_APP = "caller", "http-app", "grpc-app"
PEER = "daprd"
STORES = ("memory", "sqlite", "redis", "postgresql")
SERVED = {"redis": "redis", "postgresql": "postgresql"}
"""Stores and brokers that need a server, and which."""
KEY = "bench"
KEYS = (KEY, *(f"{KEY}-{number}" for number in range(1, 10)))
"""What a bulk get asks for. All of them have `VALUE`."""
SECRET, SECRET_VALUE = "bench", "eighteen letters.."
"""What the secret store `vault` holds."""
VALUE = b'"eighteen letters.."'
"""A JSON string of 20 bytes: what every state get answers and every save stores."""


@dataclass(frozen=True)
class App:
    """An app of the deployment; port 0: it is not called."""

    app_id: str
    port: int
    protocol: str = "http"

    @property
    def token(self) -> str:
        """The token that proves the app."""
        return f"token-of-{self.app_id}"


@dataclass(frozen=True)
class Deployment:
    """Running processes that serve the caller's Dapr API."""

    name: str
    http_port: int
    grpc_port: int
    headers: tuple[str, ...]
    """Header lines that prove the caller."""
    processes: Mapping[str, Process]
    """By app id; one process may serve all of them."""
    start_seconds: float
    """From the start of the first process until all of them were ready."""

    def serving(self, app_ids: Iterable[str]) -> list[Process]:
        """The processes that take part when these apps do, each once."""
        found = {self.processes[app_id].popen.pid: self.processes[app_id] for app_id in app_ids}
        return list(found.values())


def start_apps(stack: ExitStack, folder: Path, count: int = 0) -> list[App]:
    """Start the apps: a caller that is never called, an HTTP app, a gRPC app and `count` HTTP apps more.

    They are one process, which is not measured.
    """
    grpc_port, *http_ports = free_ports(2 + count)
    command = [sys.executable, "-m", "benchmarks.apps", *map(str, http_ports), "--grpc", str(grpc_port)]
    process = start(stack, folder, "apps", command)
    wait_healthy(process, http_ports[0], "/")
    more = [App(f"app-{number}", port) for number, port in enumerate(http_ports[1:], 1)]
    return [App(CALLER, 0), App(HTTP_APP, http_ports[0]), App(GRPC_APP, grpc_port, "grpc"), *more]


def start_ours(
    stack: ExitStack,
    folder: Path,
    apps: Sequence[App],
    engine: str = "http2",
    *,
    brokers: bool = False,
    resources: str = "",
) -> Deployment:
    """Start one dapr-shared for the apps and wait until it is ready.

    `brokers`: with the components that are published to; `resources`: a YAML document more.
    """
    name = "dapr-shared" if engine == "http2" else f"dapr-shared {engine}"
    folder = _folder(folder, name)
    (folder / "apps.yaml").write_text("---\n".join(map(_app_resource, apps)), encoding="utf-8")
    _write_components(folder, brokers=(_MEMORY_BROKER, _SQLITE_BROKER) if brokers else (), more=resources)
    http_port, grpc_port, metrics_port = free_ports(3)
    command = [sys.executable, "-m", "dapr_shared", "run", "--apps", str(folder / "apps.yaml")]
    command += ["--resources-path", str(folder / "resources"), "--grpc-engine", engine]
    command += ["--dapr-http-port", str(http_port), "--dapr-grpc-port", str(grpc_port)]
    command += ["--metrics-port", str(metrics_port)]
    began = time.perf_counter()
    process = start(stack, folder, "dapr-shared", command)
    wait_healthy(process, http_port)
    seconds = time.perf_counter() - began
    headers = (f"dapr-api-token: {apps[0].token}",)
    processes = {app.app_id: process for app in apps}
    return Deployment(name, http_port, grpc_port, headers, processes, seconds)


def start_peer(
    stack: ExitStack, folder: Path, apps: Sequence[App], binary: str, *, brokers: bool = False, resources: str = ""
) -> Deployment:
    """Start a daprd for each app, all at once, and wait until all are ready; see `start_ours`.

    They find each other through name resolution in an SQLite file, which every flavour with all components has.
    """
    folder = _folder(folder, "daprd")
    _write_components(folder, brokers=(_MEMORY_BROKER,) if brokers else (), more=resources)
    (folder / "config.yaml").write_text(_PEER_CONFIGURATION.format(folder=folder), encoding="utf-8")
    ports = free_ports(4 * len(apps))
    began = time.perf_counter()
    processes: dict[str, Process] = {}
    for number, app in enumerate(apps):
        http_port, grpc_port, internal_port, metrics_port = ports[4 * number : 4 * number + 4]
        command = [binary, "--app-id", app.app_id, "--resources-path", str(folder / "resources")]
        command += ["--config", str(folder / "config.yaml"), "--dapr-listen-addresses", LOOPBACK]
        command += ["--dapr-http-port", str(http_port), "--dapr-grpc-port", str(grpc_port)]
        command += ["--dapr-internal-grpc-port", str(internal_port), "--dapr-internal-grpc-listen-address", LOOPBACK]
        command += ["--metrics-port", str(metrics_port), "--metrics-listen-address", LOOPBACK]
        if app.port:
            command += ["--app-port", str(app.port), "--app-protocol", app.protocol]
        # The address that a daprd registers for its peers must be one that reaches it.
        processes[app.app_id] = start(stack, folder, f"daprd-{app.app_id}", command, DAPR_HOST_IP=LOOPBACK)
    for number, process in enumerate(processes.values()):
        wait_healthy(process, ports[4 * number])
    seconds = time.perf_counter() - began
    return Deployment(PEER, ports[0], ports[1], (), processes, seconds)


def save_value(deployment: Deployment, servers: Collection[str] = ()) -> None:
    """Give `KEYS` their value in every store that there is with these servers. Raises `BenchmarkError`."""
    body = save_body(KEYS)
    for store in STORES:
        if store in SERVED and SERVED[store] not in servers:
            continue
        answer = status(deployment.http_port, "POST", f"/v1.0/state/{store}", body, deployment.headers)
        if answer != 204:
            raise BenchmarkError(f"{deployment.name}: saving to {store} was answered with {answer}")


def save_body(keys: Sequence[str] = (KEY,)) -> bytes:
    """The HTTP body that saves `VALUE` under these keys."""
    return b"[" + b",".join(b'{"key":"' + key.encode() + b'","value":' + VALUE + b"}" for key in keys) + b"]"


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name.replace(" ", "-")
    number = 1
    while folder.exists():
        number += 1
        folder = parent / f"{name.replace(' ', '-')}-{number}"
    (folder / "resources").mkdir(parents=True)
    return folder


def _write_components(folder: Path, *, brokers: Sequence[str] = (), more: str = "") -> None:
    (folder / "secrets.json").write_text(json.dumps({SECRET: SECRET_VALUE}), encoding="utf-8")
    documents = [one.format(folder=folder) for one in (_STORES, *brokers)]
    text = "---\n".join([*documents, *([more] if more else [])])
    (folder / "resources" / "all.yaml").write_text(text, encoding="utf-8")


def _app_resource(app: App) -> str:
    channel = f"  channel: {{protocol: {app.protocol}, address: {LOOPBACK}, port: {app.port}}}\n" if app.port else ""
    return (
        "apiVersion: shared.dapr.io/v1alpha1\n"
        "kind: App\n"
        f"metadata: {{name: {app.app_id}}}\n"
        "spec:\n"
        f"{channel}"
        "  secrets: {scopes: [{storeName: vault, defaultAccess: allow}]}\n"
        f"  tokens: [{{sha256: {hashlib.sha256(app.token.encode()).hexdigest()}}}]\n"
    )


_STORES = """\
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {{name: memory}}
spec: {{type: state.in-memory, version: v1, metadata: []}}
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {{name: sqlite}}
spec:
  type: state.sqlite
  version: v1
  metadata: [{{name: connectionString, value: "{folder}/state.db"}}]
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {{name: vault}}
spec:
  type: secretstores.local.file
  version: v1
  metadata: [{{name: secretsFile, value: "{folder}/secrets.json"}}]
"""

_MEMORY_BROKER = """\
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {{name: bus-memory}}
spec: {{type: pubsub.in-memory, version: v1, metadata: []}}
"""

# daprd has no such component.
_SQLITE_BROKER = """\
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {{name: bus-sqlite}}
spec:
  type: pubsub.sqlite
  version: v1
  metadata: [{{name: connectionString, value: "{folder}/bus.db"}}]
"""

_PEER_CONFIGURATION = """\
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {{name: benchmark}}
spec:
  nameResolution:
    component: sqlite
    version: v1
    configuration: {{connectionString: "{folder}/names.db"}}
"""
