"""The official Go and Java SDKs against the real process: the programs beside this, built from the SDKs' packages."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.instance import Instance, app, component, environment, free_ports, running, token_of
from tests.support.required import need, need_command
from tests.support.sdk_programs import CallingProgram, ReceivingProgram, receiving

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).parent
_BUILD_PATIENCE = 900.0
"""Seconds: the first build on a machine fetches packages and compiles gRPC."""


def _run(words: list[str], folder: Path, what: str) -> None:
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "CGO_ENABLED": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_BUILD_PATIENCE,
        check=False,
    )
    need(done.returncode == 0, f"{what}:\n{done.stdout}\n{done.stderr}")


@pytest.fixture(scope="session")
def go(tmp_path_factory) -> list[str]:
    """The Go program, built with the pinned modules of go.mod and go.sum."""
    made = tmp_path_factory.mktemp("go") / "program"
    words = [need_command("go", "golang"), "build", "-mod=readonly", "-o", str(made), "."]
    _run(words, HERE / "go", "the Go modules of the SDK")
    return [str(made)]


@pytest.fixture(scope="session")
def java(tmp_path_factory) -> list[str]:
    """The Java program, compiled with the pinned packages of pom.xml."""
    made = tmp_path_factory.mktemp("java")
    java, javac = (need_command(name, "default-jdk-headless") for name in ("java", "javac"))
    listing = made / "classpath"
    words = [need_command("mvn", "maven"), "-q", "-B", "dependency:build-classpath", f"-Dmdep.outputFile={listing}"]
    _run([*words, "-f", str(HERE / "java" / "pom.xml")], made, "the Maven packages of the SDK")
    classpath = f"{listing.read_text().strip()}:{made}"
    _run([javac, "-d", str(made), "-cp", classpath, str(HERE / "java" / "Program.java")], made, "the Java program")
    return [java, "-XX:TieredStopAtLevel=1", "-cp", classpath, "Program"]


@dataclass
class World:
    """One instance: `orders` and `stock` only call, `mail` receives over HTTP, `callback` over gRPC."""

    instance: Instance
    go: list[str]
    client_command: list[str]
    stack: ExitStack
    receivers: dict[str, ReceivingProgram] = field(default_factory=dict)
    _clients: dict[str, CallingProgram] = field(default_factory=dict)

    def environment(self, app_id: str) -> Mapping[str, str]:
        """What a platform gives an app: the endpoints and its token, nothing else."""
        return {
            **environment(self.instance.folder),
            "DAPR_GRPC_ENDPOINT": f"http://127.0.0.1:{self.instance.grpc_port}",
            "DAPR_HTTP_ENDPOINT": f"http://127.0.0.1:{self.instance.http_port}",
            "DAPR_API_TOKEN": token_of(app_id),
        }

    def client(self, app_id: str) -> CallingProgram:
        """The client of an app; it lives as long as the instance."""
        if app_id not in self._clients:
            self._clients[app_id] = self.start_client(self.environment(app_id))
        return self._clients[app_id]

    def start_client(self, environment: Mapping[str, str]) -> CallingProgram:
        """A client in any environment; it lives as long as the instance."""
        made = CallingProgram(self.client_command, environment, self.instance.folder / "client.log")
        self.stack.callback(made.close)
        return made

    def receive(self, app_id: str, protocol: str, port: int) -> ReceivingProgram:
        """Start the receiver of an app."""
        folder = self.instance.folder
        command = [*self.go, "serve", protocol, str(port)]
        output, log = folder / f"{app_id}.jsonl", folder / f"{app_id}.log"
        made = self.stack.enter_context(receiving(command, self.environment(app_id), output, log))
        self.receivers[app_id] = made
        return made


@pytest.fixture(scope="package", params=["go-http2", "go-aio", "java-http2", "java-aio"])
def world(request, go, tmp_path_factory):
    """The instance on one gRPC engine, with its apps; the clients are of one SDK, the services of Go's."""
    language, engine = request.param.split("-")
    client_command = request.getfixturevalue("java") if language == "java" else [*go, "client"]
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "secrets.json").write_text(json.dumps({"key": "of-orders", "hidden": "h"}))
    ports = dict(zip(("mail", "callback"), free_ports(2), strict=True))
    scopes = [{"storeName": "vault", "defaultAccess": "allow", "deniedSecrets": ["hidden"]}]
    resources = [
        app("orders", secrets={"scopes": scopes}),
        app("stock"),
        app("mail", ports["mail"]),
        app("callback", ports["callback"], protocol="grpc"),
        component("statestore", "state.sqlite", connectionString=str(folder / "state.db")),
        component("vault", "secretstores.local.file", secretsFile=str(folder / "secrets.json"), scopes=["orders"]),
        component("pubsub", "pubsub.sqlite", connectionString=str(folder / "pubsub.db"), redeliverInterval="100ms"),
        component("lockstore", "lock.sqlite", connectionString=str(folder / "lock.db")),
        component("configstore", "configuration.sqlite", connectionString=str(folder / "configuration.db")),
        component("files", "bindings.localstorage", rootPath=str(folder / "files")),
        component("ticks", "bindings.cron", schedule="@every 1s", scopes=["mail", "callback"]),
    ]
    with running(folder, f"--grpc-engine={engine}", resources=resources) as instance, ExitStack() as stack:
        made = World(instance, go, client_command, stack)
        for app_id, port in ports.items():
            made.receive(app_id, "grpc" if app_id == "callback" else "http", port)
            instance.wait_for_line("app is reachable", app_id=app_id)
        yield made


@pytest.fixture
def orders(world) -> CallingProgram:
    return world.client("orders")


@pytest.fixture
def stock(world) -> CallingProgram:
    return world.client("stock")


@pytest.fixture(params=["mail", "callback"])
def receiver(request, world) -> tuple[str, ReceivingProgram]:
    """The SDK's service that receives, over HTTP and over gRPC, with its app id."""
    return request.param, world.receivers[request.param]


@pytest.fixture
def mark(request) -> str:
    """A text that is this test's alone."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
