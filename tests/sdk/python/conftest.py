"""The official Python SDK against the real process: one instance, several apps, both gRPC engines."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.support.apps import EchoApp, GrpcEchoApp, echo_app, grpc_echo_app, until
from tests.support.instance import Instance, app, component, free_ports, running, token_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class World:
    """The instance and its apps: `orders` and `stock` speak HTTP, `remote` and `callback` gRPC."""

    instance: Instance
    orders: EchoApp
    stock: EchoApp
    remote: GrpcEchoApp


@contextmanager
def callback_app() -> Iterator[int]:
    """The SDK's own callback server, as an app that is invoked; gives its port."""
    from dapr.ext.grpc import App, InvokeMethodRequest, InvokeMethodResponse

    made = App()

    @made.method("greet")
    def greet(request: InvokeMethodRequest) -> InvokeMethodResponse:
        (caller,) = request.get_metadata(as_dict=True)["dapr-caller-app-id"]
        answer = InvokeMethodResponse(f"hello {caller}: {request.text()}", "text/plain; charset=UTF-8")
        answer.headers = (("app-header", "from-the-app"),)
        return answer

    @made.method("break")
    def broken(_request: InvokeMethodRequest) -> InvokeMethodResponse:
        raise ValueError("broken on purpose")

    port = free_ports(1)[0]
    thread = threading.Thread(target=made.run, args=(port, "127.0.0.1"), name="callback app")
    thread.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(10)
        yield port
    finally:
        made.stop()
        thread.join(10)


@pytest.fixture(scope="package", params=["http2", "aio"])
def world(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"sdk-{request.param}")
    (folder / "secrets.json").write_text(json.dumps({"db": {"user": "u", "password": "p"}, "key": "of-orders"}))
    (folder / "stock.json").write_text(json.dumps({"key": "of-stock"}))
    scopes = [{"storeName": "vault", "defaultAccess": "allow", "deniedSecrets": ["db:password"]}]
    with echo_app() as orders, echo_app() as stock, grpc_echo_app() as remote, callback_app() as callback:
        resources = [
            app("orders", orders.port, secrets={"scopes": scopes}),
            app("stock", stock.port, secrets={"scopes": [{"storeName": "stock-vault", "defaultAccess": "allow"}]}),
            app("remote", remote.port, protocol="grpc"),
            app("callback", callback, protocol="grpc"),
            component("statestore", "state.sqlite", connectionString=str(folder / "state.db")),
            component("memory", "state.in-memory"),
            component("configstore", "configuration.sqlite", connectionString=str(folder / "configuration.db")),
            component("lockstore", "lock.sqlite", connectionString=str(folder / "locks.db")),
            component("files", "bindings.localstorage", rootPath=str(folder / "files")),
            component("stockonly", "state.in-memory", scopes=["stock"]),
            component("vault", "secretstores.local.file", secretsFile=str(folder / "secrets.json")),
            component(
                "stock-vault", "secretstores.local.file", secretsFile=str(folder / "stock.json"), scopes=["stock"]
            ),
        ]
        with running(folder, f"--grpc-engine={request.param}", resources=resources) as instance:
            until(lambda: len([line for line in instance.log() if line["msg"] == "app is reachable"]) == 4)
            yield World(instance, orders, stock, remote)


class Sdk:
    """A `DaprClient`, blocking or asynchronous, called the same way."""

    def __init__(self, *, asynchronous: bool) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        if asynchronous:
            self._loop = asyncio.new_event_loop()
            self._client = self._loop.run_until_complete(self._make())
        else:
            from dapr.clients import DaprClient

            self._client = DaprClient()

    @staticmethod
    async def _make() -> Any:
        from dapr.aio.clients import DaprClient

        return DaprClient()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if self._loop is None:
            return _tidied(method) if name == "invoke_method" and self._client.invocation_client else method
        loop = self._loop
        return lambda *words, **options: loop.run_until_complete(method(*words, **options))

    def close(self) -> None:
        """End the client."""
        if self._loop is None:
            self._client.close()
        else:
            self._loop.run_until_complete(self._client.close())
            self._loop.close()


def _tidied(method: Any) -> Any:
    """The blocking client's HTTP invocation makes an event loop at each call and leaves it behind: it is closed here."""

    def call(*words: Any, **options: Any) -> Any:
        try:
            return method(*words, **options)
        finally:
            asyncio.get_event_loop().close()
            asyncio.set_event_loop(None)

    return call


@pytest.fixture(params=["sync", "async"])
def sdk(request, world, monkeypatch):
    """Makes clients: `sdk("orders")`, `sdk("orders", protocol="grpc")`. The SDK reads its environment at each call."""
    made: list[Sdk] = []

    def make(app_id: str, protocol: str = "http", token: str | None = None) -> Sdk:
        act_as(app_id, protocol, token)
        made.append(Sdk(asynchronous=request.param == "async"))
        return made[-1]

    def act_as(app_id: str, protocol: str = "http", token: str | None = None) -> None:
        monkeypatch.setenv("DAPR_HTTP_ENDPOINT", f"http://{world.instance.http}")
        monkeypatch.setenv("DAPR_GRPC_ENDPOINT", world.instance.grpc)
        monkeypatch.setenv("DAPR_API_TOKEN", token_of(app_id) if token is None else token)
        monkeypatch.setenv("DAPR_API_METHOD_INVOCATION_PROTOCOL", protocol)
        monkeypatch.setenv("DAPR_HEALTH_TIMEOUT", "5")

    make.act_as = act_as
    yield make
    for client in made:
        client.close()
