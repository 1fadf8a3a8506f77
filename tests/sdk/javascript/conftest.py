"""The official JavaScript SDK against the real process: programs of Node, each with an app's token."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.instance import Instance, app, component, environment, free_ports, running, token_of
from tests.support.node import node_with_packages
from tests.support.sdk_programs import CallingProgram, ReceivingProgram, receiving

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

HERE = Path(__file__).parent


@dataclass
class World:
    """One instance: `orders` and `stock` only call, `mail` and `callback` are running servers, `late` is not yet started."""

    instance: Instance
    node: str
    ports: dict[str, int]
    stack: ExitStack
    mail: ReceivingProgram = field(init=False)
    """Over HTTP."""
    callback: ReceivingProgram = field(init=False)
    """Over gRPC."""
    _clients: dict[tuple[str, str], CallingProgram] = field(default_factory=dict, init=False)

    def _command(self, name: str, *words: object) -> list[str]:
        return [self.node, str(HERE / name), *map(str, words)]

    def _port(self, protocol: str) -> int:
        return self.instance.grpc_port if protocol == "grpc" else self.instance.http_port

    def start_client(self, protocol: str, token: str) -> CallingProgram:
        """A `client.mjs` with any token: `call` is one call of the SDK's `DaprClient`, such as `state.get`."""
        folder = self.instance.folder
        command = self._command("client.mjs", "127.0.0.1", self._port(protocol), protocol, token)
        return CallingProgram(command, environment(folder), folder / "client.mjs.log")

    def client(self, app_id: str, protocol: str) -> CallingProgram:
        """The client of an app; it lives as long as the instance."""
        found = self._clients.get((app_id, protocol))
        if found is None:
            found = self._clients[app_id, protocol] = self.start_client(protocol, token_of(app_id))
            self.stack.callback(found.close)
        return found

    def server(self, app_id: str, *, run: int = 1, protocol: str = "http") -> AbstractContextManager[ReceivingProgram]:
        """The `server.mjs` of an app for a block of code, started; at its end it must end with 0."""
        folder = self.instance.folder
        words = (self.ports[app_id], "127.0.0.1", self._port(protocol), token_of(app_id), protocol)
        command = self._command("server.mjs", *words)
        return receiving(command, environment(folder), folder / f"{app_id}-{run}.jsonl", folder / "server.mjs.log")


@pytest.fixture(scope="session")
def node() -> str:
    """The command `node`, with the packages of package-lock.json installed beside the programs."""
    return node_with_packages()


@pytest.fixture(scope="package", params=["http2", "aio"])
def world(request, node, tmp_path_factory):
    """The instance on one gRPC engine, with its apps."""
    folder = tmp_path_factory.mktemp(f"javascript-{request.param}")
    (folder / "secrets.json").write_text(json.dumps({"key": "of-orders", "db": {"user": "u", "password": "p"}}))
    ports = dict(zip(("mail", "callback", "late"), free_ports(3), strict=True))
    scopes = [{"storeName": "vault", "defaultAccess": "allow", "deniedSecrets": ["db:password"]}]
    resources = [
        app("orders", secrets={"scopes": scopes}),
        app("stock"),
        app("mail", ports["mail"]),
        app("callback", ports["callback"], protocol="grpc"),
        app("late", ports["late"]),
        component("statestore", "state.sqlite", connectionString=str(folder / "state.db")),
        component("vault", "secretstores.local.file", secretsFile=str(folder / "secrets.json"), scopes=["orders"]),
        component("configstore", "configuration.sqlite", connectionString=str(folder / "configuration.db")),
        component("lockstore", "lock.sqlite", connectionString=str(folder / "locks.db")),
        component("files", "bindings.localstorage", rootPath=str(folder / "files")),
        component("tick", "bindings.cron", schedule="@every 1s", scopes=["mail", "callback"]),
        component("pubsub", "pubsub.sqlite", connectionString=str(folder / "pubsub.db"), redeliverInterval="100ms"),
    ]
    with running(folder, f"--grpc-engine={request.param}", resources=resources) as instance, ExitStack() as stack:
        made = World(instance, node, ports, stack)
        made.mail = stack.enter_context(made.server("mail"))
        made.callback = stack.enter_context(made.server("callback", protocol="grpc"))
        for app_id in ("mail", "callback"):
            instance.wait_for_line("app is reachable", app_id=app_id)
        yield made
